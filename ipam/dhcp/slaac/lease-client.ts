/**
 * Keeps what one attachment has of IPv6: hears routers for as long as it lives, DHCPv6 servers while an answer is waited for,
 * and carries out what the state machine says.
 */

import { CniError, code } from '../../../chain/protocol/error.ts'
import { PacketError } from '../codec.ts'
import { createEventLoop, type EventLoop, type LeaseContext, type NewEvent } from '../engine/event-loop.ts'
import { bringUp, type ClientLink, type FrameSocket } from '../link/client-link.ts'
import {
  applyAddressState,
  changeRoutes,
  isPassing,
  linkLocalAddress,
  linkLocalNow,
  openNeighbourSocket,
  openRouterSocket,
  openServerSocket,
  takeOverLink,
  tellServers,
} from '../link/ipv6.ts'
import { neighbourClaimant, neighbourProbe } from '../link/neighbour.ts'

import { decodeMessage, encodeMessage } from '../v6/packet.ts'
import { decodeAdvertisement, encodeSolicitation } from './advertisement.ts'
import { step } from './lease.ts'
import { type Action, type Client, type Event, initialState, type Lease, type State } from './types.ts'

export interface LeaseClient {
  clientLink: ClientLink
  state(): State
  isClosed(): boolean
  /** What there is, once it is; throws why there is nothing. */
  ready(): Promise<Lease>
  acquire(earlierAddress: string | undefined, about: { fresh: boolean }): Promise<Lease>
  /** Finds out whether addresses are still the container's; never takes others. */
  confirm(addresses: string[]): Promise<Lease>
  /** Goes on with what there was before a restart. */
  adopt(lease: Lease): void
  /** Gives back what a server gave, also in the middle of an acquisition. */
  release(): void
  /** Lets go without giving anything back. */
  close(): void
}

const CARRIER_WAIT = 2000
/** Duplicate detection of a link-local address that was there before us takes a second, and a random one before it. */
const ADDRESS_WAIT = 3000
const REOPEN = 1000
const PROBES = 3

/** What a lease client has in hand. */
interface Work {
  readonly clientLink: ClientLink
  readonly client: Client
  readonly priority: number
  readonly context: LeaseContext<Lease>
  readonly loop: EventLoop<State, Event, Lease>
  routers?: FrameSocket | undefined
  servers?: FrameSocket | undefined
  neighbours?: FrameSocket | undefined
  probed: string[]
  timers: Set<Timer>
}

/** Makes a lease client. `priority` is the metric of the routes; 0 says none. */
export function createLeaseClient(
  clientLink: ClientLink,
  client: Client,
  { context, priority }: { context: LeaseContext<Lease>; priority: number },
): LeaseClient {
  const loop: EventLoop<State, Event, Lease> = createEventLoop<State, Event, Action, Lease>(clientLink, {
    initial: initialState,
    step: (state, event) => step(client, state, event),
    carryOut: action => carryOut(work, action),
    closeUnneeded: state => closeUnneeded(work, state),
    addressOf: ({ lease }) => lease.held.map(({ address }) => address).join(', '),
    context,
    retry: client.timing.timeout,
  })
  const work: Work = { clientLink, client, priority, context, loop, probed: [], timers: new Set() }
  const begin = (about: { fresh: boolean }, event: (linkLocal: string) => NewEvent<Event>) =>
    loop.begin(async () => {
      takeOverLink(clientLink, about)
      await bringUp(clientLink, CARRIER_WAIT)
      const linkLocal = await linkLocalAddress(clientLink, ADDRESS_WAIT)
      if (!loop.isClosed()) hearRouters(work)
      return event(linkLocal)
    })
  return {
    clientLink,
    state: loop.state,
    isClosed: loop.isClosed,
    ready: () => loop.outcome.promise,
    acquire: (earlierAddress, about) =>
      begin(about, linkLocal => ({
        type: 'start',
        linkLocal,
        ...(earlierAddress === undefined ? {} : { earlierAddress }),
      })),
    confirm: addresses => begin({ fresh: false }, linkLocal => ({ type: 'confirm', linkLocal, addresses })),
    adopt(lease) {
      loop.outcome.resolve(lease)
      loop.attempt(() => takeOverLink(clientLink, { fresh: false }))
      hearRouters(work)
      loop.dispatch({ type: 'adopt', lease })
    },
    release: () => loop.dispatch({ type: 'release' }),
    close: loop.close,
  }
}

/** No sockets where no answer is waited for; routers are heard until the end, when there is no state. */
function closeUnneeded(work: Work, state: State | undefined): void {
  const dhcp = state?.dhcp
  const probes = state?.phase === 'acquiring' && (state.probeUntil ?? dhcp?.probeUntil) !== undefined
  if (!probes) {
    work.neighbours?.close()
    work.neighbours = undefined
    work.probed = []
  }
  if (dhcp === undefined || ['bound', 'verifying', 'stopped'].includes(dhcp.phase)) {
    work.servers?.close()
    work.servers = undefined
  }
  if (state) return
  work.routers?.close()
  work.routers = undefined
  for (const timer of work.timers) clearTimeout(timer)
}

function after(work: Work, milliseconds: number, body: () => unknown): void {
  const timer = setTimeout(() => {
    work.timers.delete(timer)
    if (!work.loop.isClosed()) work.loop.attempt(body)
  }, milliseconds)
  work.timers.add(timer)
}

/** A packet socket fails when its link goes down; the next one, opened at once, hears when it comes up again. */
function hearRouters(work: Work, delay = 0): void {
  const failed = () => {
    work.routers = undefined
    after(work, delay, () => work.loop.isStillThere() && hearRouters(work, REOPEN))
  }
  work.routers = openRouterSocket(work.clientLink, {
    failed,
    received(frame) {
      delay = 0 // what has worked may be tried at once
      onRouterFrame(work, frame)
    },
  })
}

function onRouterFrame(work: Work, frame: Uint8Array): void {
  understand(work, () => {
    const advertisement = decodeAdvertisement(frame)
    if (!advertisement || !work.loop.isStillThere()) return
    const { mtu = 0, ...rest } = advertisement
    const tooLarge = mtu > work.clientLink.link.mtu // packets of that size would be lost
    work.loop.dispatch({ type: 'advertisement', advertisement: tooLarge ? rest : advertisement })
  })
}

function onServerDatagram(work: Work, bytes: Uint8Array): void {
  understand(work, () => work.loop.dispatch({ type: 'message', message: decodeMessage(bytes) }))
}

/** What cannot be understood is told, and nothing else. */
function understand(work: Work, body: () => void): void {
  work.loop.attempt(() => {
    try {
      body()
    } catch (thrown) {
      if (!(thrown instanceof PacketError)) throw thrown
      work.context.log('ignored', { why: `a packet: ${thrown.message}` })
    }
  })
}

function solicit(work: Work): void {
  const { clientLink, routers } = work
  const from = linkLocalNow(clientLink)
  if (from !== undefined) routers?.send(encodeSolicitation(clientLink.link.address, from))
}

function send(work: Work, { kind, message }: Action & { type: 'send' }): void {
  const bytes = encodeMessage(message)
  try {
    if (kind === 'release' || kind === 'decline') {
      if (work.servers) work.servers.send(bytes)
      else tellServers(work.clientLink, bytes)
      return
    }
    const failed = () => {
      work.servers = undefined // the next transmission opens another one
    }
    work.servers ??= openServerSocket(work.clientLink, {
      failed,
      received: each => onServerDatagram(work, each),
    })
    work.servers.send(bytes)
  } catch (thrown) {
    if (!isPassing(thrown)) throw thrown
    work.context.log('unsent', { kind, error: String(thrown) }) // sent again when its time comes
  }
}

/** Asks three times, evenly spread, who has an address. */
function probe(work: Work, address: string): void {
  const { clientLink, client, loop } = work
  work.probed.push(address)
  const received = (frame: Uint8Array) => {
    for (const each of work.probed) {
      const hardware = neighbourClaimant(frame, each)
      if (hardware !== undefined) loop.dispatch({ type: 'conflict', address: each, hardware })
    }
  }
  work.neighbours ??= openNeighbourSocket(clientLink, { received, failed: () => undefined })
  const ask = () => work.neighbours?.send(neighbourProbe(clientLink.link.address, address))
  ask()
  for (let index = 1; index < PROBES; index++) after(work, (client.timing.probe * index) / PROBES, ask)
}

function carryOut(work: Work, action: Action): void {
  const { clientLink, priority, loop, context } = work
  switch (action.type) {
    case 'send':
      send(work, action)
      break
    case 'solicit':
      solicit(work)
      break
    case 'probe':
      probe(work, action.address)
      break
    case 'note':
      context.log(action.what, factsIn(action))
      break
    case 'address':
      applyAddressState(clientLink, action.held)
      break
    case 'routes':
      changeRoutes(clientLink, action, { mtu: loop.state().lease.network.mtu, priority })
      break
    case 'bound':
      loop.attempt(() => context.save(action.lease))
      if (action.how !== 'refreshed') context.log(action.how, factsOf(action.lease))
      loop.outcome.resolve(action.lease)
      break
    case 'lost':
      context.log('lost', factsIn(action))
      context.forget()
      break
    case 'failed':
      context.log('failed', { why: action.why })
      loop.outcome.reject(new CniError(code.tryAgainLater, action.why))
      context.forget()
      break
    case 'released':
      context.log('released', { address: addressesOf(loop.state().lease) })
      context.forget()
      break
  }
}

function factsIn({ why, address }: { why: string; address?: string }): Record<string, unknown> {
  return address === undefined ? { why } : { why, address }
}

function addressesOf({ held }: Lease): string {
  return held.map(({ address, prefixLength }) => `${address}/${prefixLength}`).join(', ')
}

function factsOf(lease: Lease): Record<string, unknown> {
  const { dhcp, network } = lease
  const seconds = dhcp && (Number.isFinite(dhcp.validSeconds) ? dhcp.validSeconds : 'for ever')
  return {
    address: addressesOf(lease),
    ...(dhcp ? { server: dhcp.server, seconds } : {}),
    ...(network.routers[0] ? { router: network.routers[0].address } : {}),
  }
}
