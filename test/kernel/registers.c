/*
 * Preloaded into the second kernel (User Mode Linux), which saves its processes' extended registers in 2,696 bytes: enough
 * for AVX-512. On a processor with AMX the host's state is larger, and PTRACE_SETREGSET takes it whole or not at all
 * (EFAULT, which kills the guest's init). So the host's own size is used between here and the host, and the guest sees the
 * beginning, in which all is that its programs may use: AMX has to be asked for, and the guest does not know how.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* XSAVE of today's processors takes up to 11,008 bytes. Not on the stack: that of the guest's kernel has 16 KiB in all. */
static unsigned char bytes[65536];

static long registers_of(pid_t process, struct iovec *all) {
  all->iov_base = bytes;
  all->iov_len = sizeof bytes;
  return syscall(SYS_ptrace, PTRACE_GETREGSET, process, (void *)NT_X86_XSTATE, all);
}

long ptrace(enum __ptrace_request request, ...) {
  va_list arguments;
  va_start(arguments, request);
  pid_t process = va_arg(arguments, pid_t);
  void *address = va_arg(arguments, void *);
  void *data = va_arg(arguments, void *);
  va_end(arguments);

  int moves = request == PTRACE_GETREGSET || request == PTRACE_SETREGSET;
  if (!moves || address != (void *)NT_X86_XSTATE) {
    /* peeking answers through memory at this level, and by the result at the caller's */
    long word;
    int peeks = request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER;
    long result = syscall(SYS_ptrace, request, process, address, peeks ? (void *)&word : data);
    if (!peeks || result < 0) return result;
    errno = 0;
    return word;
  }
  struct iovec *guest = data, all;
  if (registers_of(process, &all) < 0) return -1;
  size_t shared = guest->iov_len < all.iov_len ? guest->iov_len : all.iov_len;
  if (request == PTRACE_GETREGSET) {
    memcpy(guest->iov_base, bytes, shared);
    guest->iov_len = shared;
    return 0;
  }
  memcpy(bytes, guest->iov_base, shared);
  return syscall(SYS_ptrace, PTRACE_SETREGSET, process, address, &all);
}
