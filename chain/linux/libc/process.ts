/** The process itself and others: namespaces, mounts, signals, how it was started and how it ends. */
import { checked, errno, isErrno } from './errno.ts'
import { libc, rarely, textAt, textPointer } from './ffi.ts'

const occasional = {
  unshare: { args: ['i32'], returns: 'i32' },
  mount: { args: ['ptr', 'ptr', 'ptr', 'u64', 'ptr'], returns: 'i32' },
  umount2: { args: ['ptr', 'i32'], returns: 'i32' },
  kill: { args: ['i32', 'i32'], returns: 'i32' },
  umask: { args: ['u32'], returns: 'u32' },
  _exit: { args: ['i32'], returns: 'void' },
  getauxval: { args: ['u64'], returns: 'ptr' },
  getppid: { args: [], returns: 'i32' },
  prctl: { args: ['i32', 'u64', 'u64', 'u64', 'u64'], returns: 'i32' },
  chdir: { args: ['ptr'], returns: 'i32' },
  fchdir: { args: ['i32'], returns: 'i32' },
} as const

/** Moves the calling thread into a namespace; only netns.ts may call it. */
export function setNamespace(descriptor: number, kind: number, what: string): void {
  checked(libc().setns(descriptor, kind), () => `enter ${what}`)
}

/** Gives the calling thread new namespaces (sched.h, CLONE_NEW*). */
export function unshare(flags: number): void {
  checked(rarely(occasional, 'unshare')(flags), () => 'unshare')
}

/** Mounts; `type` and `source` may be empty, as for a bind mount; `data` is the file system's own affair. */
export function mount(
  source: string,
  target: string,
  options: { type?: string; flags: number; data?: string },
): void {
  const type = options.type === undefined ? null : textPointer(options.type)
  const data = options.data === undefined ? null : textPointer(options.data)
  checked(
    rarely(occasional, 'mount')(textPointer(source), textPointer(target), type, options.flags, data),
    () => `mount ${source} on ${target}`,
  )
}

export function unmount(target: string, flags: number): void {
  checked(rarely(occasional, 'umount2')(textPointer(target), flags), () => `unmount ${target}`)
}

/** Sends a signal; a negative process means its group. False when there is no such process. */
export function kill(process: number, signal: number): boolean {
  try {
    checked(rarely(occasional, 'kill')(process, signal), () => `send signal ${signal} to ${process}`)
    return true
  } catch (thrown) {
    if (isErrno(thrown, errno.ESRCH)) return false
    throw thrown
  }
}

/** Sets which permissions new files and sockets of this process do not get; answers which they were. */
export function setFileMask(mask: number): number {
  return rarely(occasional, 'umask')(mask)
}

/** The process that started this one, or, where that has ended, whoever takes in orphans. */
export function parentProcess(): number {
  return rarely(occasional, 'getppid')()
}

const PR_SET_PDEATHSIG = 1

/** Has this process sent a signal when the one that started it ends. */
export function signalAtParentsEnd(signal: number): void {
  checked(rarely(occasional, 'prctl')(PR_SET_PDEATHSIG, signal, 0, 0, 0), () => 'prctl(PR_SET_PDEATHSIG)')
}

/** Makes a folder the one that relative paths begin in. */
export function changeFolder(path: string): void {
  checked(rarely(occasional, 'chdir')(textPointer(path)), () => `enter folder ${path}`)
}

/** The same with an open folder. */
export function enterFolder(descriptor: number, what: string): void {
  checked(rarely(occasional, 'fchdir')(descriptor), () => `enter folder ${what}`)
}

const AT_EXECFN = 31 // include/uapi/linux/auxvec.h

/** The path that execve was given for this process: what argv[0] need not be. */
export function startedPath(): string {
  return textAt(rarely(occasional, 'getauxval')(AT_EXECFN)) ?? ''
}

/** Ends the process without another thought. */
export function exitAtOnce(status: number): never {
  rarely(occasional, '_exit')(status)
  throw new Error('unreachable')
}
