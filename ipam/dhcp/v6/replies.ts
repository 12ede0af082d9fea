/** What a DHCPv6 client makes of what servers reply: offers, grants, refusals. Pure. */
import { accept, type ExchangeEvent, lose, probe, stop } from '../engine/exchange.ts'

import { describe, type LeaseOffer, leaseOfferIn, type Reply, readReply, type Status } from './lease-offer.ts'
import { messageType, statusCode } from './packet.ts'
import { begin, encoding } from './transitions.ts'
import type { Action, Client, Event, Lease, State, Step } from './types.ts'

/**
 * How long offers are collected. RFC 8415 (18.2.1) says for a second, unless one has the highest preference; servers on a
 * link answer within milliseconds, and a container would wait for that second each time.
 */
const COLLECT = 200
const HIGHEST_PREFERENCE = 255
/** Before asking again after a server has granted nothing, or what another host has: from the second time on. */
const PAUSE = 1000

type MessageEvent = Event & { type: 'message' }

export function onMessage(client: Client, state: State, event: MessageEvent): Step {
  const { message } = event
  if (message.transaction !== state.transaction) return { state, actions: [] }
  const expected = state.phase === 'soliciting' ? messageType.advertise : messageType.reply
  if (message.type !== expected || !isWaiting(state)) return { state, actions: [] }
  const reply = readReply(client, message)
  if (typeof reply === 'string') return ignored(state, reply)
  if (reply.server === state.excludedServer) return { state, actions: [] }
  const next = reply.longestSolicit === undefined ? state : { ...state, longestSolicit: reply.longestSolicit }
  if (state.phase === 'soliciting') return onOffer(client, next, { reply, event })
  if (state.phase === 'informing') return stop(next, { type: 'informed', reply })
  return onReply(client, next, { reply, event })
}

function isWaiting({ phase, sends }: State): boolean {
  return sends > 0 && phase !== 'bound' && phase !== 'verifying' && phase !== 'stopped'
}

function ignored(state: State, why: string): Step {
  return { state, actions: [{ type: 'note', what: 'ignored', why: `an answer: ${why}` }] }
}

interface Said<E extends Event = Event> {
  reply: Reply
  event: E
}

/** The offer of the highest preference is taken, the first of equal ones. */
function onOffer(client: Client, state: State, { reply, event }: Said): Step {
  const offered = leaseOfferIn(reply, state.earlierAddress)
  if (typeof offered === 'string') return ignored({ ...state, refusal: offered }, offered)
  const better = !state.offer || offered.preference > state.offer.preference
  const collectUntil = state.collectUntil ?? event.now + COLLECT
  const next: State = { ...state, ...(better ? { offer: offered } : {}), collectUntil }
  if (offered.preference === HIGHEST_PREFERENCE) return request(client, next, event)
  return { state: { ...next, wakeAt: Math.min(collectUntil, state.deadline) }, actions: [] }
}

/** Asks for the chosen offer, and whether somebody else has the address. */
export function request(client: Client, state: State, event: ExchangeEvent): Step {
  const { offer, collectUntil: _until, ...rest } = state
  if (!offer) return { state, actions: [] }
  const asked = begin(client, { ...rest, phase: 'requesting', offer }, event)
  return probe(client, asked, event)
}

function onReply(client: Client, state: State, said: Said): Step {
  const { reply, event } = said
  const { phase, offer, lease, earlierAddress } = state
  const asked = phase === 'requesting' ? offer?.server : phase === 'renewing' ? lease?.server : undefined
  if (asked !== undefined && reply.server !== asked) return ignored(state, 'its server was not asked')
  const refusal = refusalIn(reply)
  if (refusal) return onRefusal(client, state, { ...said, refusal })
  const expected =
    phase === 'requesting' ? offer?.address : phase === 'confirming' ? earlierAddress : lease?.address
  const offered = leaseOfferIn(reply, expected)
  if (typeof offered === 'string') return ignored(state, offered)
  if (offered.address !== expected) return otherAddress(client, state, { offered, expected, event })
  const got: Lease = { ...offered, obtainedAt: event.now }
  const confirms = phase === 'confirming'
  return (
    accept(state, { lease: got, now: event.now, confirms }) ??
    decline(client, { ...state, lease: got }, event)
  )
}

/** Acquiring, a server may grant another address than it has offered; while one is held, its user cannot be given another. */
function otherAddress(
  client: Client,
  state: State,
  { offered, expected, event }: { offered: LeaseOffer; expected: string | undefined; event: Event },
): Step {
  if (state.phase !== 'requesting')
    return ignored(state, `it grants ${offered.address}, asked was ${expected}`)
  if (state.lease)
    return withoutThatServer(client, state, { why: `it grants ${offered.address} instead`, event })
  return solicitAgain(client, { ...state, offer: offered, earlierAddress: offered.address }, event)
}

function refusalIn({ status, association }: Reply): Status | undefined {
  return [status, association?.status].find(each => each !== undefined && each.code !== statusCode.success)
}

function onRefusal(client: Client, state: State, { refusal, event }: Said & { refusal: Status }): Step {
  const why = describe(refusal)
  const isFinal = refusal.code !== statusCode.unspecified && refusal.code !== statusCode.useMulticast
  if (!isFinal) return ignored(state, why)
  const note: Action = { type: 'note', what: 'refused', why }
  if (state.phase === 'confirming')
    return stop(state, { type: 'failed', why: `${state.earlierAddress} was refused: ${why}` })
  const next =
    state.phase !== 'requesting'
      ? requestAgain(client, state, event)
      : state.lease
        ? withoutThatServer(client, state, { why, event })
        : solicitAgain(client, { ...state, refusal: why }, event)
  return { state: next.state, actions: [note, ...next.actions] }
}

/** A server that knows nothing of a lease that is held is asked to make it again (RFC 8415, 18.2.10.1): for the same address. */
function requestAgain(client: Client, state: State, event: MessageEvent | Event): Step {
  const { lease } = state
  const server = event.type === 'message' ? readReply(client, event.message) : undefined
  if (!lease || server === undefined || typeof server === 'string') return { state, actions: [] }
  const offer: LeaseOffer = { ...lease, server: server.server }
  return request(client, { ...state, offer, deadline: event.now + client.timing.timeout }, event)
}

/**
 * Whoever gave the lease may take it; another server that will not have it is passed over, for the one that gave it may
 * still come back.
 */
export function withoutThatServer(
  client: Client,
  state: State,
  { why, event }: { why: string; event: ExchangeEvent },
): Step {
  const { lease, offer, ...rest } = state
  if (!lease) return { state, actions: [] }
  if (offer?.server === lease.server)
    return lose(state, lease, `its server does not grant it any more: ${why}`)
  return begin(
    client,
    { ...rest, phase: 'rebinding', lease, ...(offer ? { excludedServer: offer.server } : {}) },
    event,
  )
}

/** From the start: at once the first time. */
export function solicitAgain(client: Client, state: State, event: ExchangeEvent): Step {
  const { offer: _offer, probeUntil: _until, claimant: _claimant, collectUntil: _collect, ...rest } = state
  const declined = state.declined + 1
  if (declined === 1) return begin(client, { ...rest, phase: 'soliciting', declined }, event)
  const wakeAt = Math.min(event.now + PAUSE, state.deadline)
  return { state: { ...rest, phase: 'soliciting', sends: 0, declined, wakeAt }, actions: [] }
}

/** Tells the server that another host has the address, and asks for another one. */
export function decline(client: Client, state: State, event: ExchangeEvent): Step {
  const { lease, claimant, earlierAddress: _earlier, ...rest } = state
  if (!lease) return { state, actions: [] }
  const next = solicitAgain(client, rest, event)
  return {
    state: next.state,
    actions: [
      encoding.encodeAlone(client, state, { kind: 'decline', event }),
      { type: 'note', what: 'declined', why: `${lease.address} is in use by ${claimant}` },
      ...next.actions,
    ],
  }
}
