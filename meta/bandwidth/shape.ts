/**
 * Limits as what the kernel has on two links, set, compared and removed. What goes to the container is shaped where it
 * leaves the host end of the pair; what comes from it is redirected to a link of its own (ifb), and shaped where it leaves that.
 */
import { isIpv6 } from '../../chain/ip/family.ts'
import {
  type Filter,
  listFilters,
  matchPrefix,
  newFilter,
  type Protocol,
} from '../../chain/linux/netlink/filter.ts'
import {
  type Bucket,
  type FoundDiscipline,
  findBucketClass,
  findDiscipline,
  handleOf,
  newBucketClass,
  newDiscipline,
  removeDiscipline,
} from '../../chain/linux/netlink/qdisc.ts'
import { batch, type Request, type Transport } from '../../chain/linux/netlink/socket.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import type { Prefix, Scope } from './limits.ts'

const ROOT = handleOf(1)
const SHAPED = handleOf(1, 1)
const DIRECT = handleOf(1, 0) // a hierarchy's own handle: past all classes
const QUEUE = handleOf(2)
const HOOK = handleOf(0xffff) // TC_H_INGRESS's handle by convention

/** Filters of both families must differ in priority; what is for every packet comes last. */
function priorityOf(protocol: Protocol, scope: Scope): number {
  return scope.subnets.length === 0 ? 1 : { ipv4: 1, ipv6: 2, all: 3 }[protocol]
}

function prefixFilter(prefix: Prefix, end: 'source' | 'destination', scope: Scope): Filter {
  const protocol = isIpv6(prefix.address) ? 'ipv6' : 'ipv4'
  return { priority: priorityOf(protocol, scope), protocol, keys: matchPrefix(prefix, end) }
}

/** Filters that choose a class of the hierarchy by where packets come from. */
function classFilters(scope: Scope): Filter[] {
  const classId = scope.only ? SHAPED : DIRECT
  return scope.subnets.map(prefix => ({ ...prefixFilter(prefix, 'source', scope), classId }))
}

/** Filters that redirect to a link by where packets go to; a match without redirection lets through. */
function redirectFilters(scope: Scope, link: number): Filter[] {
  const all: Filter = { priority: priorityOf('all', scope), protocol: 'all', keys: [], redirectTo: link }
  const chosen = scope.subnets.map(prefix => prefixFilter(prefix, 'destination', scope))
  return scope.only ? chosen.map(filter => ({ ...filter, redirectTo: link })) : [...chosen, all]
}

function disciplineRequests(link: number, bucket: Bucket, scope: Scope): Request[] {
  if (scope.subnets.length === 0)
    return [newDiscipline(link, { kind: 'tbf', ...bucket }, { handle: ROOT, parent: 'root' })]
  return [
    newDiscipline(link, { kind: 'htb', defaultClass: scope.only ? 0 : 1 }, { handle: ROOT, parent: 'root' }),
    newBucketClass(link, bucket, { classId: SHAPED, parent: ROOT }),
    newDiscipline(link, { kind: 'bfifo', limit: bucket.limit }, { handle: QUEUE, parent: SHAPED }),
    ...classFilters(scope).map(filter => newFilter(link, ROOT, filter)),
  ]
}

/** Shapes what leaves a link. What an earlier ADD left there is replaced, another program's discipline refused. */
export function shape(
  host: Transport,
  link: { index: number; name: string },
  how: { bucket: Bucket; scope: Scope },
): void {
  removeShape(host, link.index)
  const found = findDiscipline(host, link.index, 'root')
  if (found && found.handle !== 0)
    throw occupied(`${link.name} has a queueing discipline already: ${found.kind}`)
  batch(host, disciplineRequests(link.index, how.bucket, how.scope))
}

/** Sends what comes in by a link to another one. */
export function redirect(
  host: Transport,
  link: { index: number; name: string },
  how: { to: number; scope: Scope },
): void {
  removeRedirection(host, link.index, how.to)
  const found = findDiscipline(host, link.index, 'ingress')
  if (found) throw occupied(`${link.name} has a hook for incoming packets already: ${found.kind}`)
  batch(host, [
    newDiscipline(link.index, { kind: 'ingress' }, { handle: HOOK, parent: 'ingress' }),
    ...redirectFilters(how.scope, how.to).map(filter =>
      newFilter(link.index, HOOK, { ...filter, classId: SHAPED }),
    ),
  ])
}

function occupied(message: string): CniError {
  return new CniError(code.internal, message, {
    details: 'another program has put it there; `tc qdisc show` and `tc filter show` tell more (EEXIST)',
  })
}

/** Removes a discipline that this plugin, or the Go plugin, has put on a link. */
export function removeShape(host: Transport, link: number): 'removed' | 'absent' {
  const found = findDiscipline(host, link, 'root')
  if (found?.handle !== ROOT || !['tbf', 'htb'].includes(found.kind)) return 'absent'
  return removeDiscipline(host, link, 'root')
}

/** Removes the hook that redirects to a link, or to one that is gone. */
export function removeRedirection(
  host: Transport,
  link: number,
  to: number | undefined,
): 'removed' | 'absent' {
  if (findDiscipline(host, link, 'ingress')?.kind !== 'ingress') return 'absent'
  const targets = listFilters(host, link, HOOK).map(({ redirectTo }) => redirectTo)
  const foreign = targets.some(target => target !== undefined && target !== 0 && target !== to)
  if (foreign) return 'absent'
  return removeDiscipline(host, link, 'ingress')
}

/** The links that packets of these links are redirected to. */
export function redirectionTargets(host: Transport, links: readonly number[]): Set<number> {
  const targets = links.flatMap(link => listFilters(host, link, HOOK).map(({ redirectTo }) => redirectTo))
  return new Set(targets.filter(target => target !== undefined))
}

/** Says how a link's shape differs from what is expected, a sentence each. */
export function shapeDifferences(
  host: Transport,
  link: { index: number; name: string },
  { bucket, scope }: { bucket: Bucket; scope: Scope },
): string[] {
  const found = findDiscipline(host, link.index, 'root')
  const hierarchy = scope.subnets.length > 0
  const kind = hierarchy ? 'htb' : 'tbf'
  if (found?.kind !== kind)
    return [`${link.name} has ${found?.kind ?? 'no queueing discipline'} where ${kind} was`]
  if (!hierarchy) return bucketDifferences(link.name, found, bucket)
  const shaped = findBucketClass(host, link.index, SHAPED)
  const filters = listFilters(host, link.index, ROOT)
  return [
    ...(found.defaultClass === (scope.only ? 0 : 1)
      ? []
      : [`the default class of ${link.name} is ${found.defaultClass}`]),
    ...bucketDifferences(link.name, shaped, { ...bucket, limit: 0 }),
    ...filterDifferences(link.name, filters, classFilters(scope)),
  ]
}

const TICKS = 2 ** 32

function bucketDifferences(name: string, found: FoundDiscipline | undefined, expected: Bucket): string[] {
  const bucket = found?.bucket
  if (!bucket) return [`Failed to find qdisc: ${name} has no token bucket`]
  const hierarchy = found.kind === 'htb'
  // where the kernel counts by itself it may round otherwise, and shows the last 32 bits
  const ticks = hierarchy ? Math.min(expected.ticks, TICKS - 1) : expected.ticks % TICKS
  const slack = Math.max(2, expected.ticks / 1e4)
  return [
    ...(bucket.rate === expected.rate
      ? []
      : [`Rate doesn't match: that of ${name} is ${bucket.rate}, not ${expected.rate} bytes per second`]),
    ...(bucket.limit === expected.limit
      ? []
      : [`Limit doesn't match: that of ${name} is ${bucket.limit}, not ${expected.limit} bytes`]),
    ...(Math.abs(bucket.ticks - ticks) <= slack
      ? []
      : [`Buffer doesn't match: the burst of ${name} is ${bucket.ticks}, not ${ticks} ticks`]),
  ]
}

/** Says how the redirection differs from what is expected. */
export function redirectionDifferences(
  host: Transport,
  link: { index: number; name: string },
  how: { to: number; scope: Scope },
): string[] {
  const found = findDiscipline(host, link.index, 'ingress')
  if (found?.kind !== 'ingress') return [`${link.name} has no hook for incoming packets`]
  const filters = listFilters(host, link.index, HOOK).map(({ classId: _, ...rest }) => rest)
  return filterDifferences(link.name, filters, redirectFilters(how.scope, how.to))
}

function filterDifferences(name: string, found: readonly Filter[], expected: readonly Filter[]): string[] {
  const line = ({ classId, keys, priority, protocol, redirectTo }: Filter) =>
    JSON.stringify([
      priority,
      protocol,
      keys.map(({ mask, offset, value }) => [offset, mask, value]),
      classId,
      redirectTo,
    ])
  const lines = (filters: readonly Filter[]) => filters.map(line).sort().join()
  if (lines(found) === lines(expected)) return []
  return [`the filters of ${name} are not as they were: ${found.length} there, ${expected.length} expected`]
}
