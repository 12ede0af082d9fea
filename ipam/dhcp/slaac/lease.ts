/**
 * What an attachment has of IPv6, as a state machine: a router is asked for, what it advertises says how addresses come to
 * be, and what was advertised and leased is followed until it ends. Pure, as in IPv4: events in, a new state and actions out.
 *
 * The kernel takes no part (accept_ra is 0): the plugin that asked puts addresses and routes on the link, and would find them
 * there already. So their one owner is the daemon, which deprecates and removes them when their time is over.
 */
import type { NewEvent } from '../engine/event-loop.ts'
import { step as dhcpStep } from '../v6/lease.ts'
import { type Event as DhcpEvent, initialState as initialDhcp } from '../v6/types.ts'
import { afterSilence, applyLifetimes, forward, nextChange } from './lifetimes.ts'
import { addressUnder, autonomousPrefixes, learn, prefixLengthOf, routesAt } from './network.ts'
import { type Client, type Event, type Held, initialState, type State, type Step } from './types.ts'

/** RFC 4861, 10: a router that there is answers one of three solicitations within four seconds. */
const SOLICITATIONS = 3
const SOLICITATION_INTERVAL = 4000

/** One step. Events that mean nothing in the present phase change nothing. */
export function step(client: Client, state: State, event: Event): Step {
  const next = respond(client, state, event)
  if (next.state.phase === 'acquiring') return withWake(completed(next, event), event)
  return withWake(next, event)
}

function respond(client: Client, state: State, event: Event): Step {
  switch (event.type) {
    case 'start': {
      const { linkLocal, earlierAddress } = event
      return begin(
        client,
        { ...initialState, linkLocal, ...(earlierAddress ? { earlierAddress } : {}) },
        event,
      )
    }
    case 'confirm': {
      const { linkLocal, addresses } = event
      return begin(client, { ...initialState, linkLocal, how: 'confirmed', had: addresses }, event)
    }
    case 'adopt':
      return adopt(client, event)
    case 'timer':
      return state.wakeAt !== undefined && event.now >= state.wakeAt
        ? onTimer(client, state, event)
        : { state, actions: [] }
    case 'advertisement':
      return onAdvertisement(client, state, event)
    case 'message':
      return toDhcp(client, state, at(event, { type: 'message', message: event.message }))
    case 'conflict':
      return onConflict(client, state, event)
    case 'release':
      return release(client, state, event)
  }
}

/** An event of DHCPv6 that is part of another one. */
function at({ now, random }: Event, event: NewEvent<DhcpEvent>): DhcpEvent {
  return { ...event, now, random } as DhcpEvent
}

/** What a step of DHCPv6 does is part of this one. */
function toDhcp(client: Client, state: State, event: DhcpEvent): Step {
  if (!state.dhcp && !['start', 'confirm', 'inform', 'adopt'].includes(event.type))
    return { state, actions: [] }
  const before = state.dhcp ?? initialDhcp
  const next = dhcpStep(client, before, event)
  return forward({ ...state, dhcp: next.state }, next.actions, event.now)
}

/** Two steps in a row as one. */
function then(first: Step, next: (state: State) => Step): Step {
  if (first.state.phase === 'stopped') return first
  const second = next(first.state)
  return { state: second.state, actions: [...first.actions, ...second.actions] }
}

/** Where DHCPv6 is asked for in any case, it does not wait for a router. */
function begin(client: Client, state: State, event: Event): Step {
  const asked = solicit(client, { ...state, phase: 'acquiring' }, event)
  return client.mode === 'dhcp' ? then(asked, next => askServer(client, next, event)) : asked
}

/** Asks for an address, or for the one that is to be confirmed: that which was not made of a prefix. */
function askServer(client: Client, state: State, event: Event): Step {
  const { had, lease, earlierAddress } = state
  if (!had)
    return toDhcp(client, state, at(event, { type: 'start', ...(earlierAddress ? { earlierAddress } : {}) }))
  const address = had.find(each => !lease.held.some(held => held.address === each))
  if (address !== undefined) return toDhcp(client, state, at(event, { type: 'confirm', address }))
  return { state: { ...state, plan: { slaac: true, dhcp: false, inform: false } }, actions: [] } // it had none
}

function intervalOf({ timing }: Client): number {
  return Math.min(SOLICITATION_INTERVAL, timing.timeout)
}

function solicit(client: Client, state: State, { now }: Event): Step {
  const solicitAt = now + intervalOf(client)
  return {
    state: { ...state, solicitations: state.solicitations + 1, solicitAt },
    actions: [{ type: 'solicit' }],
  }
}

/** After a restart, a router is asked what holds now, and the server when it would have been. */
function adopt(client: Client, event: Event & { type: 'adopt' }): Step {
  const { now } = event
  const lease = afterSilence(event.lease, now + SOLICITATIONS * intervalOf(client))
  const state: State = { ...initialState, phase: 'held', lease, savedAt: now }
  const asked = solicit(client, state, event)
  const { dhcp } = lease
  const leased = dhcp
    ? then(asked, next => toDhcp(client, next, at(event, { type: 'adopt', lease: dhcp })))
    : asked
  return then(leased, next => applyLifetimes(next, now))
}

function onTimer(client: Client, state: State, event: Event): Step {
  const { now } = event
  let next: Step = { state, actions: [] }
  if (now >= (state.solicitAt ?? Number.POSITIVE_INFINITY)) {
    next = state.solicitations < SOLICITATIONS ? solicit(client, state, event) : withoutRouter(client, state)
  }
  if (now >= (state.dhcp?.wakeAt ?? Number.POSITIVE_INFINITY)) {
    next = then(next, each => toDhcp(client, each, at(event, { type: 'timer' })))
  }
  return then(next, each => applyLifetimes(each, now))
}

/** Addresses of a DHCPv6 server are of use without a router: on the link. */
function withoutRouter({ mode }: Client, state: State): Step {
  const { solicitAt: _at, ...rest } = state
  if (state.phase === 'held') return { state: rest, actions: [] }
  if (mode === 'dhcp')
    return { state: { ...rest, plan: { dhcp: true, inform: false, slaac: false } }, actions: [] }
  const why = state.useless ?? 'no router has answered a solicitation'
  return fail(rest, `no IPv6 address: ${why}`)
}

function fail(state: State, why: string): Step {
  const { wakeAt: _wake, solicitAt: _at, ...rest } = state
  return { state: { ...rest, phase: 'stopped', reason: why }, actions: [{ type: 'failed', why }] }
}

function onAdvertisement(client: Client, state: State, event: Event & { type: 'advertisement' }): Step {
  const { advertisement, now } = event
  if (state.phase !== 'acquiring' && state.phase !== 'held') return { state, actions: [] }
  const network = learn(state.lease.network, advertisement, now)
  const known: State = { ...state, lease: { ...state.lease, network } }
  if (state.phase === 'held') {
    const { solicitAt: _at, ...rest } = known
    return applyLifetimes(rest, now)
  }
  if (state.plan) return { state: known, actions: [] }
  const { router, managed, other } = advertisement
  const { mode } = client
  const slaac = mode !== 'dhcp' && autonomousPrefixes(network, now).length > 0
  const dhcp = mode === 'dhcp' || (mode === 'auto' && managed)
  if (!slaac && !dhcp) {
    const offers = mode === 'slaac' ? 'no autonomous prefix' : 'neither an autonomous prefix nor DHCPv6'
    const useless = `router ${router} advertises ${offers}`
    return { state: { ...known, useless }, actions: [{ type: 'note', what: 'ignored', why: useless }] }
  }
  const { solicitAt: _at, ...rest } = known
  return carryOutPlan(
    client,
    { ...rest, plan: { dhcp, slaac, inform: mode === 'auto' && other && !dhcp } },
    event,
  )
}

function carryOutPlan(client: Client, state: State, event: Event): Step {
  const { plan } = state
  const made = plan?.slaac ? withAddresses(client, state, event) : { state, actions: [] }
  if (plan?.inform) return then(made, next => toDhcp(client, next, at(event, { type: 'inform' })))
  return plan?.dhcp && !state.dhcp ? then(made, next => askServer(client, next, event)) : made
}

/** Makes addresses of prefixes, and asks whether somebody has them. */
function withAddresses({ timing }: Client, state: State, { now }: Event): Step {
  const made = autonomousPrefixes(state.lease.network, now).map(
    ({ prefix, length }): Held => ({
      address: addressUnder({ prefix }, state.linkLocal),
      prefixLength: length,
      prefix,
      state: 'preferred',
    }),
  )
  // of confirmed ones those that the container has: a prefix may have come since
  const held = state.had ? made.filter(({ address }) => state.had?.includes(address)) : made
  if (held.length === 0 && state.plan?.dhcp) return { state, actions: [] }
  if (held.length === 0) {
    return fail(state, `${state.had?.join(', ')}: no router advertises a prefix of it`)
  }
  const next = { ...state, lease: { ...state.lease, held } }
  if (state.had || timing.probe === 0) return { state: next, actions: [] }
  return {
    state: { ...next, probeUntil: now + timing.probe },
    actions: held.map(({ address }) => ({ type: 'probe', address })),
  }
}

/** Another interface with the same identifier: there is no other address to be had. */
function onConflict(client: Client, state: State, event: Event & { type: 'conflict' }): Step {
  const { address, hardware } = event
  if (state.phase !== 'acquiring') return { state, actions: [] }
  if (!state.lease.held.some(each => each.address === address))
    return toDhcp(client, state, at(event, { type: 'conflict', address, hardware }))
  const given = toDhcp(client, state, at(event, { type: 'release' }))
  const failed = fail(given.state, `no IPv6 address: ${address} is in use by ${hardware}`)
  return { state: failed.state, actions: [...given.actions, ...failed.actions] }
}

/** Acquired, once every part of the plan has come to its end. */
function completed(step: Step, { now }: Event): Step {
  const { state } = step
  const { plan, dhcp, lease } = state
  const isProbed = now >= (state.probeUntil ?? 0)
  const isLeased = !plan?.dhcp || lease.dhcp !== undefined
  const isTold = !plan?.inform || dhcp?.phase === 'stopped'
  if (!plan || !isProbed || !isLeased || !isTold) return step
  const leased: Held[] = lease.dhcp
    ? [
        {
          address: lease.dhcp.address,
          prefixLength: prefixLengthOf(lease.network, lease.dhcp.address, now),
          state: 'preferred',
        },
      ]
    : []
  const held = [...leased, ...lease.held]
  const routes = routesAt(
    lease.network,
    held.map(({ address }) => address),
    now,
  )
  const whole = { ...lease, held, routes }
  const { probeUntil: _until, ...rest } = state
  return {
    state: { ...rest, phase: 'held', lease: whole, savedAt: now },
    actions: [...step.actions, { type: 'bound', lease: whole, how: state.how }],
  }
}

/** The next thing that has a time. */
function withWake({ state, actions }: Step, { now }: Event): Step {
  const { wakeAt: _wake, ...rest } = state
  if (state.phase === 'stopped') return { state: rest, actions }
  const probed = (state.probeUntil ?? 0) > now ? state.probeUntil : undefined // it may be over before the rest is there
  const times = [state.solicitAt, probed, state.dhcp?.wakeAt, nextChange(state, now)]
  const wakeAt = Math.min(...times.map(each => each ?? Number.POSITIVE_INFINITY))
  return { state: Number.isFinite(wakeAt) ? { ...rest, wakeAt } : rest, actions }
}

function release(client: Client, state: State, event: Event): Step {
  const given = toDhcp(client, state, at(event, { type: 'release' }))
  const { wakeAt: _wake, solicitAt: _at, ...rest } = given.state
  const sent = given.actions.filter(({ type }) => type === 'send')
  return {
    state: { ...rest, phase: 'stopped', reason: 'released' },
    actions: [...sent, { type: 'released' }],
  }
}
