/**
 * One operation at a time per container, none beside GC on its network: within this process by a queue, among processes
 * by flock. Other containers' operations go on beside it. Knows nothing of what the operations are.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { ensureFolder, type HeldLock, removeFile, takeLock, withLock } from '../linux/files.ts'

const LOCK_FOLDER = '/run/catena/locks' // gone after a reboot, as its holders are

/**
 * flock cannot be waited for by an event, and waiting inside the call would stop this thread, which another container's
 * lock may depend on: two processes that wait for one another would wait for ever.
 */
const ATTEMPT_EVERY = 20 // milliseconds

const queues = new Map<string, Promise<void>>()

export interface LockPlace {
  lockFolder?: string | undefined
  signal?: AbortSignal | undefined
}

/** Runs a body when no other operation on the container runs. Rejects with the signal's reason when aborted before. */
export async function exclusively<T>(
  containerId: string,
  body: () => Promise<T>,
  { lockFolder = LOCK_FOLDER, signal }: LockPlace = {},
): Promise<T> {
  const file = `${lockFolder}/${containerId}.lock`
  const turn = takeTurn(file)
  try {
    await unlessAborted(turn.before, signal)
    using _held = await acquire(() => takeOwn(file, lockFolder), lockFolder, signal)
    return await body()
  } finally {
    turn.end()
  }
}

/** A place in the queue: `before` is over when all earlier ones are. */
function takeTurn(key: string): { before: Promise<void>; end(): void } {
  const before = queues.get(key) ?? Promise.resolve()
  const { promise, resolve } = Promise.withResolvers<void>()
  const tail = before.then(() => promise)
  queues.set(key, tail)
  tail.then(() => {
    if (queues.get(key) === tail) queues.delete(key)
  })
  return { before, end: resolve }
}

async function unlessAborted(waited: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (!signal) return waited
  signal.throwIfAborted()
  const { promise, reject } = Promise.withResolvers<never>()
  const abort = () => reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  try {
    await Promise.race([waited, promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

/**
 * Runs an operation on a container's attachment to a network: beside those on other containers, but not beside GC
 * (SPEC.md, "Lifecycle & Ordering"). The network comes before the container, or GC and it could wait for one another.
 */
export async function asOperation<T>(
  { network, containerId }: { network: string; containerId: string },
  body: () => Promise<T>,
  place: LockPlace = {},
): Promise<T> {
  using _network = await enterNetwork(network, { shared: true }, place)
  return await exclusively(containerId, body, place)
}

/** Runs GC: when all operations on the network have ended, and before any that come after it. */
export async function asCollection<T>(
  network: string,
  body: () => Promise<T>,
  place: LockPlace = {},
): Promise<T> {
  using _network = await enterNetwork(network, { shared: false }, place)
  return await body()
}

/** Everybody passes the gate; GC keeps it while it waits, so that ever new operations do not keep it waiting for ever. */
async function enterNetwork(
  network: string,
  { shared }: { shared: boolean },
  { lockFolder = LOCK_FOLDER, signal }: LockPlace,
): Promise<HeldLock> {
  const take = (file: string) =>
    acquire(() => takeLock(`${lockFolder}/${file}`, { tryOnly: true, shared }), lockFolder, signal)
  using _gate = await take(`${network}.gate`)
  return await take(`${network}.network`)
}

async function acquire(
  attempt: () => HeldLock | undefined,
  folder: string,
  signal: AbortSignal | undefined,
): Promise<HeldLock> {
  ensureFolder(folder)
  for (;;) {
    const held = attempt()
    if (held) return held
    await pause(ATTEMPT_EVERY, undefined, signal ? { signal } : {}).catch(() => signal?.throwIfAborted())
  }
}

/**
 * A container's file goes with the lock, so that the folder does not fill. Both happen behind a door, a lock held for
 * microseconds: whoever locks a file is sure that it is the one which the name stands for. Networks are few: theirs stay.
 */
function takeOwn(file: string, folder: string): HeldLock | undefined {
  const behindDoor = <R>(body: () => R) => withLock(`${folder}/lock`, body)
  const held = behindDoor(() => takeLock(file, { tryOnly: true }))
  if (!held) return undefined
  const release = () => {
    removeFile(file)
    held[Symbol.dispose]()
  }
  return { descriptor: held.descriptor, [Symbol.dispose]: () => behindDoor(release) }
}
