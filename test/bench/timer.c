/* Starts a program some times and prints what each took, from posix_spawn to wait, in nanoseconds: a harness in C costs less than what it measures.
 * usage: timer COUNT INPUT PROGRAM, with the program's environment */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
	if (argc != 4) return 2;
	for (int count = atoi(argv[1]); count > 0; count--) {
		posix_spawn_file_actions_t files;
		posix_spawn_file_actions_init(&files);
		posix_spawn_file_actions_addopen(&files, 0, argv[2], O_RDONLY, 0);
		posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
		char *words[] = { argv[3], NULL };
		pid_t child;
		int status;
		long long start = now();
		if (posix_spawn(&child, argv[3], &files, NULL, words, environ)) return 3;
		if (waitpid(child, &status, 0) != child) return 4;
		long long end = now();
		posix_spawn_file_actions_destroy(&files);
		if (status) return 5;
		printf("%lld\n", end - start);
	}
	return 0;
}
