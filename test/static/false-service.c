/*
 * usage: false-service STEP...      a warm service that is none: does with every connection what its words say, and prints what it sees
 *   first of all:  user N      listens as another user (but accepts as root)
 *                  queue N     so many connections may wait; 16 unless said
 *                  leave       whoever listened has ended; another process accepts
 *                  deaf        accepts no call
 *                  full        neither, and no caller can wait any more
 *   then:  hello          receives the greeting, prints its parts
 *          say TEXT       sends a packet
 *          go             receives a packet, prints it and how many descriptors came with it
 *          peek           waits for a packet, and leaves it where it is
 *          read           prints what the caller's standard input holds
 *          print TEXT     writes to the caller's standard output;  complain TEXT to its standard error
 *          status N       sends one byte
 *          gone           waits until the caller has closed the connection, prints whether that was so
 *          die            ends, by SIGKILL
 * The connection is closed behind the last word.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <unistd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static const struct sockaddr_un place = { AF_UNIX, "/run/catena/warm.sock" };
static int is(const char *word, const char *step) { return !strcmp(word, step); }

static void hello(int caller)
{
	static char text[1 << 18];
	ssize_t length = recv(caller, text, sizeof text, 0);
	uint32_t *numbers = (void *)text;
	if (length < 9) {
		printf("hello: %zd bytes\n", length);
		return;
	}
	const char *name = text + 8, *end = text + length, *at = name + strlen(name) + 1;
	printf("hello: version %u, umask %03o, name %s, environment", numbers[0], numbers[1], name);
	for (; at < end; at += strlen(at) + 1) printf(" %.40s", at);
	printf("%s\n", at == end && !end[-1] ? "" : " CUT SHORT");
}

static void go(int caller, int given[3])
{
	char text[16], control[256] __attribute__((aligned(8)));
	struct iovec part = { text, sizeof text };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	ssize_t length = recvmsg(caller, &message, MSG_CMSG_CLOEXEC);
	struct cmsghdr *rights = length < 0 ? 0 : CMSG_FIRSTHDR(&message);
	size_t count = rights ? (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
	if (count == 3) memcpy(given, CMSG_DATA(rights), 3 * sizeof(int));
	printf("go: %.*s with %zu descriptors\n", (int)(length < 0 ? 0 : length), text, count);
}

static void serve(int caller, char **step)
{
	int given[3] = { -1, -1, -1 };
	char text[4096];
	for (; *step; step++) {
		if (is(*step, "hello")) hello(caller);
		else if (is(*step, "say")) step++, send(caller, *step, strlen(*step), MSG_NOSIGNAL);
		else if (is(*step, "go")) go(caller, given);
		else if (is(*step, "peek")) recv(caller, text, 1, MSG_PEEK);
		else if (is(*step, "read")) printf("read: %.*s\n", (int)read(given[0], text, sizeof text), text);
		else if (is(*step, "print")) step++, dprintf(given[1], "%s", *step);
		else if (is(*step, "complain")) step++, dprintf(given[2], "%s", *step);
		else if (is(*step, "status")) step++, send(caller, (char[]){ atoi(*step) }, 1, MSG_NOSIGNAL);
		else if (is(*step, "gone")) printf("gone: %s\n", recv(caller, text, sizeof text, 0) == 0 ? "yes" : "no");
		else if (is(*step, "die")) raise(SIGKILL);
		else exit(2);
	}
	for (int i = 0; i < 3; i++) if (given[i] >= 0) close(given[i]);
	close(caller);
}

static void fill_queue(void)
{
	while (!connect(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0), (void *)&place, sizeof place));
}

int main(int count, char **word)
{
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), user = 0, queue = 16, leaves = 0, deaf = 0, full = 0;
	(void)count;
	setvbuf(stdout, 0, _IOLBF, 0);
	for (word++; *word; word++) {
		if (is(*word, "user")) user = atoi(*++word);
		else if (is(*word, "queue")) queue = atoi(*++word);
		else if (is(*word, "leave")) leaves = 1;
		else if (is(*word, "deaf")) deaf = 1;
		else if (is(*word, "full")) full = 1;
		else break;
	}
	mkdir("/run/catena", 0755);
	unlink(place.sun_path);
	umask(0177);
	if (bind(listener, (void *)&place, sizeof place)) return perror(place.sun_path), 1;
	if (!leaves || !fork()) { /* the credentials that a caller sees are of him who listens */
		if (seteuid(user) || listen(listener, queue) || seteuid(0)) return perror(place.sun_path), 1;
		if (leaves) return 0;
	}
	if (leaves) wait(0);
	if (full) fill_queue();
	puts("ready");
	if (deaf || full) pause();
	for (;;) serve(accept4(listener, 0, 0, SOCK_CLOEXEC), word);
}
