/*
 * A container runtime as small as it can be, for measuring: runs a list of plugins as often as it is told, each in its own process, and
 * prints what that took. ADD runs them forwards, each with the result of the one before; DEL backwards, with the last result. In C,
 * for a harness must cost less than what it measures, and only from here are many callers at once callers and nothing else.
 *
 * usage: chain COUNT VERB[,VERB] FOLDER PLUGIN..., with the plugins' environment. FOLDER has their configurations, 0.json and so on;
 * the plugins are in CNI_PATH. Prints a line for each time: nanoseconds from posix_spawn to wait, and of processor, of each verb.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LARGEST 65536

struct cost { long long wall, processor; };

static const char *folder;
static char result[LARGEST];

static const char *inside(const char *name)
{
	static char path[4096];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

static void read_text(const char *name, char text[LARGEST])
{
	int file = open(inside(name), O_RDONLY);
	ssize_t length = file < 0 ? -1 : read(file, text, LARGEST - 1);
	if (length < 0) err(3, "%s", name);
	text[length] = 0;
	close(file);
}

static void write_text(const char *name, const char *text)
{
	int file = open(inside(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (file < 0 || write(file, text, strlen(text)) < 0) err(3, "%s", name);
	close(file);
}

/* A configuration, an object without a prevResult, and the result that comes behind its keys. */
static void write_input(int number)
{
	static char config[LARGEST], input[2 * LARGEST + 32];
	char name[32];
	snprintf(name, sizeof name, "%d.json", number);
	read_text(name, config);
	if (!*result) {
		write_text("input", config);
		return;
	}
	*strrchr(config, '}') = 0;
	snprintf(input, sizeof input, "%s,\"prevResult\":%s}", config, result);
	write_text("input", input);
}

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long long nanoseconds(struct timeval t)
{
	return t.tv_sec * 1000000000LL + t.tv_usec * 1000LL;
}

static void run(const char *plugin, struct cost *cost)
{
	extern char **environ;
	char program[4096], *words[] = { program, NULL };
	posix_spawn_file_actions_t files;
	struct rusage used;
	pid_t child;
	int status, ended = 0;
	snprintf(program, sizeof program, "%s/%s", getenv("CNI_PATH"), plugin);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, 0, inside("input"), O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&files, 1, inside("output"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
	long long start = now();
	if (!posix_spawn(&child, program, &files, NULL, words, environ)) ended = wait4(child, &status, 0, &used) == child;
	cost->wall += now() - start;
	posix_spawn_file_actions_destroy(&files);
	if (!ended) err(3, "%s", program);
	cost->processor += nanoseconds(used.ru_utime) + nanoseconds(used.ru_stime);
	if (status) {
		read_text("output", result);
		errx(5, "%s %s: status %d: %s", plugin, getenv("CNI_COMMAND"), WEXITSTATUS(status), result);
	}
}

static struct cost run_list(const char *verb, char **plugins, int count)
{
	struct cost cost = { 0, 0 };
	int backwards = !strcmp(verb, "DEL");
	setenv("CNI_COMMAND", verb, 1);
	for (int step = 0; step < count; step++) {
		int number = backwards ? count - 1 - step : step;
		write_input(number);
		run(plugins[number], &cost);
		if (!backwards) read_text("output", result);
	}
	return cost;
}

int main(int words, char **word)
{
	if (words < 5 || !getenv("CNI_PATH")) errx(2, "usage: chain COUNT VERB[,VERB] FOLDER PLUGIN...");
	folder = word[3];
	for (int left = atoi(word[1]); left > 0; left--) {
		char *verbs = strdup(word[2]);
		*result = 0;
		for (char *verb = strtok(verbs, ","); verb; verb = strtok(NULL, ",")) {
			struct cost cost = run_list(verb, word + 4, words - 4);
			printf("%lld %lld ", cost.wall, cost.processor);
		}
		puts("");
		free(verbs);
	}
	return 0;
}
