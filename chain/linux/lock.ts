/**
 * Locks that a process holds until it lets go or ends: on whole files (flock), and on names, of which one file holds any number.
 * None is waited for without an end.
 */
import { ensureFolder, folderOf, noFile, removeFile } from './files.ts'
import { errno, isErrno } from './libc/errno.ts'
import {
  close,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  lock,
  lockPlace,
  O_CREAT,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  open,
  type Place,
} from './libc/file.ts'
import { describeHolders } from './lock-holder.ts'
import { observer } from './observer.ts'

/**
 * How long anybody waits for a lock: a quarter of the two minutes that the kubelet gives a chain, and longer than a hundred
 * operations at once hold one.
 */
export const patience = { milliseconds: 30_000 }

/** Another process has held a lock for longer than one waits. A later try may succeed. */
export class BusyError extends Error {
  readonly isTemporary = true

  constructor(what: string, holders: string, waited: number) {
    super(`${what} is locked by ${holders}: gave up after ${Math.round(waited / 1000)} s`)
    this.name = 'BusyError'
  }
}

const FIRST_PAUSE = 0.2
const LONGEST_PAUSE = 50

/** Milliseconds until the next look: a quarter of what one has waited so far, so that no wait becomes much longer by it. */
function pauseAfter(waited: number): number {
  return Math.min(LONGEST_PAUSE, Math.max(FIRST_PAUSE, waited / 4))
}

/** A lock that is held until it is disposed of, or the process ends. */
export interface HeldLock {
  /** A process that inherits it holds the lock too, for as long as it lives. */
  descriptor: number
  [Symbol.dispose](): void
}

export interface LockOptions {
  /** Several may hold a shared lock at once. */
  shared?: boolean
  /** Answer undefined instead of waiting. */
  tryOnly?: boolean
  /** Permissions of the lock file when it has to be created. */
  mode?: number
}

/**
 * Takes an flock on a file, which is created with its folder when absent and never deleted. Waits, unless `tryOnly`, and throws
 * BusyError in the end.
 */
export function takeLock(path: string, options: LockOptions & { tryOnly: true }): HeldLock | undefined
export function takeLock(path: string, options?: LockOptions): HeldLock
export function takeLock(path: string, options: LockOptions = {}): HeldLock | undefined {
  const descriptor = openLock(path, O_RDONLY, options.mode)
  const mode = (options.shared ? LOCK_SH : LOCK_EX) | LOCK_NB
  try {
    if (lock(descriptor, mode, path) || (!options.tryOnly && waitForLock(descriptor, mode, path)))
      return { descriptor, [Symbol.dispose]: () => close(descriptor) }
  } catch (thrown) {
    close(descriptor)
    throw thrown
  }
  close(descriptor)
  return undefined
}

function waitForLock(descriptor: number, mode: number, path: string): true {
  const started = performance.now()
  for (;;) {
    const waited = performance.now() - started
    if (waited > patience.milliseconds) throw new BusyError(path, describeHolders(path), waited)
    Bun.sleepSync(pauseAfter(waited))
    if (lock(descriptor, mode, path)) return tellOfWait(path, started)
  }
}

/**
 * The file itself, not what a link there leads to; without waiting for the other end, should it be a pipe, which will do for a
 * lock.
 */
function openLock(path: string, access: number, mode = 0o600): number {
  const create = () => open(path, access | O_CREAT | O_NONBLOCK | O_NOFOLLOW, mode)
  try {
    return create()
  } catch (thrown) {
    if (isErrno(thrown, ...noFile)) return openRepaired(path, create)
    if (!isErrno(thrown, errno.ENOENT)) throw thrown
    ensureFolder(folderOf(path))
    return create()
  }
}

/**
 * In the place of a link or a folder that somebody has put there. Of two that do so at once the later one, which waits for a lock on
 * the folder, finds what the other has made.
 */
function openRepaired(path: string, create: () => number): number {
  const folder = open(folderOf(path), O_RDONLY | O_DIRECTORY)
  try {
    if (!lock(folder, LOCK_EX | LOCK_NB, folderOf(path)))
      waitForLock(folder, LOCK_EX | LOCK_NB, folderOf(path))
    return create()
  } catch (thrown) {
    if (!isErrno(thrown, ...noFile)) throw thrown
    removeFile(path)
    return create()
  } finally {
    close(folder)
  }
}

/**
 * What says that a file is not there and cannot be made: nothing may be written, there is no room, or what is in the way of it or in
 * its place is something else. Not that this process has all the descriptors that it may have.
 */
const unwritable = [
  ...[errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT],
  ...[errno.ENOTDIR, errno.ENOENT, errno.ENAMETOOLONG, ...noFile],
]

/** For who takes away: a lock whose file is not there and cannot be made is unowned, and not waited for. */
export function unlessUnwritable<T>(take: () => T): T | undefined {
  try {
    return take()
  } catch (thrown) {
    if (isErrno(thrown, ...unwritable)) return undefined
    throw thrown
  }
}

const NAMES = '/run/catena/lock' // gone after a reboot, as its holders are

export interface NameOptions {
  /** Several may hold a name shared. */
  shared?: boolean
  signal?: AbortSignal | undefined
  /** Milliseconds. */
  patience?: number
}

/**
 * Locks on names. All are places in one file, named by a hash: there is no file for each to clear away, no name is too long, and
 * the kernel lets go when the process ends. They are the open file's, so that two calls in one process exclude one another too.
 */
export interface HeldNames extends Disposable {
  /** Takes one more, if that can be had at once. */
  tryHold(name: string, options?: Pick<NameOptions, 'shared'>): boolean
  /** Takes one more. Waits without stopping the thread; throws BusyError in the end, or the signal's reason. */
  hold(name: string, options?: NameOptions): Promise<void>
  release(name: string): void
}

/** Opens the file, without a lock yet. Children do not inherit it. */
export function openNames(file = NAMES): HeldNames {
  const descriptor = openLock(file, O_RDWR)
  const tryHold: HeldNames['tryHold'] = (name, { shared = false } = {}) =>
    lockPlace(descriptor, placeOf(name), { type: shared ? 'shared' : 'exclusive', what: name })
  return {
    tryHold,
    async hold(name, options = {}) {
      if (!tryHold(name, options)) await waitForName(() => tryHold(name, options), { name, file }, options)
    },
    release: name => void lockPlace(descriptor, placeOf(name), { type: 'none', what: name }),
    [Symbol.dispose]: () => close(descriptor),
  }
}

/** Opens the file and takes a name. */
export async function holdName(
  name: string,
  options?: NameOptions,
  names: HeldNames = openNames(),
): Promise<HeldNames> {
  try {
    await names.hold(name, options)
    return names
  } catch (thrown) {
    names[Symbol.dispose]()
    throw thrown
  }
}

async function waitForName(
  take: () => boolean,
  { name, file }: { name: string; file: string },
  { signal, patience: limit = patience.milliseconds }: NameOptions,
): Promise<void> {
  const started = performance.now()
  do {
    signal?.throwIfAborted()
    const waited = performance.now() - started
    if (waited > limit) throw new BusyError(name, describeHolders(file, placeOf(name)), waited)
    await Bun.sleep(pauseAfter(waited))
  } while (!take())
  tellOfWait(name, started)
}

function tellOfWait(what: string, began: number): true {
  observer?.({
    of: 'lock',
    operations: [`wait for the lock on ${what}`],
    changes: false,
    began,
    ended: performance.now(),
  })
  return true
}

/**
 * 62 bits: the kernel takes places up to 2^63 - 1. Two names in one place would wait for one another, and nothing worse. By hand
 * (FNV-1a, and the same from the other end), for every call passes here and Bun.hash costs 0.02 ms to load.
 */
function placeOf(name: string): Place {
  let high = 0x811c9dc5
  let low = 0x811c9dc5
  for (let at = 0, end = name.length - 1; end >= 0; at++, end--) {
    high = timesPrime(high ^ name.charCodeAt(at))
    low = timesPrime(low ^ name.charCodeAt(end))
  }
  return { high: high >>> 2, low: low >>> 0 }
}

/** Times FNV's prime, 2^24 + 0x193, in 32 bits; by hand too, for the first look at Math costs a process 0.1 ms. */
function timesPrime(number: number): number {
  return ((number << 24) + number * 0x193) | 0
}
