/*
 * Before anything of Bun or of the C library exists: asks a running service of the same executable (catena serve) to do this call,
 * which then costs neither Bun's start nor code that is run for the first time. Ends the process when the service has done it; returns
 * when it is to be done here, as ever. Until the service has taken the call nothing of ours was touched or handed over: whatever is
 * unexpected up to there means "here", at once or after 100 ms.
 *
 *   -> version, umask, the name that we were called by, the environment; who we are, the service asks the kernel
 *   <- 'A': it takes the call; end of file: it does not
 *   -> 'G', with descriptors 0, 1 and 2
 *   <- the exit status, one byte, when all output has been written; end of file: it died over the call
 *
 * Whoever kills us closes the connection by that, and the service stops what it does for us.
 */
#include "early.h"
#include <stdint.h>
#include <poll.h>
#include <time.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#define VERSION 1                /* of the messages; a service of another one closes the connection */
#define LARGEST_HELLO (128 << 10) /* whose environment is larger has his reasons, and a process of his own */
#define PATIENCE 100000000       /* nanoseconds */
#define TAKEN 'A'
#define GO "G"

static const struct sockaddr_un place = { AF_UNIX, "/run/catena/warm.sock" };

/* By the real user and the effective one, and not by a file with set-user-ID: whom the service acts for can do as much by himself. */
static int is_root(size_t *auxv)
{
	size_t *user = entry_of(auxv, AT_UID), *effective = entry_of(auxv, AT_EUID), *secure = entry_of(auxv, AT_SECURE);
	return user && effective && secure && !*user && !*effective && !*secure;
}

/* CATENA_WARM=off, and =nested, by which the service tells what it starts in turn: that would wait for its own caller's end. */
static int is_switched_off(char **env)
{
	const char *value = variable(env, "CATENA_WARM=");
	return value && *value && !(value[0] == 'o' && value[1] == 'n' && !value[2]);
}

/* The size of all variables' text, which the kernel has laid side by side; 0 where it is not so. */
static size_t size_of(char **env)
{
	const char *first = *env, *at = first;
	for (; *env == at && at; env++) at += length_of(at) + 1;
	return *env ? 0 : at - first;
}

static const char *base_of(const char *path)
{
	const char *base = path;
	for (; *path; path++) if (*path == '/') base = path + 1;
	return base;
}

static long send_message(int service, struct msghdr message)
{
	return __syscall(SYS_sendmsg, service, &message, MSG_NOSIGNAL);
}

/* One packet: its length, 0 when the other end is closed, below 0 when none has come in time or something fails. */
static long receive(int service, unsigned char packet[2], struct timespec *patience)
{
	struct pollfd pending = { .fd = service, .events = POLLIN };
	long ready;
	do ready = __syscall(SYS_ppoll, &pending, 1, patience, 0, 0); /* an interrupted one leaves the rest of the patience */
	while (ready == -EINTR);
	if (ready != 1) return ready < 0 ? ready : -ETIMEDOUT;
	return __syscall(SYS_recvfrom, service, packet, 2, 0, 0, 0); /* two bytes are one too many */
}

/* A connection to the service, or below 0. It does not wait: where the queue is full, connect says EAGAIN. */
static long connected(void)
{
	long service = __syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (service < 0) return service;
	/* one of the first three descriptors was closed: there are not three to hand over */
	if (service > 2 && !__syscall(SYS_connect, service, &place, sizeof place)) return service;
	__syscall(SYS_close, service);
	return -1;
}

/* Root's service, and alive. The listener is process 1 where systemd holds the socket of one that has ended, or not begun: by our
   connection it starts, and serves the next call. 0 is a process that our namespace does not see. */
static int is_trusted(int service)
{
	struct ucred peer;
	socklen_t size = sizeof peer;
	if (__syscall(SYS_getsockopt, service, SOL_SOCKET, SO_PEERCRED, &peer, &size)) return 0;
	return peer.uid == 0 && peer.pid > 1 && !__syscall(SYS_kill, peer.pid, 0);
}

static int introduce(int service, struct iovec name, struct iovec variables)
{
	uint32_t hello[] = { VERSION, __syscall(SYS_umask, 077) };
	__syscall(SYS_umask, hello[1]);
	struct iovec parts[] = { { hello, sizeof hello }, name, variables };
	return send_message(service, (struct msghdr){ .msg_iov = parts, .msg_iovlen = 3 }) > 0;
}

static int is_taken(int service)
{
	struct timespec patience = { .tv_nsec = PATIENCE };
	unsigned char answer[2];
	return receive(service, answer, &patience) == 1 && *answer == TAKEN;
}

static int hand_over(int service)
{
	struct { struct cmsghdr header; int descriptors[4]; } rights = {
		{ .cmsg_len = CMSG_LEN(3 * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS }, { 0, 1, 2 } };
	struct iovec go = { GO, 1 };
	struct msghdr message = { .msg_iov = &go, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof rights };
	return send_message(service, message) > 0;
}

/* From here on the call cannot be done here any more: standard input has been read, and it may be half done. */
static void end_as_told(int service)
{
	unsigned char status[2];
	long length;
	do length = receive(service, status, 0);
	while (length == -EINTR || length == -EAGAIN);
	if (length == 1) __syscall(SYS_exit_group, *status);
	print(1, "{\n  \"cniVersion\": \"1.0.0\",\n  \"code\": 11,\n  \"msg\": \"the service ended before this call did\",\n"
		"  \"details\": \"the call may be half done, as that of a plugin that was killed: delete, then add again\"\n}\n");
	__syscall(SYS_exit_group, 1);
}

hidden void __ask_the_service(const char *path, char **env, size_t *auxv)
{
	if (!variable(env, "CNI_COMMAND=") || is_switched_off(env) || !is_root(auxv)) return;
	if (__syscall(SYS_faccessat, AT_FDCWD, place.sun_path, F_OK)) return; /* where there is no service, this is all that is done */
	struct iovec name = { (void *)base_of(path), length_of(base_of(path)) + 1 }, variables = { *env, size_of(env) };
	if (!variables.iov_len || sizeof(uint32_t[2]) + name.iov_len + variables.iov_len > LARGEST_HELLO) return;
	long service = connected();
	if (service < 0) return;
	if (is_trusted(service) && introduce(service, name, variables) && is_taken(service) && hand_over(service)) end_as_told(service);
	__syscall(SYS_close, service);
}
