/*
 * For code that runs before musl's loader has relocated anything (start.c, warm.c): no pointers in static data, no errno, no thread,
 * no function of musl's. What they both need.
 */
#define _GNU_SOURCE
#include <stddef.h>
#include <errno.h>
#include <unistd.h>
#include <sys/auxv.h>
#include "syscall.h"

static inline size_t length_of(const char *text)
{
	size_t n = 0;
	while (text[n]) n++;
	return n;
}

static inline int begins(const char *text, const char *with)
{
	while (*with) if (*text++ != *with++) return 0;
	return 1;
}

static inline const char *variable(char **env, const char *name_and_equals)
{
	for (; *env; env++) if (begins(*env, name_and_equals)) return *env + length_of(name_and_equals);
	return 0;
}

static inline size_t *entry_of(size_t *auxv, size_t type)
{
	for (; *auxv; auxv += 2) if (*auxv == type) return auxv + 1;
	return 0;
}

static inline void print(int descriptor, const char *text)
{
	for (size_t left = length_of(text); left;) {
		long written = __syscall(SYS_write, descriptor, text, left);
		if (written == -EINTR) continue;
		if (written <= 0) return;
		text += written;
		left -= written;
	}
}

hidden void __ask_the_service(const char *name, char **env, size_t *auxv);
