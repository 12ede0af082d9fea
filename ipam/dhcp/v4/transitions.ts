/** What a DHCP client does in more than one situation: sends, pauses, settles, stops. Pure. */

import { pauseAfter } from '../engine/timing.ts'
import { ANY_ADDRESS, BROADCAST_ADDRESS, BROADCAST_HARDWARE } from '../link/frame.ts'
import { composeMessage } from './message.ts'
import type { Action, Client, Destination, Event, Kind, Lease, Phase, State, Step } from './types.ts'

const TO_ALL: Destination = { hardware: BROADCAST_HARDWARE, address: BROADCAST_ADDRESS }
const SHORTEST_RETRY = 250
export const SENDS_PER_EXCHANGE = 3

export function draw({ random }: Event): number {
  return Math.floor(random() * 0x1_0000_0000)
}

/** Sends what the phase sends, and waits for twice as long as the last time. */
export function transmit(client: Client, state: State, event: Event): Step {
  const kind = kinds[state.phase]
  if (!kind) return { state, actions: [] }
  const wait = client.timing.timeout * 2 ** state.sends
  const wakeAt = event.now + Math.min(wait, shareOf(state, event.now))
  return {
    state: { ...state, sends: state.sends + 1, wakeAt },
    actions: [sendAction(client, state, kind, event.now)],
  }
}

const kinds: Partial<Record<Phase, Kind>> = {
  selecting: 'discover',
  requesting: 'request',
  rebooting: 'confirm',
  renewing: 'renew',
  rebinding: 'rebind',
}

/** What may be waited for at most: of a short lease, a third of what is left of the phase; of an acquisition, until its end. */
function shareOf(state: State, now: number): number {
  const end = phaseEnd(state)
  if (!state.lease) return Math.max(0, end - now)
  return Math.min(Math.max(SHORTEST_RETRY, (end - now) / 3), Math.max(0, end - now))
}

/** When the phase ends if nothing comes: T2, expiry, or the acquisition's deadline. */
function phaseEnd({ phase, lease, deadline }: State): number {
  if (!lease) return deadline
  if (phase === 'bound') return lease.obtainedAt + lease.renewalSeconds * 1000
  if (phase === 'renewing') return lease.obtainedAt + lease.rebindingSeconds * 1000
  const expiry = lease.obtainedAt + lease.leaseSeconds * 1000
  return phase === 'rebinding' ? expiry : Math.min(deadline, expiry)
}

export function sendAction(client: Client, state: State, kind: Kind, now: number): Action {
  const message = composeMessage(client, state, kind, now)
  const held = state.lease
  if ((kind === 'renew' || kind === 'release') && held) {
    return {
      type: 'send',
      kind,
      message,
      from: held.address,
      to: { hardware: held.serverHardware, address: held.server },
    }
  }
  return {
    type: 'send',
    kind,
    message,
    from: kind === 'rebind' && held ? held.address : ANY_ADDRESS,
    to: TO_ALL,
  }
}

/** A new DISCOVER exchange of the same acquisition. */
export function discoverAgain(client: Client, state: State, event: Event): Step {
  const { offer: _offer, claimant: _claimant, probeUntil: _until, ...rest } = state
  return transmit(client, { ...rest, phase: 'selecting', transaction: draw(event), sends: 0 }, event)
}

export function sleepUntilRenewal(state: State, lease: Lease): Step {
  const { wakeAt: _wake, ...rest } = state
  const renewal = lease.obtainedAt + lease.renewalSeconds * 1000
  return {
    state: {
      ...rest,
      phase: 'bound',
      sends: 0,
      failures: 0,
      ...(Number.isFinite(renewal) ? { wakeAt: renewal } : {}),
    },
    actions: [],
  }
}

/** After an exchange without answer: longer each time; with a lease, half of what is left (RFC 2131, 4.4.5). */
export function pause(client: Client, state: State, event: Event): Step {
  const left = phaseEnd(state) - event.now
  const backoff = pauseAfter(client.timing, state.failures, event.random)
  const wait = state.lease ? Math.max(backoff, left / 2) : backoff
  return {
    state: {
      ...state,
      sends: 0,
      failures: state.failures + 1,
      wakeAt: event.now + Math.min(wait, Math.max(0, left)),
    },
    actions: [],
  }
}

export function settle(state: State, how: 'acquired' | 'confirmed' | 'renewed'): Step {
  const { offer: _offer, probeUntil: _until, claimant: _claimant, lease, ...rest } = state
  if (!lease) return { state, actions: [] }
  const { state: bound } = sleepUntilRenewal({ ...rest, lease }, lease)
  return { state: bound, actions: [{ type: 'bound', lease, how }] }
}

export function stop(state: State, last: Action, before: Action[] = []): Step {
  const { wakeAt: _wake, ...rest } = state
  const reason = 'why' in last ? last.why : 'released'
  return { state: { ...rest, phase: 'stopped', reason }, actions: [...before, last] }
}

export function lose(state: State, lease: Lease, why: string): Step {
  return stop(state, { type: 'lost', lease, why })
}

export function returnOffer(client: Client, state: State, { now }: Event): Action[] {
  if (!state.offer || state.phase !== 'requesting') return []
  const lease: Lease = { ...state.offer, obtainedAt: now }
  return [sendAction(client, { ...state, lease }, 'release', now)]
}
