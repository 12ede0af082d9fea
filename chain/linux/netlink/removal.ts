/**
 * Deleting a link without waiting for all of it. The kernel takes a link, and a pair's other end with it, out of all lists within some
 * milliseconds, and then holds whoever asked for 10 ms and more, until no processor can still be at what belonged to it
 * (netdev_run_todo(): rcu_barrier). In a process that says so, one of the kernel's threads asks, by io_uring, and is held.
 */
import { errno, isErrno } from '../libc/errno.ts'
import { POLLIN, waitFor } from '../libc/file.ts'
import { openRing, type Ring } from '../libc/uring.ts'
import { now } from '../observer.ts'
import { messages } from './codec.ts'
import { deleteLink, findLink, type Link, removeLink, unlistBy } from './link.ts'
import {
  acknowledged,
  isRefusal,
  type KernelError,
  NETLINK_ROUTE,
  openEvents,
  openTransport,
  passOver,
  type Request,
  readRefusal,
  type Transport,
  tell,
} from './socket.ts'

/** What has become of one; 'not asked' where the kernel had no thread for it. */
type Outcome = 'removed' | 'not asked' | KernelError

interface Removal {
  asked: Request
  /** A socket of its own, for the kernel's answer. */
  answers: ReturnType<typeof openTransport>
  isAwaited: boolean
  /** Once the kernel has done with it. */
  outcome?: Outcome
}

/** Removals that may be under way at once. */
const MOST = 8
const RTNLGRP_LINK = 1

let ring: Ring | undefined
let tellLate: (refusal: KernelError) => void = () => {}
/** By their tickets. */
const underWay = new Map<number, Removal>()

/**
 * From now on this process goes on when a link that it removes is in no list any more, where the kernel lends it a thread. `late` is
 * told of a refusal that comes after.
 */
export function leaveRemovals(
  late: typeof tellLate,
  open: () => Ring | undefined = () => openRing(MOST),
): void {
  tellLate = late
  ring = open()
  unlistBy(removeFromLists)
}

/** Lets go of the removals that the kernel has done with; with 'all', waits until it has done with all. */
export function finishRemovals(which: 'done' | 'all' = 'done'): void {
  while (ring && underWay.size > 0) {
    reap(ring, which === 'all' ? underWay.size : 0)
    if (which === 'done') return
  }
}

/**
 * Deletes a link of the namespace that the thread and `route` are in. Afterwards neither it nor a pair's other end is to be found, by
 * name or by index, in whatever namespace that is, and their names are free. Nothing there is an answer, not an error.
 */
export function removeFromLists(route: Transport, link: Pick<Link, 'index' | 'name'>): 'removed' | 'absent' {
  const outcome = ring ? removeBy(ring, route, link) : 'not asked'
  if (outcome === 'not asked') return removeLink(route, link.index)
  if (outcome === 'removed') return outcome
  if (isRefusal(outcome, errno.ENODEV)) return 'absent'
  throw outcome
}

function removeBy(by: Ring, route: Transport, { index, name }: Pick<Link, 'index' | 'name'>): Outcome {
  if (underWay.size >= MOST) reap(by, 1)
  const began = now()
  using events = openEvents(RTNLGRP_LINK)
  const asked = { ...deleteLink(index), operation: `delete ${name}` }
  const removal = leave(by, asked)
  while (removal.outcome === undefined && removal.isAwaited) {
    waitFor(
      [by.descriptor, events.descriptor].map(each => [each, POLLIN] as const),
      -1,
    )
    reap(by)
    passOver(events.descriptor, performance.now() + 1) // events that go on and on are no reason not to look
    // while the kernel is at its links this look waits, so that mostly the first is enough
    if (removal.outcome === undefined) removal.isAwaited = findLink(route, index) !== undefined
  }
  const { outcome = 'removed' } = removal
  if (outcome !== 'not asked') tell(began, [asked], [outcome === 'removed' ? [] : outcome])
  return outcome
}

function leave(by: Ring, asked: Request): Removal {
  const removal: Removal = { asked, answers: openTransport(NETLINK_ROUTE), isAwaited: true }
  try {
    underWay.set(by.send(removal.answers.descriptor, acknowledged(asked)), removal)
  } catch (thrown) {
    removal.answers.close()
    if (!isErrno(thrown, errno.EAGAIN, errno.EBUSY, errno.ENOMEM)) throw thrown
    removal.outcome = 'not asked'
  }
  return removal
}

/** Takes what the kernel has done with, and waits until there are so many. */
function reap(by: Ring, least = 0): void {
  for (const { ticket, result } of by.completed(least)) {
    const removal = underWay.get(ticket)
    if (!removal) continue
    underWay.delete(ticket)
    const outcome = result < 0 ? 'not asked' : answerTo(removal)
    removal.answers.close()
    removal.outcome = outcome
    if (!removal.isAwaited && typeof outcome !== 'string' && !isRefusal(outcome, errno.ENODEV))
      tellLate(outcome)
  }
}

/** What is sent has been answered: nothing else ever comes to that socket. */
function answerTo({ asked, answers }: Removal): Outcome {
  const [answer] = messages(answers.receive())
  return (answer && readRefusal(asked.operation, answer)) ?? 'removed'
}
