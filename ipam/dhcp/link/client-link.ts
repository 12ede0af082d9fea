/** A client's interface in its namespace: frames out and in, its link, the wait for its carrier. Knows frames, not leases. */

import { addressBytes } from '../../../chain/ip/bytes.ts'
import { closeElsewhere, type Hearing, hear } from '../../../chain/linux/event-socket.ts'
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
export interface Place {
  descriptor: number
  /** Device and inode of the namespace. */
  identity: string
  link: Link
}

/** Enters nothing for long: finds a link by name in a namespace, which stays open until `leave`. */
export function openPlace(netns: string, ifname: string): Place {
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

export function leave({ descriptor }: Place): void {
  close(descriptor)
}

function lookUp(descriptor: number, selector: string | number): Link | undefined {
  using route = inNamespace(descriptor, openRoute)
  return findLink(route, selector)
}

/** The link as it is now; undefined when it has gone. */
export function presentLink({ descriptor, link }: Place): Link | undefined {
  return lookUp(descriptor, link.index)
}

export function setLinkUp({ descriptor, link }: Place, up: boolean): void {
  using route = inNamespace(descriptor, openRoute)
  setLink(route, link.index, { up })
}

const RTNLGRP_LINK = 1

/** Brings the link up and waits until it carries frames, but not for longer than the milliseconds: then it is tried anyway. */
export async function bringUp(place: Place, milliseconds: number): Promise<void> {
  if (!place.link.up) setLinkUp(place, true)
  if (carries(place)) return
  const events = inNamespace(place.descriptor, () => openEvents(RTNLGRP_LINK))
  const { promise, resolve } = Promise.withResolvers<void>()
  const look = () => {
    if (carries(place)) resolve()
  }
  const hearing = hear(events.descriptor, { heard: look, failed: () => resolve() })
  const timer = setTimeout(resolve, milliseconds)
  look() // it may have come up before the first event could be heard
  await promise
  clearTimeout(timer)
  hearing.close()
}

/** A link that has gone is no reason to wait either. */
function carries(place: Place): boolean {
  const state = presentLink(place)?.state
  return state === undefined || state === 'up' || state === 'unknown'
}

export interface Line extends Hearing {
  send(frame: Uint8Array): void
}

/** Opens a line for frames to DHCP's client port. */
export function openDhcpLine(place: Place, ears: Parameters<typeof hear>[1]): Line {
  return openLine(place, ears, () => openLinkSocket(place.link.index, ETH_P_IP, udpPortFilter(CLIENT_PORT)))
}

export function openArpLine(place: Place, ears: Parameters<typeof hear>[1]): Line {
  return openLine(place, ears, () => openLinkSocket(place.link.index, ETH_P_ARP))
}

/** Opens a line with a packet socket, in the namespace of the interface. */
export function openLine(place: Place, ears: Parameters<typeof hear>[1], open: () => number): Line {
  const descriptor = inNamespace(place.descriptor, open)
  clearError(descriptor)
  return lineOf(hear(descriptor, ears, { lingers: true }), frame => send(descriptor, frame))
}

/** What is sent over a line that has failed is lost, as on a link that is down. */
export function lineOf(hearing: Hearing, send: (bytes: Uint8Array) => void): Line {
  return {
    ...hearing,
    send(bytes) {
      if (hearing.isOpen()) send(bytes)
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
export function sendOnce(place: Place, frame: Uint8Array): void {
  const descriptor = inNamespace(place.descriptor, () =>
    openLinkSocket(place.link.index, ETH_P_IP, udpPortFilter(0)),
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
