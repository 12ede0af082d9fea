/** A client's interface in its namespace: frames out and in, its link, the wait for its carrier. Knows frames, not leases. */

import { addressBytes } from '../../../chain/ip/bytes.ts'
import { closeElsewhere, type EventSocket, openEventSocket } from '../../../chain/linux/event-socket.ts'
import { SystemError } from '../../../chain/linux/libc/errno.ts'
import { close } from '../../../chain/linux/libc/file.ts'
import { receive, SOCK_DGRAM, send, sendTo, socket } from '../../../chain/linux/libc/socket.ts'
import { findLink, type Link, setLink } from '../../../chain/linux/netlink/link.ts'
import { openEvents, openRoute } from '../../../chain/linux/netlink/socket.ts'
import { inNamespace, namespaceIdentity, openNamespace } from '../../../chain/linux/netns.ts'
import { ETH_P_ARP, ETH_P_IP, openLinkSocket, udpPortFilter } from '../../../chain/linux/packet-socket.ts'
import { CniError, code } from '../../../chain/protocol/error.ts'

export const CLIENT_PORT = 68
export const SERVER_PORT = 67

/** A namespace that is held open, and one link in it. */
export interface ClientLink {
  descriptor: number
  /** Device and inode of the namespace. */
  identity: string
  link: Link
}

/** Enters nothing for long: finds a link by name in a namespace, which stays open until `closeClientLink`. */
export function openClientLink(netns: string, ifname: string): ClientLink {
  const descriptor = openNamespace(netns)
  try {
    const link = lookUp(descriptor, ifname)
    if (!link) throw new CniError(code.internal, `there is no interface ${ifname} in ${netns}`)
    if (link.address.length !== 17) {
      throw new CniError(code.internal, `${ifname} in ${netns} is no Ethernet interface`, {
        details: `its hardware address is ${link.address || 'missing'}`,
      })
    }
    return { descriptor, identity: namespaceIdentity(netns) ?? '', link }
  } catch (thrown) {
    close(descriptor)
    throw thrown
  }
}

export function closeClientLink({ descriptor }: ClientLink): void {
  close(descriptor)
}

function lookUp(descriptor: number, selector: string | number): Link | undefined {
  using route = inNamespace(descriptor, openRoute)
  return findLink(route, selector)
}

/** The link as it is now; undefined when it has gone. */
export function presentLink({ descriptor, link }: ClientLink): Link | undefined {
  return lookUp(descriptor, link.index)
}

export function changeLink({ descriptor, link }: ClientLink, settings: { up: boolean }): void {
  using route = inNamespace(descriptor, openRoute)
  setLink(route, link.index, settings)
}

const RTNLGRP_LINK = 1

/** Brings the link up and waits until it carries frames, but not for longer than the milliseconds: then it is tried anyway. */
export async function bringUp(clientLink: ClientLink, milliseconds: number): Promise<void> {
  if (!clientLink.link.up) changeLink(clientLink, { up: true })
  if (carries(clientLink)) return
  const events = inNamespace(clientLink.descriptor, () => openEvents(RTNLGRP_LINK))
  const { promise, resolve } = Promise.withResolvers<void>()
  const look = () => {
    if (carries(clientLink)) resolve()
  }
  const eventSocket = openEventSocket(events.descriptor, { received: look, failed: () => resolve() })
  const timer = setTimeout(resolve, milliseconds)
  look() // it may have come up before the first event could be heard
  await promise
  clearTimeout(timer)
  eventSocket.close()
}

/** A link that has gone is no reason to wait either. */
function carries(clientLink: ClientLink): boolean {
  const state = presentLink(clientLink)?.state
  return state === undefined || state === 'up' || state === 'unknown'
}

export interface FrameSocket extends EventSocket {
  send(frame: Uint8Array): void
}

/** Opens a socket for frames to DHCP's client port. */
export function openDhcpSocket(
  clientLink: ClientLink,
  handlers: Parameters<typeof openEventSocket>[1],
): FrameSocket {
  return openFrameSocket(clientLink, handlers, () =>
    openLinkSocket(clientLink.link.index, ETH_P_IP, udpPortFilter(CLIENT_PORT)),
  )
}

export function openArpSocket(
  clientLink: ClientLink,
  handlers: Parameters<typeof openEventSocket>[1],
): FrameSocket {
  return openFrameSocket(clientLink, handlers, () => openLinkSocket(clientLink.link.index, ETH_P_ARP))
}

/** Opens a packet socket, in the namespace of the interface. */
export function openFrameSocket(
  clientLink: ClientLink,
  handlers: Parameters<typeof openEventSocket>[1],
  open: () => number,
): FrameSocket {
  const descriptor = inNamespace(clientLink.descriptor, open)
  clearError(descriptor)
  return frameSocketOf(openEventSocket(descriptor, handlers, { lingers: true }), frame =>
    send(descriptor, frame),
  )
}

/** What is sent on a socket that has failed is lost, as on a link that is down. */
export function frameSocketOf(eventSocket: EventSocket, send: (bytes: Uint8Array) => void): FrameSocket {
  return {
    ...eventSocket,
    send(bytes) {
      if (eventSocket.isOpen()) send(bytes)
    },
  }
}

/** A socket that was bound to a link which is not up yet holds ENETDOWN; it would be taken for a failure. */
function clearError(descriptor: number): void {
  try {
    receive(descriptor, new Uint8Array(1))
  } catch (thrown) {
    if (!(thrown instanceof SystemError)) throw thrown
  }
}

/** Sends one frame and forgets about it. */
export function sendOnce(clientLink: ClientLink, frame: Uint8Array): void {
  const descriptor = inNamespace(clientLink.descriptor, () =>
    openLinkSocket(clientLink.link.index, ETH_P_IP, udpPortFilter(0)),
  )
  try {
    send(descriptor, frame)
  } finally {
    closeElsewhere(descriptor)
  }
}

const AF_INET = 2

/** Sends a datagram to a server from the daemon's own namespace, where the client's has gone. */
export function sendFromHost(server: string, payload: Uint8Array): void {
  const descriptor = socket(AF_INET, SOCK_DGRAM, 0)
  try {
    const address = new Uint8Array(16) // struct sockaddr_in
    address[0] = AF_INET
    address.set([0, SERVER_PORT], 2)
    address.set(addressBytes(server), 4)
    sendTo(descriptor, payload, address)
  } finally {
    close(descriptor)
  }
}
