/** Sends one real packet and watches on which links of its way it is seen. */
import { addressBytes } from '../../ip/bytes.ts'
import { isIpv6 } from '../../ip/family.ts'
import { errno, isErrno } from '../../linux/libc/errno.ts'
import { close, waitReadable } from '../../linux/libc/file.ts'
import {
  bind,
  connect,
  MSG_DONTWAIT,
  receive,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  send,
  socket,
} from '../../linux/libc/socket.ts'
import { inNamespace } from '../../linux/netns.ts'
import { openLinkSocket } from '../../linux/packet-socket.ts'
import { CniError, code } from '../../protocol/error.ts'
import type { NodeModel } from '../model.ts'
import type { Packet } from './packet.ts'
import type { Origin, Way } from './steps.ts'

export interface Probe {
  sights: { place: string; link: string; isSeen: boolean }[]
  isAnswered: boolean
  says: string
}

const ETH_P_ALL = 3
const PATIENCE = 500 // milliseconds for all of it: within a node a packet takes microseconds

export function probe(node: NodeModel, { links, first, last }: Way, origin: Origin): Probe {
  if (origin.kind === 'outside')
    throw new CniError(code.invalidEnvironment, 'nothing can be sent from outside', {
      details:
        'name a container or `host` to start from; or start the connection there, and look at the counters here',
    })
  if (first.protocol === 'icmp' || first.protocol === 'sctp')
    throw new CniError(code.invalidEnvironment, 'a probe is of TCP or UDP', {
      details: 'give a port: `catena path web 1.1.1.1:53/udp --probe`',
    })
  const pathOf = (identity: string) => {
    const found = node.namespaces.find(namespace => namespace.identity === identity)
    return found?.paths[0] ?? `/proc/${found?.processes[0]}/ns/net`
  }
  const watchers = links.map(link => {
    const opened = () => openLinkSocket(link.index, ETH_P_ALL)
    const descriptor =
      link.namespace === 'host' ? opened() : inNamespace<number>(pathOf(link.namespace), opened)
    const place = node.attachments.find(({ namespace }) => namespace === link.namespace)?.name ?? 'host'
    return { place, link: link.name, descriptor, isSeen: false, isAnswered: false }
  })
  try {
    const sourcePort = 20_000 + Math.floor(Math.random() * 40_000)
    const start = () => sendFirst(first, sourcePort)
    const sent =
      origin.kind === 'host' ? start() : inNamespace<number>(pathOf(origin.attachment.namespace ?? ''), start)
    const sought = { sourcePort, ports: [first.destinationPort, last.destinationPort] }
    const end = performance.now() + PATIENCE
    for (const watcher of watchers) watch(watcher, sought, end)
    close(sent)
    const sights = watchers.map(({ place, link, isSeen }) => ({ place, link, isSeen }))
    const isAnswered = watchers.some(watcher => watcher.isAnswered)
    return { sights, isAnswered, says: saysOf({ sights, isAnswered }, first) }
  } finally {
    for (const { descriptor } of watchers) close(descriptor)
  }
}

function saysOf({ sights, isAnswered }: Omit<Probe, 'says'>, { protocol }: Packet): string {
  const missed = sights.findIndex(({ isSeen }) => !isSeen)
  const before = sights[missed - 1]
  if (missed === 0) return 'the packet was not even sent'
  if (missed > 0)
    return `the packet was seen on ${before?.link} (${before?.place}), and not on ${sights[missed]?.link}`
  if (isAnswered) return 'the packet was seen all the way, and was answered'
  return `the packet was seen all the way${protocol === 'tcp' ? ', and was not answered' : ''}`
}

/** struct sockaddr_in, sockaddr_in6. */
function socketAddress(address: string, port: number): Uint8Array {
  const isSix = isIpv6(address)
  const view = new DataView(new ArrayBuffer(isSix ? 28 : 16))
  view.setUint16(0, isSix ? 10 : 2, true)
  view.setUint16(2, port)
  const bytes = new Uint8Array(view.buffer)
  bytes.set(addressBytes(address), isSix ? 8 : 4)
  return bytes
}

/** A SYN, or a datagram of one byte. */
function sendFirst({ protocol, destination, destinationPort }: Packet, sourcePort: number): number {
  const isSix = isIpv6(destination)
  const type = protocol === 'udp' ? SOCK_DGRAM : SOCK_STREAM
  const descriptor = socket(isSix ? 10 : 2, type | SOCK_NONBLOCK, 0)
  try {
    bind(descriptor, socketAddress(isSix ? '::' : '0.0.0.0', sourcePort))
    connect(descriptor, socketAddress(destination, destinationPort))
    if (protocol === 'udp') send(descriptor, new Uint8Array(1))
  } catch (thrown) {
    if (!isErrno(thrown, errno.EINPROGRESS, errno.ECONNREFUSED)) {
      close(descriptor)
      throw thrown
    }
  }
  return descriptor
}

const frame = new Uint8Array(2048)

function watch(
  watcher: { descriptor: number; isSeen: boolean; isAnswered: boolean },
  sought: { sourcePort: number; ports: readonly number[] },
  end: number,
): void {
  while (!(watcher.isSeen && watcher.isAnswered)) {
    const left = watcher.isSeen ? 20 : end - performance.now() // an answer comes at once, or is not waited for
    if (left <= 0 || !waitReadable(watcher.descriptor, Math.ceil(left))) return
    try {
      const length = receive(watcher.descriptor, frame, { flags: MSG_DONTWAIT })
      const ports = portsIn(frame.subarray(0, length))
      if (!ports) continue
      if (ports.source === sought.sourcePort && sought.ports.includes(ports.destination))
        watcher.isSeen = true
      if (ports.destination === sought.sourcePort && sought.ports.includes(ports.source))
        watcher.isAnswered = true
    } catch (thrown) {
      if (!isErrno(thrown, errno.EAGAIN)) throw thrown
    }
  }
}

/** Of an Ethernet frame with IPv4 or IPv6 without extension headers. */
function portsIn(bytes: Uint8Array): { source: number; destination: number } | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  if (bytes.length < 54) return undefined
  const type = view.getUint16(12)
  const at = type === 0x0800 ? 14 + (view.getUint8(14) & 15) * 4 : type === 0x86dd ? 54 : undefined
  if (at === undefined || at + 4 > bytes.length) return undefined
  return { source: view.getUint16(at), destination: view.getUint16(at + 2) }
}
