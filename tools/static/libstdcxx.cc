/*
 * What Bun's musl build asks of libstdc++ and nothing else has, for a program that never throws: each way to fail says what it was
 * and aborts. Trees, lists, hash sizes, demangling and dynamic_cast come from the compiler's own libstdc++.a (GPLv3 with the runtime
 * library exception); these stand in for members that would bring unwinding and locales along. Also what musl keeps from dlsym.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SHOWN __attribute__((visibility("default")))

[[noreturn]] static void die(const char *what)
{
	static const char fatal[] = "fatal: ";
	write(2, fatal, sizeof fatal - 1);
	write(2, what, strlen(what));
	write(2, "\n", 1);
	abort();
}

namespace std {
typedef void (*handler)();
static handler at_end;
SHOWN handler set_terminate(handler given) { return __atomic_exchange_n(&at_end, given, __ATOMIC_ACQ_REL); }
SHOWN handler get_new_handler() { return 0; }
SHOWN [[noreturn]] void terminate()
{
	if (handler last = __atomic_load_n(&at_end, __ATOMIC_ACQUIRE)) last();
	die("std::terminate");
}
SHOWN [[noreturn]] void __throw_bad_alloc() { die("std::bad_alloc"); }
SHOWN [[noreturn]] void __throw_bad_array_new_length() { die("std::bad_array_new_length"); }
SHOWN [[noreturn]] void __throw_bad_function_call() { die("std::bad_function_call"); }
SHOWN [[noreturn]] void __throw_logic_error(const char *words) { die(words); }
SHOWN [[noreturn]] void __throw_length_error(const char *words) { die(words); }
SHOWN [[noreturn]] void __throw_out_of_range_fmt(const char *words, ...) { die(words); }
SHOWN [[noreturn]] void __throw_system_error(int) { die("std::system_error"); }
SHOWN [[noreturn]] void __glibcxx_assert_fail(const char *, int, const char *where, const char *what) { die(what ? what : where); }
SHOWN __thread void *__once_callable;
SHOWN __thread void (*__once_call)();
}

extern "C" {
SHOWN void __once_proxy() { std::__once_call(); }

#define NEVER(name) SHOWN [[noreturn]] void name() { die(#name); }
NEVER(__cxa_bad_typeid) NEVER(__cxa_bad_cast) NEVER(__cxa_pure_virtual)
/* asked for by members of libstdc++.a that could throw */
NEVER(__gxx_personality_v0) NEVER(__cxa_throw) NEVER(__cxa_rethrow) NEVER(__cxa_begin_catch) NEVER(__cxa_end_catch)
NEVER(__cxa_allocate_exception) NEVER(__cxa_free_exception) NEVER(__cxa_call_unexpected) NEVER(__cxa_call_terminate)
NEVER(__cxa_init_primary_exception) NEVER(_Unwind_Resume)
SHOWN char __libc_single_threaded = 0;
__attribute__((visibility("hidden"))) void *__dso_handle = 0;

/* Variables that are initialised once, when first come by (Itanium C++ ABI 3.3.3): byte 0 says "done", byte 1 "being done". */
static pthread_mutex_t guards = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t guard_changed = PTHREAD_COND_INITIALIZER;
SHOWN int __cxa_guard_acquire(char *guard)
{
	if (__atomic_load_n(guard, __ATOMIC_ACQUIRE)) return 0;
	pthread_mutex_lock(&guards);
	while (!guard[0] && guard[1]) pthread_cond_wait(&guard_changed, &guards);
	int ours = !guard[0];
	if (ours) guard[1] = 1;
	pthread_mutex_unlock(&guards);
	return ours;
}
static void leave_guard(char *guard, char done)
{
	pthread_mutex_lock(&guards);
	guard[1] = 0;
	__atomic_store_n(guard, done, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&guard_changed);
	pthread_mutex_unlock(&guards);
}
SHOWN void __cxa_guard_release(char *guard) { leave_guard(guard, 1); }
SHOWN void __cxa_guard_abort(char *guard) { leave_guard(guard, 0); }

/* Members by their mangled names: libstdc++'s condition_variable and mutex are pthread's, with nothing around. */
SHOWN void _ZNSt18condition_variableC1Ev(pthread_cond_t *self) { memset(self, 0, sizeof *self); }
SHOWN void _ZNSt18condition_variableD1Ev(pthread_cond_t *self) { pthread_cond_destroy(self); }
SHOWN void _ZNSt18condition_variable10notify_allEv(pthread_cond_t *self) { pthread_cond_broadcast(self); }
SHOWN void _ZNSt18condition_variable10notify_oneEv(pthread_cond_t *self) { pthread_cond_signal(self); }
SHOWN void _ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE(pthread_cond_t *self, pthread_mutex_t **lock) { pthread_cond_wait(self, *lock); }
SHOWN long _ZNSt6chrono3_V212steady_clock3nowEv()
{
	timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000L + now.tv_nsec;
}

/* Since musl 1.2.4 the name exists for the linker only; Catena asks for it as a program does, by dlsym. */
struct dirent;
int getdents(int, struct dirent *, size_t);
SHOWN long getdents64(int descriptor, void *entries, size_t size) { return getdents(descriptor, static_cast<struct dirent *>(entries), size); }
}

/* For the members of libstdc++.a alone: Bun has its own. */
#define HIDDEN __attribute__((visibility("hidden")))
HIDDEN void *operator new(size_t size)
{
	void *made = malloc(size ? size : 1);
	if (!made) die("std::bad_alloc");
	return made;
}
HIDDEN void operator delete(void *made) noexcept { free(made); }
HIDDEN void operator delete(void *made, size_t) noexcept { free(made); }
