/** The lifetimes of what was advertised and leased: which addresses are still to be used, which routes hold, what is to be saved. Pure. */
import type { AddressState, NetworkRoute } from '../link/ipv6.ts'
import type { Action as DhcpAction } from '../v6/types.ts'
import { DEFAULT_ROUTE, hasRoute, nextEnd, routesAt } from './network.ts'
import type { Action, Held, Lease, State, Step } from './types.ts'

/** What DHCPv6 does, as a part of the whole. */
export function forward(state: State, actions: readonly DhcpAction[], now: number): Step {
  let next: Step = { state, actions: [] }
  for (const action of actions) {
    if (next.state.phase === 'stopped') return next
    const one = forwardOne(next.state, action, now)
    next = { state: one.state, actions: [...next.actions, ...one.actions] }
  }
  return next
}

function forwardOne(state: State, action: DhcpAction, now: number): Step {
  const { lease, plan } = state
  switch (action.type) {
    case 'send':
    case 'probe':
    case 'note':
      return { state, actions: [action] }
    case 'bound': {
      const next: State = { ...state, lease: { ...lease, dhcp: action.lease } }
      if (state.phase !== 'held') return { state: next, actions: [] }
      const followed = applyLifetimes(next, now)
      const bound: Action = { type: 'bound', lease: followed.state.lease, how: 'renewed' }
      return {
        state: { ...followed.state, savedAt: now },
        actions: [...withoutSaving(followed.actions), bound],
      }
    }
    case 'informed': {
      const { nameServers, search } = action.reply
      return {
        state: { ...state, lease: { ...lease, otherConfiguration: { nameServers, search } } },
        actions: [],
      }
    }
    case 'failed':
      if (plan?.inform) return { state, actions: [{ type: 'note', what: 'ignored', why: action.why }] }
      return stopped(state, { type: 'failed', why: action.why })
    case 'lost':
      return lostByServer(state, action.why, now)
    case 'released':
      return { state, actions: [] }
  }
}

function withoutSaving(actions: readonly Action[]): Action[] {
  return actions.filter(({ type }) => type !== 'bound')
}

function stopped(state: State, last: Action & { why: string }): Step {
  return { state: { ...state, phase: 'stopped', reason: last.why }, actions: [last] }
}

/** An address of a server has gone for good; those that were made of prefixes stay. */
function lostByServer(state: State, why: string, now: number): Step {
  const { dhcp, ...lease } = state.lease
  if (state.phase !== 'held') return stopped(state, { type: 'failed', why })
  const next = applyLifetimes({ ...state, lease, reason: why }, now)
  const isToldHere = (action: Action) => action.type === 'note' && action.address === dhcp?.address
  const actions = next.actions.filter(action => !isToldHere(action))
  const last = { why, ...(dhcp ? { address: dhcp.address } : {}) }
  if (lease.held.some(({ prefix }) => prefix !== undefined))
    return { state: next.state, actions: [...actions, { type: 'note', what: 'lost', ...last }] }
  return {
    state: { ...next.state, phase: 'stopped' },
    actions: [...withoutSaving(actions), { type: 'lost', ...last }],
  }
}

/** Compares what the container was given with what holds now. */
export function applyLifetimes(state: State, now: number): Step {
  if (state.phase !== 'held') return { state, actions: [] }
  const { lease } = state
  const held = lease.held.map(each => ({ ...each, state: addressStateAt(each, lease, now) }))
  const changed = held.filter(({ state }, index) => state !== lease.held[index]?.state)
  const present = held.filter(({ state }) => state !== 'gone').map(({ address }) => address)
  const routes = routesAt(lease.network, present, now)
  const added = routes.filter(each => !hasRoute(lease.routes, each))
  const removed = lease.routes.filter(each => !hasRoute(routes, each))
  const next: Lease = { ...lease, held, routes }
  const actions: Action[] = changed.flatMap(each => [{ type: 'address', held: each }, noteOf(each)])
  if (added.length + removed.length > 0)
    actions.push(
      { type: 'routes', added, removed },
      { type: 'note', what: 'routed', why: changesText(added, removed) },
    )
  const isStale = actions.length > 0 || now - state.savedAt >= shortestLife(next, now) / 4
  if (!isStale) return { state: { ...state, lease: next }, actions }
  const saved: Action = { type: 'bound', lease: next, how: 'refreshed' }
  return { state: { ...state, lease: next, savedAt: now }, actions: [...actions, saved] }
}

/**
 * A lease after a time in which routers were not heard, as over a restart: what the container has may have been advertised again
 * since, and holds until `until` at least, when routers will have said so.
 */
export function afterSilence({ network, ...lease }: Lease, until: number): Lease {
  const has = (destination: string, router?: string) =>
    hasRoute(lease.routes, router === undefined ? { destination } : { destination, router })
  const isHeld = (prefix: string, length: number) =>
    lease.held.some(each => each.prefix === prefix && each.prefixLength === length && each.state !== 'gone')
  const lasting = <T extends { until: number }>(each: T) => ({ ...each, until: Math.max(each.until, until) })
  const routers = network.routers.map(each => (has(DEFAULT_ROUTE, each.address) ? lasting(each) : each))
  const routes = network.routes.map(each => (has(each.destination, each.router) ? lasting(each) : each))
  const prefixes = network.prefixes.map(each =>
    has(`${each.prefix}/${each.length}`) || isHeld(each.prefix, each.length)
      ? { ...each, validUntil: Math.max(each.validUntil, until) }
      : each,
  )
  return { ...lease, network: { ...network, routers, routes, prefixes } }
}

function addressStateAt({ prefix, prefixLength }: Held, { network, dhcp }: Lease, now: number): AddressState {
  const advertised = network.prefixes.find(each => each.prefix === prefix && each.length === prefixLength)
  const end = (seconds: number) => (dhcp?.obtainedAt ?? 0) + seconds * 1000
  const { validUntil, preferredUntil } =
    prefix !== undefined
      ? (advertised ?? { validUntil: 0, preferredUntil: 0 })
      : dhcp
        ? { validUntil: end(dhcp.validSeconds), preferredUntil: end(dhcp.preferredSeconds) }
        : { validUntil: 0, preferredUntil: 0 }
  return validUntil <= now ? 'gone' : preferredUntil <= now ? 'deprecated' : 'preferred'
}

const reasons: Readonly<Record<AddressState, string>> = {
  preferred: 'it is to be used again',
  deprecated: 'its preferred lifetime is over',
  gone: 'its valid lifetime is over',
}

function noteOf({ address, state }: Held): Action {
  return { type: 'note', what: state === 'gone' ? 'lost' : state, why: reasons[state], address }
}

function changesText(added: readonly NetworkRoute[], removed: readonly NetworkRoute[]): string {
  const say = ({ destination, router }: NetworkRoute) => `${destination}${router ? ` via ${router}` : ''}`
  return [...removed.map(each => `not ${say(each)}`), ...added.map(say)].join(', ')
}

/** How long, from now, the first of the held addresses lives. */
function shortestLife({ held, network }: Lease, now: number): number {
  const ends = network.prefixes
    .filter(({ prefix, validUntil }) => validUntil > now && held.some(each => each.prefix === prefix))
    .map(({ validUntil }) => validUntil)
  return Math.min(...ends, Number.POSITIVE_INFINITY) - now
}

/** When what `applyLifetimes` looks at changes next by itself. */
export function nextChange({ phase, lease }: State, now: number): number {
  if (phase !== 'held') return Number.POSITIVE_INFINITY
  const { dhcp, network } = lease
  const preferredUntil = dhcp ? dhcp.obtainedAt + dhcp.preferredSeconds * 1000 : 0
  return Math.min(preferredUntil > now ? preferredUntil : Number.POSITIVE_INFINITY, nextEnd(network, now))
}

/** Why the container has not all that it was given; undefined when it has. */
export function problemOf({ lease, reason }: State): string | undefined {
  const gone = lease.held.filter(({ state }) => state === 'gone').map(({ address }) => address)
  return gone.length > 0
    ? `${gone.join(', ')}: ${reason ?? 'no router advertises the prefix any longer'}`
    : undefined
}
