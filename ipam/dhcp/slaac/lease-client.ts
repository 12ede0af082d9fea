/**
 * Keeps what one attachment has of IPv6: hears routers for as long as it lives, DHCPv6 servers while an answer is waited for,
 * and carries out what the state machine says.
 */
import { CniError, code } from '../../../chain/protocol/error.ts'
import { createRunner, type Happening, type Runner, type Surroundings } from '../engine/event-loop.ts'
import { bringUp, type Line, type Place } from '../link/client-link.ts'
import {
  changeRoutes,
  claimLink,
  isPassing,
  linkLocalAddress,
  linkLocalNow,
  openNeighbourLine,
  openRouterLine,
  openServerLine,
  standAddress,
  tellServers,
} from '../link/ipv6.ts'
import { neighbourClaimant, neighbourProbe } from '../link/neighbour.ts'
import { PacketError } from '../v4/packet.ts'
import { decodeMessage, encodeMessage } from '../v6/packet.ts'
import { decodeAdvertisement, encodeSolicitation } from './advertisement.ts'
import { step } from './lease.ts'
import { type Action, type Client, type Event, initialState, type Lease, type State } from './types.ts'

export interface Keeper {
  place: Place
  state(): State
  isClosed(): boolean
  /** What there is, once it is; throws why there is nothing. */
  ready(): Promise<Lease>
  acquire(wanted: string | undefined, about: { fresh: boolean }): Promise<Lease>
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

/** What a keeper has in hand. */
interface Work {
  readonly place: Place
  readonly client: Client
  readonly priority: number
  readonly surroundings: Surroundings<Lease>
  readonly runner: Runner<State, Event, Lease>
  routers?: Line | undefined
  servers?: Line | undefined
  neighbours?: Line | undefined
  probed: string[]
  timers: Set<Timer>
}

/** Makes a keeper. `priority` is the metric of the routes; 0 says none. */
export function createKeeper(
  place: Place,
  client: Client,
  { surroundings, priority }: { surroundings: Surroundings<Lease>; priority: number },
): Keeper {
  const runner: Runner<State, Event, Lease> = createRunner<State, Event, Action, Lease>(place, {
    initial: initialState,
    step: (state, event) => step(client, state, event),
    carryOut: action => carryOut(work, action),
    settled: (state, closed) => settled(work, state, closed),
    addressOf: ({ lease }) => lease.held.map(({ address }) => address).join(', '),
    surroundings,
    retry: client.timing.timeout,
  })
  const work: Work = { place, client, priority, surroundings, runner, probed: [], timers: new Set() }
  const begin = (fresh: boolean, happening: (linkLocal: string) => Happening<Event>) =>
    runner.begin(async () => {
      claimLink(place, { fresh })
      await bringUp(place, CARRIER_WAIT)
      const linkLocal = await linkLocalAddress(place, ADDRESS_WAIT)
      if (!runner.isClosed()) hearRouters(work)
      return happening(linkLocal)
    })
  return {
    place,
    state: runner.state,
    isClosed: runner.isClosed,
    ready: () => runner.outcome.promise,
    acquire: (wanted, { fresh }) =>
      begin(fresh, linkLocal => ({ type: 'start', linkLocal, ...(wanted === undefined ? {} : { wanted }) })),
    confirm: addresses => begin(false, linkLocal => ({ type: 'confirm', linkLocal, addresses })),
    adopt(lease) {
      runner.outcome.resolve(lease)
      runner.attempt(() => claimLink(place, { fresh: false }))
      hearRouters(work)
      runner.happen({ type: 'adopt', lease })
    },
    release: () => runner.happen({ type: 'release' }),
    close: runner.close,
  }
}

/** No sockets where no answer is waited for; routers are heard until the end. */
function settled(work: Work, { phase, dhcp, probeUntil }: State, closed: boolean): void {
  const probes = phase === 'acquiring' && (probeUntil ?? dhcp?.probeUntil) !== undefined
  if (closed || !probes) {
    work.neighbours?.close()
    work.neighbours = undefined
    work.probed = []
  }
  if (closed || dhcp === undefined || ['bound', 'verifying', 'stopped'].includes(dhcp.phase)) {
    work.servers?.close()
    work.servers = undefined
  }
  if (!closed) return
  work.routers?.close()
  work.routers = undefined
  for (const timer of work.timers) clearTimeout(timer)
}

function after(work: Work, milliseconds: number, body: () => unknown): void {
  const timer = setTimeout(() => {
    work.timers.delete(timer)
    if (!work.runner.isClosed()) work.runner.attempt(body)
  }, milliseconds)
  work.timers.add(timer)
}

/** A packet socket fails when its link goes down; the next one, opened at once, hears when it comes up again. */
function hearRouters(work: Work, delay = 0): void {
  const failed = () => {
    work.routers = undefined
    after(work, delay, () => work.runner.isStillThere() && hearRouters(work, REOPEN))
  }
  work.routers = openRouterLine(work.place, {
    failed,
    heard(frame) {
      delay = 0 // what has worked may be tried at once
      onRouterFrame(work, frame)
    },
  })
}

function onRouterFrame(work: Work, frame: Uint8Array): void {
  understand(work, () => {
    const advertisement = decodeAdvertisement(frame)
    if (!advertisement || !work.runner.isStillThere()) return
    const { mtu = 0, ...rest } = advertisement
    const tooLarge = mtu > work.place.link.mtu // packets of that size would be lost
    work.runner.happen({ type: 'advertisement', advertisement: tooLarge ? rest : advertisement })
  })
}

function onServerDatagram(work: Work, bytes: Uint8Array): void {
  understand(work, () => work.runner.happen({ type: 'message', message: decodeMessage(bytes) }))
}

/** What cannot be understood is told, and nothing else. */
function understand(work: Work, body: () => void): void {
  work.runner.attempt(() => {
    try {
      body()
    } catch (thrown) {
      if (!(thrown instanceof PacketError)) throw thrown
      work.surroundings.log('ignored', { why: `a packet: ${thrown.message}` })
    }
  })
}

function solicit(work: Work): void {
  const { place, routers } = work
  const from = linkLocalNow(place)
  if (from !== undefined) routers?.send(encodeSolicitation(place.link.address, from))
}

function send(work: Work, { kind, message }: Action & { type: 'send' }): void {
  const bytes = encodeMessage(message)
  try {
    if (kind === 'release' || kind === 'decline') {
      if (work.servers) work.servers.send(bytes)
      else tellServers(work.place, bytes)
      return
    }
    const failed = () => {
      work.servers = undefined // the next transmission opens another one
    }
    work.servers ??= openServerLine(work.place, { failed, heard: each => onServerDatagram(work, each) })
    work.servers.send(bytes)
  } catch (thrown) {
    if (!isPassing(thrown)) throw thrown
    work.surroundings.log('unsent', { kind, error: String(thrown) }) // sent again when its time comes
  }
}

/** Asks three times, evenly spread, who has an address. */
function probe(work: Work, address: string): void {
  const { place, client, runner } = work
  work.probed.push(address)
  const heard = (frame: Uint8Array) => {
    for (const each of work.probed) {
      const hardware = neighbourClaimant(frame, each)
      if (hardware !== undefined) runner.happen({ type: 'conflict', address: each, hardware })
    }
  }
  work.neighbours ??= openNeighbourLine(place, { heard, failed: () => undefined })
  const ask = () => work.neighbours?.send(neighbourProbe(place.link.address, address))
  ask()
  for (let index = 1; index < PROBES; index++) after(work, (client.timing.probe * index) / PROBES, ask)
}

function carryOut(work: Work, action: Action): void {
  const { place, priority, runner, surroundings } = work
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
      surroundings.log(action.what, factsIn(action))
      break
    case 'address':
      standAddress(place, action.held)
      break
    case 'routes':
      changeRoutes(place, action, { mtu: runner.state().lease.network.mtu, priority })
      break
    case 'bound':
      runner.attempt(() => surroundings.save(action.lease))
      if (action.how !== 'refreshed') surroundings.log(action.how, factsOf(action.lease))
      runner.outcome.resolve(action.lease)
      break
    case 'lost':
      surroundings.log('lost', factsIn(action))
      surroundings.forget()
      break
    case 'failed':
      surroundings.log('failed', { why: action.why })
      runner.outcome.reject(new CniError(code.tryAgainLater, action.why))
      surroundings.forget()
      break
    case 'released':
      surroundings.log('released', { address: addressesOf(runner.state().lease) })
      surroundings.forget()
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
