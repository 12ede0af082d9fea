/**
 * Keeps one attachment's lease: feeds the state machine with frames and the time, and carries out what it says. Sockets are
 * open only while an answer is waited for. Knows neither the other leases nor the plugins that ask.
 */

import { errno, isErrno } from '../../../chain/linux/libc/errno.ts'
import { CniError, code } from '../../../chain/protocol/error.ts'
import { PacketError } from '../codec.ts'
import { createEventLoop, type EventLoop, type LeaseContext, type NewEvent } from '../engine/event-loop.ts'
import {
  bringUp,
  CLIENT_PORT,
  type ClientLink,
  type FrameSocket,
  openArpSocket,
  openDhcpSocket,
  SERVER_PORT,
  sendFromHost,
  sendOnce,
} from '../link/client-link.ts'
import { arpClaimant, arpProbe, decodeFrame, encodeFrame } from '../link/frame.ts'
import { step } from './lease.ts'
import { decodeMessage, encodeMessage } from './packet.ts'
import { type Action, type Client, type Event, initialState, type Lease, type State } from './types.ts'

export interface LeaseClient {
  clientLink: ClientLink
  state(): State
  isClosed(): boolean
  /** The lease, once it is there; throws why there is none. */
  ready(): Promise<Lease>
  acquire(earlierAddress?: string): Promise<Lease>
  /** Has a server confirm an address; never takes another one. */
  confirm(address: string): Promise<Lease>
  /** Goes on with a lease from before a restart. */
  adopt(lease: Lease): void
  /** Gives the address back, also in the middle of an acquisition. */
  release(): void
  /** Lets go without giving anything back. */
  close(): void
}

const CARRIER_WAIT = 2000
const PROBES = 3

/** What a lease client has in hand. */
interface Work {
  readonly clientLink: ClientLink
  readonly client: Client
  readonly context: LeaseContext<Lease>
  readonly loop: EventLoop<State, Event, Lease>
  /** What is done about an address that must not be used any longer. */
  readonly forbid: (lease: Lease) => void
  socket?: FrameSocket | undefined
  arp?: FrameSocket | undefined
  probing: Timer[]
}

/** Makes a lease client. `forbid` sees to it that a lost address is not used. */
export function createLeaseClient(
  clientLink: ClientLink,
  client: Client,
  { context, forbid }: { context: LeaseContext<Lease>; forbid: (lease: Lease) => void },
): LeaseClient {
  const loop: EventLoop<State, Event, Lease> = createEventLoop<State, Event, Action, Lease>(clientLink, {
    initial: initialState,
    step: (state, event) => step(client, state, event),
    carryOut: action => carryOut(work, action),
    closeUnneeded: state => closeUnneeded(work, state?.phase),
    addressOf: ({ lease }) => lease?.address,
    context,
    retry: client.timing.timeout,
  })
  const work: Work = { clientLink, client, context, loop, forbid, probing: [] }
  const begin = (event: NewEvent<Event>) =>
    loop.begin(async () => {
      await bringUp(clientLink, CARRIER_WAIT)
      return event
    })
  return {
    clientLink,
    state: loop.state,
    isClosed: loop.isClosed,
    ready: () => loop.outcome.promise,
    acquire: earlierAddress =>
      begin({ type: 'start', ...(earlierAddress === undefined ? {} : { earlierAddress }) }),
    confirm: address => begin({ type: 'confirm', address }),
    adopt(lease) {
      loop.outcome.resolve(lease)
      loop.dispatch({ type: 'adopt', lease })
    },
    release: () => loop.dispatch({ type: 'release' }),
    close: loop.close,
  }
}

/** No sockets where no answer is waited for, and none in no phase. */
function closeUnneeded(work: Work, phase: State['phase'] | undefined): void {
  if (phase !== 'requesting' && phase !== 'verifying') stopProbing(work)
  if (phase === undefined || phase === 'bound' || phase === 'stopped') hangUp(work)
}

function hangUp(work: Work): void {
  work.socket?.close()
  work.socket = undefined
}

function stopProbing(work: Work): void {
  work.arp?.close()
  work.arp = undefined
  for (const each of work.probing) clearTimeout(each)
  work.probing = []
}

function onFrame(work: Work, frame: Uint8Array): void {
  const datagram = decodeFrame(frame)
  if (datagram?.destination.port !== CLIENT_PORT) return
  try {
    const message = decodeMessage(datagram.payload)
    work.loop.dispatch({ type: 'message', message, hardware: datagram.source.hardware })
  } catch (thrown) {
    if (!(thrown instanceof PacketError)) throw thrown
    const { address } = datagram.source
    work.context.log('ignored', { why: `a packet from ${address}: ${thrown.message}` })
  }
}

function openedSocket(work: Work): FrameSocket {
  const failed = () => {
    work.socket = undefined // the next transmission opens another one
  }
  work.socket ??= openDhcpSocket(work.clientLink, { received: frame => onFrame(work, frame), failed })
  return work.socket
}

function send(work: Work, { kind, message, from, to }: Action & { type: 'send' }): void {
  const payload = encodeMessage(message)
  const frame = encodeFrame({
    source: { hardware: work.client.hardware, address: from, port: CLIENT_PORT },
    destination: { ...to, port: SERVER_PORT },
    payload,
  })
  try {
    if (kind === 'release') sendOnce(work.clientLink, frame)
    else openedSocket(work).send(frame)
  } catch (thrown) {
    if (!isErrno(thrown, errno.ENETDOWN, errno.ENODEV, errno.ENXIO, errno.ENOBUFS)) throw thrown
    if (kind === 'release') sendFromHost(to.address, payload)
    else work.context.log('unsent', { kind, error: String(thrown) }) // sent again when its time comes
  }
}

/** Asks three times, evenly spread, who has an address. */
function probe(work: Work, address: string): void {
  const { hardware, timing } = work.client
  const received = (frame: Uint8Array) => {
    const claimant = arpClaimant(frame, address)
    if (claimant !== undefined) work.loop.dispatch({ type: 'conflict', address, hardware: claimant })
  }
  stopProbing(work)
  const opened = openArpSocket(work.clientLink, { received, failed: () => undefined })
  work.arp = opened
  const ask = () => work.loop.attempt(() => opened.send(arpProbe(hardware, address)))
  ask()
  for (let index = 1; index < PROBES; index++) {
    work.probing.push(setTimeout(ask, (timing.probe * index) / PROBES))
  }
}

function carryOut(work: Work, action: Action): void {
  const { context } = work
  const { outcome } = work.loop
  switch (action.type) {
    case 'send':
      send(work, action)
      break
    case 'probe':
      probe(work, action.address)
      break
    case 'note':
      context.log(action.what, { why: action.why })
      break
    case 'bound':
      work.loop.attempt(() => context.save(action.lease))
      context.log(action.how, factsOf(action.lease))
      outcome.resolve(action.lease)
      break
    case 'lost':
      lose(work, action)
      break
    case 'failed':
      context.log('failed', { why: action.why })
      outcome.reject(new CniError(code.tryAgainLater, action.why))
      context.forget()
      break
    case 'released':
      context.log('released', { address: action.lease?.address })
      context.forget()
      break
  }
}

function lose(work: Work, { lease, why }: Action & { type: 'lost' }): void {
  work.context.log('lost', { why, address: lease.address })
  work.loop.outcome.reject(new CniError(code.internal, `the DHCP lease of ${lease.address} is lost: ${why}`))
  work.loop.attempt(() => work.forbid(lease))
  work.context.forget()
}

function factsOf({ address, prefixLength, server, leaseSeconds }: Lease): Record<string, unknown> {
  const seconds = Number.isFinite(leaseSeconds) ? leaseSeconds : 'for ever'
  return { address: `${address}/${prefixLength ?? '?'}`, server, seconds }
}
