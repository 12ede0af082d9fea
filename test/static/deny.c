/*
 * usage: deny WHAT COMMAND [ARGUMENT...]      runs a command to which the kernel denies something
 *   write-execute   memory that is or becomes executable, as systemd's MemoryDenyWriteExecute= does it: by a filter
 *   gain-execute    the same as the kernel does it itself since Linux 6.3 (PR_SET_MDWE)
 *   threads         clone() and clone3(), as pids.max of a full cgroup does
 *   namespaces      setns(), as systemd's RestrictNamespaces= does
 *   netlink         sockets of AF_NETLINK, as RestrictAddressFamilies= does that does not name it
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IS(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, value)

static struct sock_filter write_execute[] = {
	LOAD(nr), IS(SYS_mmap, 0, 4),
	LOAD(args[2]), BPF_STMT(BPF_ALU | BPF_AND | BPF_K, PROT_WRITE | PROT_EXEC), IS(PROT_WRITE | PROT_EXEC, 5, 0), ANSWER(SECCOMP_RET_ALLOW),
	IS(SYS_mprotect, 0, 4),
	LOAD(args[2]), BPF_STMT(BPF_ALU | BPF_AND | BPF_K, PROT_EXEC), IS(PROT_EXEC, 0, 1), ANSWER(SECCOMP_RET_ERRNO | EPERM), ANSWER(SECCOMP_RET_ALLOW),
};
static struct sock_filter threads[] = {
	LOAD(nr), IS(SYS_clone, 2, 0), IS(SYS_clone3, 1, 0), ANSWER(SECCOMP_RET_ALLOW), ANSWER(SECCOMP_RET_ERRNO | EAGAIN),
};

static struct sock_filter namespaces[] = {
	LOAD(nr), IS(SYS_setns, 0, 1), ANSWER(SECCOMP_RET_ERRNO | EPERM), ANSWER(SECCOMP_RET_ALLOW),
};
static struct sock_filter netlink[] = {
	LOAD(nr), IS(SYS_socket, 0, 3),
	LOAD(args[0]), IS(AF_NETLINK, 0, 1), ANSWER(SECCOMP_RET_ERRNO | EAFNOSUPPORT), ANSWER(SECCOMP_RET_ALLOW),
};

static int filter(struct sock_filter *steps, size_t count)
{
	struct sock_fprog program = { count, steps };
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int count, char **words)
{
	int failed = 1;
	if (count < 3) return 2;
	if (!strcmp(words[1], "write-execute")) failed = filter(write_execute, sizeof write_execute / sizeof *write_execute);
	if (!strcmp(words[1], "threads")) failed = filter(threads, sizeof threads / sizeof *threads);
	if (!strcmp(words[1], "namespaces")) failed = filter(namespaces, sizeof namespaces / sizeof *namespaces);
	if (!strcmp(words[1], "netlink")) failed = filter(netlink, sizeof netlink / sizeof *netlink);
	if (!strcmp(words[1], "gain-execute")) failed = prctl(65, 1, 0, 0, 0); /* PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN */
	if (!failed) execv(words[2], words + 2);
	perror(words[1]);
	return 1;
}
