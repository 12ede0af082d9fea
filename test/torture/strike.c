/*
 * usage: strike N WORKER worker|caller|PATH COMMAND [ARGUMENT...]
 * Starts a command that asks the warm service, whose only worker is WORKER. When the worker, from taking the connection on, makes its Nth
 * system call, it kills the worker or the command, or takes away the namespace that is kept at PATH. Ends with the command; the last
 * line on standard error says "struck N", or "over N": the worker waits for the next connection after N calls, and nothing happened.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#define SYSTEM_CALL (SIGTRAP | 0x80)

static int is_accept(unsigned long number)
{
#ifdef SYS_accept
	if (number == SYS_accept) return 1;
#endif
	return number == SYS_accept4;
}

static int is_wait(unsigned long number)
{
#ifdef SYS_epoll_wait
	if (number == SYS_epoll_wait) return 1;
#endif
	return number == SYS_epoll_pwait;
}

static pid_t started(char **words)
{
	pid_t process = fork();
	if (process == 0) {
		execv(words[0], words);
		_exit(127);
	}
	return process;
}

static void strike(const char *whom, pid_t worker, pid_t command)
{
	if (*whom == '/') umount2(whom, MNT_DETACH), unlink(whom);
	else kill(strcmp(whom, "worker") ? command : worker, SIGKILL);
}

struct system_call { int begins; unsigned long number; long result, first; };

static struct system_call system_call_of(pid_t process)
{
#ifdef __x86_64__ /* by registers: user-mode Linux knows no PTRACE_GET_SYSCALL_INFO */
	struct user_regs_struct registers;
	ptrace(PTRACE_GETREGS, process, 0, &registers);
	return (struct system_call){ (long)registers.rax == -ENOSYS, registers.orig_rax, registers.rax, registers.rdi };
#else
	static unsigned long last;
	static long first;
	struct __ptrace_syscall_info info;
	ptrace(PTRACE_GET_SYSCALL_INFO, process, sizeof info, &info);
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY) last = info.entry.nr, first = info.entry.args[0];
	return (struct system_call){ info.op == PTRACE_SYSCALL_INFO_ENTRY, last, info.exit.rval, first };
#endif
}

/* A system call of the worker begins or ends; answers whether it begins one of those that count, and sets over when it waits again. */
static int counts(pid_t worker, int *taken, int *over)
{
	static long place = -1; /* where the worker waits for connections; Bun waits at another, for its own affairs */
	struct system_call call = system_call_of(worker);
	if (!call.begins) {
		*taken |= is_accept(call.number) && call.result > 0;
		return 0;
	}
	if (is_wait(call.number) && !*taken) place = call.first;
	if (is_wait(call.number) && *taken && call.first == place) *over = 1;
	return *taken && !*over;
}

int main(int count, char **words)
{
	if (count < 5) return 2;
	long point = atol(words[1]), calls = 0;
	pid_t worker = atoi(words[2]), command = 0;
	int state, taken = 0, over = 0, struck = 0, status = -1;
	if (ptrace(PTRACE_SEIZE, worker, 0, PTRACE_O_TRACESYSGOOD) || ptrace(PTRACE_INTERRUPT, worker, 0, 0)) return perror("strike"), 2;
	while (!(over || struck) || status < 0) {
		pid_t process = waitpid(-1, &state, __WALL);
		if (process < 0) return perror("strike"), 2;
		if (process == command) {
			status = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
			over |= !taken; /* it has done the call itself */
			continue;
		}
		if (!WIFSTOPPED(state)) { /* the worker has ended */
			over |= !struck;
			continue;
		}
		int deliver = 0;
		if (WSTOPSIG(state) == SYSTEM_CALL) {
			if (counts(worker, &taken, &over) && !struck && !over && ++calls == point) {
				struck = 1;
				strike(words[3], worker, command);
			}
		} else if (state >> 16 == 0) deliver = WSTOPSIG(state); /* JavaScriptCore stops its threads by signals */
		ptrace(PTRACE_SYSCALL, worker, 0, deliver);
		if (!command) command = started(words + 4);
	}
	fprintf(stderr, "%s %ld\n", struck ? "struck" : "over", calls);
	return status;
}
