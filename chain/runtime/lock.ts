/**
 * One operation at a time per container, none beside GC on its network: within this process by a queue, among processes by locks
 * on names. Other containers' operations go on beside it. Knows nothing of what the operations are.
 */
import { type HeldNames, holdName, openNames, unlessUnwritable } from '../linux/lock.ts'

const LOCK_FOLDER = '/run/catena/locks' // gone after a reboot, as its holders are

/** Milliseconds: the kubelet waits for a chain as long, and who comes later than that has been given up. */
const PATIENCE = 120_000

const queues = new Map<string, Promise<void>>()

export interface LockPlace {
  lockFolder?: string | undefined
  signal?: AbortSignal | undefined
  /** Whether the operation may go on where nothing can be written, and so no other be kept off. */
  optional?: boolean | undefined
}

/** Runs a body when no other operation on the container runs. Rejects with the signal's reason when aborted before. */
export async function exclusively<T>(
  containerId: string,
  body: () => Promise<T>,
  place: LockPlace = {},
): Promise<T> {
  const turn = takeTurn(`${place.lockFolder} ${containerId}`)
  try {
    await unlessAborted(turn.before, place.signal)
    using names = openLocks(place)
    await names?.hold(`container ${containerId}`, { signal: place.signal, patience: PATIENCE })
    return await body()
  } finally {
    turn.end()
  }
}

function openLocks({ lockFolder = LOCK_FOLDER, optional = false }: LockPlace): HeldNames | undefined {
  const open = () => openNames(`${lockFolder}/lock`)
  return optional ? unlessUnwritable(open) : open()
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
  place: LockPlace,
): Promise<HeldNames | undefined> {
  const names = openLocks(place)
  if (!names) return undefined
  const options = { shared, signal: place.signal, patience: PATIENCE }
  const gate = `the way to network ${network}`
  await holdName(gate, options, names)
  await holdName(`network ${network}`, options, names)
  names.release(gate)
  return names
}
