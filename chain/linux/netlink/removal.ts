/**
 * Deleting a link without waiting for all of it. The kernel takes a link, and a pair's other end with it, out of all lists within some
 * milliseconds, and then holds whoever asked for 10 ms and more, until no processor can still be at what belonged to it
 * (netdev_run_todo(): rcu_barrier). In a process that says so, one of the kernel's threads asks, by io_uring, and is held.
 */
import { errno, isErrno } from '../libc/errno.ts'
import { POLLIN, waitFor } from '../libc/file.ts'
import { openRing, type Ring } from '../libc/uring.ts'
import { inNamespace } from '../netns.ts'
import { now } from '../observer.ts'
import { int32, join, messages } from './codec.ts'
import { deleteLink, findLink, type Link, type LinkPlace, removeLink, unlistBy } from './link.ts'
import { numberNamespace } from './namespace-id.ts'
import {
  acknowledged,
  type Events,
  isRefusal,
  type KernelError,
  NETLINK_ROUTE,
  openEvents,
  openTransport,
  passOver,
  type Request,
  readRefusal,
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
const TARGET_NETNSID = 46 // IFLA_TARGET_NETNSID: a link elsewhere

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
  if (ring && underWay.size > 0) reap(ring, which === 'all' ? underWay.size : 0)
}

/**
 * Deletes a link. Afterwards neither it nor a pair's other end is to be found, by name or by index, in whatever namespace that is, and
 * their names are free. Nothing there is an answer, not an error; one that somebody else has removed meanwhile may be 'removed'. What
 * stays open keeps no other namespace than this thread's.
 */
export function removeFromLists(place: LinkPlace, link: Pick<Link, 'index' | 'name'>): 'removed' | 'absent' {
  const outcome = ring ? removeBy(ring, place, link) : 'not asked'
  if (outcome === 'not asked') return removeLink(place.route, link.index)
  if (outcome === 'removed') return outcome
  if (isRefusal(outcome, errno.ENODEV)) return 'absent'
  throw outcome
}

function removeBy(by: Ring, place: LinkPlace, link: Pick<Link, 'index' | 'name'>): Outcome {
  if (underWay.size >= MOST) reap(by, 1)
  const began = now()
  using events = openLinkEvents(place)
  const removal = leave(by, place, link)
  const awaited = [by.descriptor, events.descriptor].map(each => [each, POLLIN] as const)
  while (removal.outcome === undefined && removal.isAwaited) {
    waitFor(awaited, -1)
    reap(by)
    passOver(events.descriptor, performance.now() + 1) // events that go on and on are no reason not to look
    // while the kernel is at its links this look waits, so that mostly the first is enough
    if (removal.outcome === undefined) removal.isAwaited = findLink(place.route, link.index) !== undefined
  }
  const { asked, outcome = 'removed' } = removal
  if (outcome !== 'not asked') tell(began, [asked], [outcome === 'removed' ? [] : outcome])
  return outcome
}

function openLinkEvents({ namespace }: LinkPlace): Events {
  const openThem = () => openEvents(RTNLGRP_LINK)
  return namespace === undefined ? openThem() : inNamespace(namespace, openThem)
}

function leave(by: Ring, { namespace }: LinkPlace, { index, name }: Pick<Link, 'index' | 'name'>): Removal {
  const answers = openTransport(NETLINK_ROUTE)
  const asked = { ...deleteLink(index), operation: `delete ${name}` }
  const removal: Removal = { asked, answers, isAwaited: true }
  try {
    // from here, also where the link is elsewhere: a socket there would keep that namespace
    if (namespace !== undefined)
      asked.payload = join(asked.payload, int32(TARGET_NETNSID, numberNamespace(answers, namespace)))
    underWay.set(by.send(answers.descriptor, acknowledged(asked)), removal)
  } catch (thrown) {
    answers.close()
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
