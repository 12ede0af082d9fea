/**
 * Keeps one attachment's lease: feeds the state machine with frames and the time, and carries out what it says. Sockets are
 * open only while an answer is waited for. Knows neither the other leases nor the plugins that ask.
 */

import { errno, isErrno } from '../../chain/linux/libc.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import { type Action, type Client, type Event, initialState, type Lease, type State } from './client.ts'
import { arpClaimant, arpProbe, decodeFrame, encodeFrame } from './frame.ts'
import { step } from './lease.ts'
import { decodeMessage, encodeMessage, PacketError } from './packet.ts'
import {
  bringUp,
  CLIENT_PORT,
  type Line,
  leave,
  openArpLine,
  openDhcpLine,
  type Place,
  presentLink,
  SERVER_PORT,
  sendFromHost,
  sendOnce,
  setLinkUp,
} from './port.ts'

/** What a keeper needs from the daemon. */
export interface Surroundings {
  /** Milliseconds since the epoch that never jump. */
  clock(): number
  random(): number
  /** One line of the log, about this lease. */
  log(event: string, facts: Readonly<Record<string, unknown>>): void
  /** The lease is new or has other times. */
  save(lease: Lease): void
  /** There is nothing left to be kept on disk. */
  forget(): void
  /** False when the namespace has lost its name and nobody lives in it. */
  inhabited(): boolean
}

export interface Keeper {
  place: Place
  state(): State
  /** The lease, once it is there; throws why there is none. */
  ready(): Promise<Lease>
  acquire(wanted?: string): Promise<Lease>
  /** Has a server confirm an address; never takes another one. */
  confirm(address: string): Promise<Lease>
  /** Goes on with a lease from before a restart. */
  adopt(lease: Lease): void
  /** Gives the address back, also in the middle of an acquisition. */
  release(): void
  /** Lets go without giving anything back. */
  close(): void
}

/** An event without what every event has. */
type Happening = Event extends infer Each
  ? Each extends Event
    ? Omit<Each, 'now' | 'random'>
    : never
  : never

const LONGEST_TIMER = 0x7fffffff // milliseconds, of setTimeout
const CARRIER_WAIT = 2000
const PROBES = 3

/** What a keeper has in hand. */
interface Work {
  readonly place: Place
  readonly client: Client
  readonly surroundings: Surroundings
  readonly outcome: PromiseWithResolvers<Lease>
  state: State
  line?: Line | undefined
  arp?: Line | undefined
  timer?: Timer | undefined
  probing: Timer[]
  closed: boolean
}

export function createKeeper(place: Place, client: Client, surroundings: Surroundings): Keeper {
  const outcome = Promise.withResolvers<Lease>()
  outcome.promise.catch(() => undefined) // whoever waits hears of it
  const work: Work = { place, client, surroundings, outcome, state: initialState, probing: [], closed: false }
  return {
    place,
    state: () => work.state,
    ready: () => outcome.promise,
    acquire: wanted => begin(work, { type: 'start', ...(wanted === undefined ? {} : { wanted }) }),
    confirm: address => begin(work, { type: 'confirm', address }),
    adopt(lease) {
      outcome.resolve(lease)
      happen(work, { type: 'adopt', lease })
    },
    release: () => happen(work, { type: 'release' }),
    close: () => close(work),
  }
}

async function begin(work: Work, happening: Happening): Promise<Lease> {
  await bringUp(work.place, CARRIER_WAIT)
  if (!work.closed && isStillThere(work)) happen(work, happening)
  return work.outcome.promise
}

function happen(work: Work, happening: Happening): void {
  if (work.closed) return
  const { clock, random } = work.surroundings
  const next = step(work.client, work.state, { ...happening, now: clock(), random } as Event)
  work.state = next.state
  for (const action of next.actions) carryOut(work, action)
  if (!work.closed) settle(work)
}

/** The next timer; and no sockets where no answer is waited for. */
function settle(work: Work): void {
  clearTimeout(work.timer)
  const { phase, wakeAt } = work.state
  if (phase !== 'requesting' && phase !== 'verifying') stopProbing(work)
  if (phase === 'bound' || phase === 'stopped') hangUp(work)
  if (phase === 'stopped') close(work)
  if (phase === 'stopped' || wakeAt === undefined) return
  const wait = Math.min(LONGEST_TIMER, Math.max(1, wakeAt - work.surroundings.clock()))
  work.timer = setTimeout(onTimer, wait, work)
}

function onTimer(work: Work): void {
  const { wakeAt } = work.state
  if (wakeAt === undefined || work.surroundings.clock() < wakeAt) {
    settle(work)
    return
  }
  try {
    if (isStillThere(work)) happen(work, { type: 'timer' })
  } catch (thrown) {
    work.surroundings.log('error', { error: String(thrown) })
    work.timer = setTimeout(onTimer, work.client.timing.timeout, work)
  }
}

/** A link that has gone took its lease with it; of a namespace that lost its last inhabitant it is given back. */
function isStillThere(work: Work): boolean {
  if (!presentLink(work.place)) return abandon(work, 'its interface has gone')
  if (!work.surroundings.inhabited()) return abandon(work, 'its namespace has gone')
  return true
}

function abandon(work: Work, why: string): false {
  work.surroundings.log('abandoned', { why, address: work.state.lease?.address })
  work.outcome.reject(new CniError(code.internal, `no DHCP lease: ${why}`))
  happen(work, { type: 'release' })
  return false
}

function hangUp(work: Work): void {
  work.line?.close()
  work.line = undefined
}

function stopProbing(work: Work): void {
  work.arp?.close()
  work.arp = undefined
  for (const each of work.probing) clearTimeout(each)
  work.probing = []
}

function close(work: Work): void {
  if (work.closed) return
  work.closed = true
  clearTimeout(work.timer)
  stopProbing(work)
  hangUp(work)
  leave(work.place)
  const why = 'no DHCP lease: it was given up while it was acquired'
  work.outcome.reject(new CniError(code.tryAgainLater, why))
}

function onFrame(work: Work, frame: Uint8Array): void {
  const datagram = decodeFrame(frame)
  if (datagram?.destination.port !== CLIENT_PORT) return
  try {
    const message = decodeMessage(datagram.payload)
    happen(work, { type: 'message', message, hardware: datagram.source.hardware })
  } catch (thrown) {
    if (!(thrown instanceof PacketError)) throw thrown
    const { address } = datagram.source
    work.surroundings.log('ignored', { why: `a packet from ${address}: ${thrown.message}` })
  }
}

function openedLine(work: Work): Line {
  const failed = () => {
    work.line = undefined // the next transmission opens another one
  }
  work.line ??= openDhcpLine(work.place, { heard: frame => onFrame(work, frame), failed })
  return work.line
}

function send(work: Work, { kind, message, from, to }: Action & { type: 'send' }): void {
  const payload = encodeMessage(message)
  const frame = encodeFrame({
    source: { hardware: work.client.hardware, address: from, port: CLIENT_PORT },
    destination: { ...to, port: SERVER_PORT },
    payload,
  })
  try {
    if (kind === 'release') sendOnce(work.place, frame)
    else openedLine(work).send(frame)
  } catch (thrown) {
    if (!isErrno(thrown, errno.ENETDOWN, errno.ENODEV, errno.ENXIO, errno.ENOBUFS)) throw thrown
    if (kind === 'release') sendFromHost(to.address, payload)
    else work.surroundings.log('unsent', { kind, error: String(thrown) }) // sent again when its time comes
  }
}

/** Asks three times, evenly spread, who has an address. */
function probe(work: Work, address: string): void {
  const { hardware, timing } = work.client
  const heard = (frame: Uint8Array) => {
    const claimant = arpClaimant(frame, address)
    if (claimant !== undefined) happen(work, { type: 'conflict', address, hardware: claimant })
  }
  stopProbing(work)
  const opened = openArpLine(work.place, { heard, failed: () => undefined })
  work.arp = opened
  const ask = () => attempt(work, () => opened.send(arpProbe(hardware, address)))
  ask()
  for (let index = 1; index < PROBES; index++) {
    work.probing.push(setTimeout(ask, (timing.probe * index) / PROBES))
  }
}

/** What fails here fails for one message only: it is sent again, or the lease ends in its time. */
function attempt(work: Work, body: () => void): void {
  try {
    body()
  } catch (thrown) {
    work.surroundings.log('error', { error: String(thrown) })
  }
}

function carryOut(work: Work, action: Action): void {
  const { surroundings, outcome } = work
  switch (action.type) {
    case 'send':
      attempt(work, () => send(work, action))
      break
    case 'probe':
      attempt(work, () => probe(work, action.address))
      break
    case 'note':
      surroundings.log(action.what, { why: action.why })
      break
    case 'bound':
      attempt(work, () => surroundings.save(action.lease))
      surroundings.log(action.how, factsOf(action.lease))
      outcome.resolve(action.lease)
      break
    case 'lost':
      lose(work, action)
      break
    case 'failed':
      surroundings.log('failed', { why: action.why })
      surroundings.forget()
      outcome.reject(new CniError(code.tryAgainLater, `no DHCP lease: ${action.why}`))
      break
    case 'released':
      surroundings.forget()
      surroundings.log('released', { address: action.lease?.address })
      break
  }
}

/** Whoever lost an address must not use it: as with the reference, the link goes down. */
function lose(work: Work, { lease, why }: Action & { type: 'lost' }): void {
  work.surroundings.log('lost', { why, address: lease.address })
  work.surroundings.forget()
  work.outcome.reject(new CniError(code.internal, `the DHCP lease of ${lease.address} is lost: ${why}`))
  attempt(work, () => setLinkUp(work.place, false))
}

function factsOf({ address, prefixLength, server, leaseSeconds }: Lease): Record<string, unknown> {
  const seconds = Number.isFinite(leaseSeconds) ? leaseSeconds : 'for ever'
  return { address: `${address}/${prefixLength ?? '?'}`, server, seconds }
}
