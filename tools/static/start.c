/*
 * The first code that runs in the executable, part of musl's ldso/: makes musl's loader, which lies inside the
 * executable, believe that the kernel has mapped it as the program's interpreter, and mends what the caller has left in a state
 * in which Bun does not start. Nothing is relocated yet: early.h says what that forbids.
 *
 * musl is MIT-licensed; this file, like the rest of Catena, Apache-2.0.
 */
#include "early.h"
#include <sys/mman.h>
#include <sys/resource.h>
#include <fcntl.h>
#include "dynlink.h"

#define HIDDEN_DYNAMIC 0x64796e30 /* embed.ts writes it */
#define BLANK '\1' /* chain/linux/child-environment.ts reads it */
#define ADDRESS_SPACE_WANTED (4UL << 30)
#define ADDRESS_SPACE_NEEDED (512UL << 20)
#define DATA_NEEDED (384UL << 20)

extern hidden const char __ehdr_start[];
static Phdr headers[16];
static long own_process;

static void print_number(int descriptor, size_t number)
{
	char digits[24], *at = digits + sizeof digits;
	*--at = 0;
	do *--at = '0' + number % 10; while (number /= 10);
	*--at = ' ';
	print(descriptor, at);
}

/* The document that a container runtime expects of a plugin that fails; for a person, who has set no CNI_COMMAND, on standard error. */
static void print_error(char **env, const char *message, const char *details)
{
	static const struct { const char name[16]; int number; } limits[] = {
		{ "RLIMIT_AS", RLIMIT_AS }, { "RLIMIT_DATA", RLIMIT_DATA }, { "RLIMIT_STACK", RLIMIT_STACK },
		{ "RLIMIT_NOFILE", RLIMIT_NOFILE }, { "RLIMIT_NPROC", RLIMIT_NPROC } };
	int out = variable(env, "CNI_COMMAND=") ? 1 : 2;
	print(out, "{\n  \"cniVersion\": \"1.0.0\",\n  \"code\": 999,\n  \"msg\": \""); /* the configuration's version is not known yet */
	print(out, message);
	print(out, "\",\n  \"details\": \"");
	print(out, details);
	print(out, " (limits of this process:");
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		struct { uint64_t soft, hard; } limit;
		if (__syscall(SYS_prlimit64, 0, limits[i].number, 0, &limit)) continue;
		print(out, i ? ", " : " ");
		print(out, limits[i].name);
		if (limit.soft == RLIM_INFINITY) print(out, " unlimited");
		else print_number(out, limit.soft);
	}
	print(out, ")\"\n}\n");
}

/*
 * A pointer to the program headers as the linker had made them. In the file PT_DYNAMIC has a type of its own, so that every tool takes
 * the file for what it is, statically linked; the last two are this loader's; and PT_PHDR would tell where the table was in memory.
 */
static void restore_headers(size_t *auxv)
{
	size_t *table = entry_of(auxv, AT_PHDR), *count = entry_of(auxv, AT_PHNUM), kept = 0;
	const Phdr *given = (void *)*table;
	for (size_t i = 0; i + 2 < *count && kept < sizeof headers / sizeof *headers; i++) {
		if (given[i].p_type == PT_PHDR || given[i].p_type == PT_NULL) continue;
		headers[kept] = given[i];
		if (given[i].p_type == HIDDEN_DYNAMIC) headers[kept].p_type = PT_DYNAMIC;
		kept++;
	}
	*table = (size_t)headers;
	*count = kept;
}

/* Pages of 2 MB for code and constants where the file system has them so: a quarter of the page faults of a start is saved. */
static void ask_for_huge_pages(const Phdr *header, size_t count)
{
	for (; count--; header++)
		if (header->p_type == PT_LOAD && !(header->p_flags & PF_W) && header->p_memsz > 4 << 20)
			__syscall(SYS_madvise, header->p_vaddr & -4096, (header->p_memsz + 4095) & -4096, MADV_HUGEPAGE);
}

#define IS(text, other) (begins(text, other) && !(text)[sizeof other - 1])

/*
 * Settings meant for a bun, a node or a dynamic loader change the plugin no more: blanked where they lie, first letter by first letter.
 * All but two that the service gives its workers (chain/service/supervisor.ts), and that say nothing but that they are to do with less.
 */
static void blank_settings(char **env)
{
	for (; *env; env++)
		if (IS(*env, "BUN_JSC_useFTLJIT=0") || IS(*env, "MIMALLOC_PURGE_DELAY=0")) continue;
		else if (begins(*env, "BUN_") || begins(*env, "NODE_") || begins(*env, "LD_") || begins(*env, "JSC_") || begins(*env, "ICU_")
			|| begins(*env, "MIMALLOC_") || begins(*env, "MUSL_") || begins(*env, "SIMDUTF_"))
			**env = BLANK;
}

/* A folder that was deleted, or that is not below our root: Bun asks for its name and gives up. Every path of a plugin is absolute. */
static void leave_lost_folder(void)
{
	char folder[4096]; /* PATH_MAX */
	if (__syscall(SYS_getcwd, folder, sizeof folder) < 1 || *folder != '/') __syscall(SYS_chdir, "/");
}

/* Closed descriptors 0, 1, 2 would be given to the next file that is opened, and standard output would be written into it. */
static void fill_descriptors(void)
{
	for (int descriptor = 0; descriptor < 3; descriptor++) {
		if (__syscall(SYS_fcntl, descriptor, F_GETFD) >= 0) continue;
		if (__syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_LARGEFILE, 0) < 0) __syscall(SYS_memfd_create, "null", 0);
	}
}

static void ask_for_executable_memory(char **env)
{
	long page = __syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int denied = page < 0 && page > -4096;
	if (!denied) {
		denied = __syscall(SYS_mprotect, page, 4096, PROT_READ | PROT_EXEC) != 0;
		__syscall(SYS_munmap, page, 4096);
	}
	if (!denied) return;
	print_error(env, "cannot start: this process is denied memory that is writable and executable",
		"the plugins' JavaScript is compiled as it runs: look at MemoryDenyWriteExecute= of the unit that starts the container runtime, at seccomp filters and at SELinux's execmem");
	__syscall(SYS_exit_group, 1);
}

/*
 * Two more variables, which no foreign program is given (chain/linux/child-environment.ts). There is room for them where the auxiliary
 * vector had an entry that nobody reads: what lies before it moves up. Answers where the vector begins now.
 */
static size_t *add_variables(size_t *auxv, size_t unread, const char *one, const char *other)
{
	size_t *place = entry_of(auxv, unread);
	if (!place) return auxv;
	for (size_t *at = place - 2; at >= auxv; at--) at[2] = at[0];
	auxv[-1] = (size_t)one;
	auxv[0] = (size_t)other;
	auxv[1] = 0;
	return auxv + 2;
}

/* Bun reserves 2 GB of addresses, half of that for compiled code; it can be told to do with less. */
static size_t *save_address_space(char **env, size_t *auxv)
{
	struct { uint64_t soft, hard; } all = { -1, -1 }, data = { -1, -1 };
	__syscall(SYS_prlimit64, 0, RLIMIT_AS, 0, &all);
	__syscall(SYS_prlimit64, 0, RLIMIT_DATA, 0, &data);
	if (all.soft < ADDRESS_SPACE_NEEDED || data.soft < DATA_NEEDED) {
		print_error(env, "cannot start: this process is denied address space",
			"512 MB is the least, 384 MB of them for data: look at LimitAS= and LimitDATA= of the unit that starts the container runtime, at ulimit -v and -d");
		__syscall(SYS_exit_group, 1);
	}
	if (all.soft >= ADDRESS_SPACE_WANTED && data.soft >= ADDRESS_SPACE_WANTED) return auxv;
	return add_variables(auxv, AT_FLAGS, "BUN_JSC_jitMemoryReservationSize=33554432", "BUN_JSC_structureHeapSizeInKB=65536");
}

hidden void __embedded_start(size_t *stack)
{
	char **argv = (void *)(stack + 1), **env = argv + *stack + 1;
	size_t *auxv = (void *)env;
	while (*auxv) auxv++;
	auxv++;
	const size_t *called = entry_of(auxv, AT_EXECFN);
	if (!*stack && called) { /* before Linux 5.18 a process may have no name at all: once more, with one */
		char *named[] = { (char *)*called, 0 };
		__syscall(SYS_execve, *called, named, env);
	}
	if (*stack == 1) __ask_the_service(*argv, env, auxv); /* with words behind its name, it is not a container runtime that calls */
	*entry_of(auxv, AT_BASE) = (size_t)__ehdr_start;
	*entry_of(auxv, AT_ENTRY) = ((const Ehdr *)__ehdr_start)->e_entry;
	restore_headers(auxv);
	ask_for_huge_pages(headers, *entry_of(auxv, AT_PHNUM));
	fill_descriptors();
	leave_lost_folder();
	ask_for_executable_memory(env);
	blank_settings(env);
	auxv = save_address_space(env, auxv);
	/* no thread that touches memory before it is needed, for 4 % of a small call's time; a heap is collected at twice what lives, not thrice */
	add_variables(auxv, AT_CLKTCK, "BUN_JSC_useWarmUpMarkedBlocks=0", "BUN_JSC_heapGrowthMaxIncrease=1");
	own_process = __syscall(SYS_getpid);
}

hidden int __answered; /* set by write(), when it is standard output that is written to */

/* By exit and by abort: whatever ended Bun or the plugin before there was an answer, the container runtime gets one. */
hidden void __last_words(int status)
{
	if (!status || __answered || !own_process || __syscall(SYS_getpid) != own_process || !variable(__environ, "CNI_COMMAND=")) return;
	print_error(__environ, "the plugin ended before it could answer", "its JavaScript runtime gave up, and says why on standard error");
	__syscall(SYS_exit_group, 1);
}
