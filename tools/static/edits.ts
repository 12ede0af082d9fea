/** The changes to musl's own files, each by a line that must be there exactly once: a musl that has changed there is refused. */

interface Edit {
  file: string
  /** A whole line, without the space before it. */
  line: string
  /** Lines that come before it, or one that comes in its place. */
  before?: string[]
  instead?: string
}

export const edits: readonly Edit[] = [
  // the first thing that runs: start.c
  {
    file: 'ldso/dlstart.c',
    line: 'hidden void _dlstart_c(size_t *sp, size_t *dynv)',
    before: ['hidden void __embedded_start(size_t *);'],
  },
  { file: 'ldso/dlstart.c', line: 'int argc = *sp;', before: ['__embedded_start(sp);'] },
  // libstdc++ and libgcc_s are in the same file as libc: no search for them
  {
    file: 'ldso/dynlink.c',
    line: '"c.pthread.rt.m.dl.util.xnet.";',
    instead: '"c.pthread.rt.m.dl.util.xnet.stdc++.gcc_s.";',
  },
  { file: 'ldso/dynlink.c', line: 'void __dls3(size_t *sp, size_t *auxv)', before: ['#include "own-tls.h"'] },
  { file: 'ldso/dynlink.c', line: 'decode_dyn(&app);', before: ['place_own_tls();'] },
  // the first thread's stack is as large as its limit lets it become; musl tries 64 pages at each start, with a system call for each
  {
    file: 'src/thread/pthread_getattr_np.c',
    line: 'int pthread_getattr_np(pthread_t t, pthread_attr_t *a)',
    before: ['#include <sys/resource.h>', '#define MOST (8UL << 20)'],
  },
  {
    file: 'src/thread/pthread_getattr_np.c',
    line: 'while (mremap(p-l-PAGE_SIZE, PAGE_SIZE, 2*PAGE_SIZE, 0)==MAP_FAILED && errno==ENOMEM)',
    instead: 'struct rlimit limit;',
  },
  {
    file: 'src/thread/pthread_getattr_np.c',
    line: 'l += PAGE_SIZE;',
    instead:
      'l = (getrlimit(RLIMIT_STACK, &limit) || limit.rlim_cur > MOST ? MOST : limit.rlim_cur) & -PAGE_SIZE;',
  },
  // kernels before 2.6.23 ignored O_CLOEXEC, and Bun needs later ones: no second system call for each file that is opened
  { file: 'src/fcntl/open.c', line: '__syscall(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC);', instead: ';' },
  { file: 'src/stdio/fopen.c', line: '__syscall(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC);', instead: ';' },
  // who ends without an answer leaves a last one
  {
    file: 'src/exit/_Exit.c',
    line: '_Noreturn void _Exit(int ec)',
    before: ['hidden void __last_words(int);'],
  },
  { file: 'src/exit/_Exit.c', line: '__syscall(SYS_exit_group, ec);', before: ['__last_words(ec);'] },
  {
    file: 'src/exit/abort.c',
    line: '_Noreturn void abort(void)',
    before: ['hidden void __last_words(int);'],
  },
  { file: 'src/exit/abort.c', line: 'raise(SIGABRT);', before: ['__last_words(1);'] },
  {
    file: 'src/unistd/write.c',
    line: 'ssize_t write(int fd, const void *buf, size_t count)',
    before: ['extern hidden int __answered;'],
  },
  {
    file: 'src/unistd/write.c',
    line: 'return syscall_cp(SYS_write, fd, buf, count);',
    before: ['if (fd == 1) __answered = 1;'],
  },
]

/** A file's text with its edits made. */
export function edited(file: string, text: string): string {
  const lines = text.split('\n')
  for (const { line, before = [], instead } of edits.filter(edit => edit.file === file)) {
    const [at = -1, ...more] = lines.flatMap((each, index) => (each.trim() === line ? [index] : []))
    if (at < 0 || more.length > 0) {
      throw new Error(
        `${file} of this musl has the line ${JSON.stringify(line)} ${at < 0 ? 'not at all' : 'more than once'}: tools/static/edits.ts does not fit it`,
      )
    }
    lines.splice(at, 1, ...before, instead ?? lines[at] ?? '')
  }
  return lines.join('\n')
}
