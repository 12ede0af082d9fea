/** What a DHCP client makes of what servers reply: offers, acknowledgements, refusals. Pure. */
import { accept, type ExchangeEvent, lose, probe, stop } from '../engine/exchange.ts'

import { readLeaseOffer } from './lease-offer.ts'
import { type Message, messageType, option } from './packet.ts'
import { discoverAgain, encoding, pause, transmit } from './transitions.ts'
import type { Action, Client, Event, Lease, State, Step } from './types.ts'

/** RFC 2131, 3.1.5: wait before asking again after a refusal of an address; here from the second one on. */
const DECLINE_PAUSE = 10_000

export function onMessage(client: Client, state: State, event: Event & { type: 'message' }): Step {
  const { message } = event
  if (message.operation !== 'reply' || message.transaction !== state.transaction)
    return { state, actions: [] }
  if (message.hardware !== client.hardware) return { state, actions: [] }
  const type = message.options.get(option.messageType)?.[0]
  if (type === messageType.offer && state.phase === 'selecting') return onOffer(client, state, event)
  if (type === messageType.acknowledge) return onAcknowledge(client, state, event)
  if (type === messageType.nak) return onRefusal(client, state, event)
  return { state, actions: [] }
}

function ignored(state: State, why: string): Step {
  return { state, actions: [{ type: 'note', what: 'ignored', why }] }
}

/** The first usable offer is taken; after a refusal, only one of the address that is in use. */
function onOffer(client: Client, state: State, event: Event & { type: 'message' }): Step {
  const offered = readLeaseOffer(event.message)
  if (typeof offered === 'string') return ignored(state, `an offer: ${offered}`)
  if (state.lease && offered.address !== state.lease.address) {
    return lose(state, state.lease, `the address was refused, and ${offered.address} offered instead`)
  }
  const offer = { ...offered, serverHardware: event.hardware }
  const asked = transmit(client, { ...state, phase: 'requesting', offer, sends: 0 }, event)
  return probe(client, asked, event)
}

function serverOf(message: Message): string {
  return message.options.get(option.serverIdentifier)?.join('.') ?? ''
}

function onAcknowledge(client: Client, state: State, event: Event & { type: 'message' }): Step {
  const { message, hardware, now } = event
  const expected = expectedAddress(state)
  if (expected === undefined) return { state, actions: [] }
  const offered = readLeaseOffer(message)
  if (typeof offered === 'string') return ignored(state, `an acknowledgement: ${offered}`)
  if (state.phase === 'requesting' && state.offer && offered.server !== state.offer.server) {
    return ignored(state, `an acknowledgement from ${offered.server}, which was not asked`)
  }
  if (offered.address !== expected)
    return ignored(state, `an acknowledgement of ${offered.address}, asked was ${expected}`)
  const lease: Lease = { ...offered, serverHardware: hardware, obtainedAt: now }
  const confirms = state.phase === 'rebooting'
  return accept(state, { lease, now, confirms }) ?? decline(client, { ...state, lease }, event)
}

/** The address that an acknowledgement must be about; undefined where none is waited for. */
function expectedAddress({ phase, offer, lease, earlierAddress }: State): string | undefined {
  if (phase === 'requesting') return offer?.address
  if (phase === 'rebooting') return earlierAddress
  return phase === 'renewing' || phase === 'rebinding' ? lease?.address : undefined
}

/** While acquiring: from the start. While held: ask once for the same address, since its user cannot be given another. */
function onRefusal(client: Client, state: State, event: Event & { type: 'message' }): Step {
  const { phase, lease, offer } = state
  const server = serverOf(event.message)
  const text = event.message.options.get(option.message)
  const why = `${server}${
    text
      ? `: ${Buffer.from(text)
          .toString()
          .replace(/[^ -~]/g, '?')}`
      : ''
  }`
  if (phase === 'rebooting')
    return stop(state, { type: 'failed', why: `${state.earlierAddress} was refused by ${why}` })
  if (phase === 'requesting' && server === offer?.server) return afterRefusal(client, state, { event, why })
  if ((phase === 'renewing' && server === lease?.server) || phase === 'rebinding') {
    const deadline = event.now + client.timing.timeout
    return afterRefusal(client, { ...state, deadline, beganAt: event.now }, { event, why })
  }
  return { state, actions: [] }
}

function afterRefusal(client: Client, state: State, { event, why }: { event: Event; why: string }): Step {
  const note: Action = { type: 'note', what: 'refused', why }
  if (state.phase === 'requesting' && !state.lease) {
    const { offer: _offer, ...rest } = state
    if (state.failures === 0) {
      // two clients were offered one address, as under load: the first refusal is no reason to wait
      const next = discoverAgain(client, { ...rest, failures: 1 }, event)
      return { state: next.state, actions: [note, ...next.actions] }
    }
    const next = pause(client, { ...rest, phase: 'selecting' }, event)
    return { state: next.state, actions: [note] }
  }
  if (state.phase === 'requesting' && state.lease)
    return lose(state, state.lease, `the address was refused by ${why}`)
  const earlierAddress = state.lease?.address
  const next = discoverAgain(client, { ...state, ...(earlierAddress ? { earlierAddress } : {}) }, event)
  return { state: next.state, actions: [note, ...next.actions] }
}

/** Tells the server that another host has the address, and asks for another one: at once the first time. */
export function decline(client: Client, state: State, event: ExchangeEvent): Step {
  const { lease, claimant, offer: _offer, probeUntil: _until, earlierAddress: _earlier, ...rest } = state
  if (!lease) return { state, actions: [] }
  const { claimant: _claimant, ...clean } = { ...rest, claimant }
  const actions: Action[] = [
    encoding.encodeAlone(client, state, { kind: 'decline', event }),
    { type: 'note', what: 'declined', why: `${lease.address} is in use by ${claimant}` },
  ]
  const declined = state.declined + 1
  if (declined > 1) {
    const wakeAt = Math.min(event.now + DECLINE_PAUSE, state.deadline)
    return { state: { ...clean, phase: 'selecting', sends: 0, declined, wakeAt }, actions }
  }
  const next = discoverAgain(client, { ...clean, declined }, event)
  return { state: next.state, actions: [...actions, ...next.actions] }
}
