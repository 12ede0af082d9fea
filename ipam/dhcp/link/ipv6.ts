/** A client's interface in its namespace, for IPv6: its settings, its link-local address, sockets, addresses and routes. Knows no leases. */

import { addressBytes } from '../../../chain/ip/bytes.ts'
import { AF_INET6 } from '../../../chain/ip/family.ts'
import { isLinkLocal } from '../../../chain/ip/text.ts'
import { openEventSocket } from '../../../chain/linux/event-socket.ts'
import { errno, isErrno } from '../../../chain/linux/libc/errno.ts'
import { close } from '../../../chain/linux/libc/file.ts'
import {
  attachFilter,
  bind,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  sendTo,
  socket,
} from '../../../chain/linux/libc/socket.ts'
import { listAddresses, putAddress, removeAddress } from '../../../chain/linux/netlink/address.ts'
import { addRoute, type Route, removeRoute, scopes } from '../../../chain/linux/netlink/route.ts'
import { isRefusal, openEvents, openRoute, type Transport } from '../../../chain/linux/netlink/socket.ts'
import { inNamespace } from '../../../chain/linux/netns.ts'
import {
  datagramFilter,
  ETH_P_IPV6,
  icmpv6Filter,
  openLinkSocket,
} from '../../../chain/linux/packet-socket.ts'
import { ensureSysctl, readSysctl, writeSysctl } from '../../../chain/linux/sysctl.ts'
import { CniError, code } from '../../../chain/protocol/error.ts'
import { type ClientLink, type FrameSocket, frameSocketOf, openFrameSocket } from './client-link.ts'
import { icmpType } from './neighbour.ts'

/** A route over the link; without a router to what is on it. */
export interface NetworkRoute {
  destination: string
  router?: string
}

/** preferred: to be used. deprecated: not for new connections. gone: not to be used. */
export type AddressState = 'preferred' | 'deprecated' | 'gone'

const CLIENT_PORT = 546
const SERVER_PORT = 547
const ALL_SERVERS = 'ff02::1:2' // RFC 8415, 7.1
const SMALLEST_MESSAGE = 4

type EventHandlers = Parameters<typeof openEventSocket>[1]

/**
 * Keeps the kernel from configuring the link by itself, and has its link-local address usable at once. On a link that is new
 * to its container, what the kernel has done already is taken away: whoever asked for addresses is going to put them there.
 */
export function takeOverLink({ descriptor, link }: ClientLink, { fresh }: { fresh: boolean }): void {
  const key = (name: string) => `net/ipv6/conf/${link.name}/${name}`
  inNamespace(descriptor, () => {
    if (readSysctl(key('disable_ipv6')) === undefined) {
      throw new CniError(
        code.internal,
        `ipam.ipv6: ${link.name} has no IPv6: the kernel was started without it`,
      )
    }
    if (fresh) ensureSysctl(key('disable_ipv6'), '1')
    ensureSysctl(key('accept_ra'), '0')
    ensureSysctl(key('accept_dad'), '0') // as everywhere: the addresses of containers are not guessed
    if (readSysctl(key('disable_ipv6')) !== '0') writeSysctl(key('disable_ipv6'), '0')
  })
}

const RTNLGRP_IPV6_IFADDR = 9

/** The link-local address, once it can be used. Throws CniError when there is none after the milliseconds. */
export async function linkLocalAddress(clientLink: ClientLink, milliseconds: number): Promise<string> {
  const present = linkLocalNow(clientLink)
  if (present !== undefined) return present
  const events = inNamespace(clientLink.descriptor, () => openEvents(RTNLGRP_IPV6_IFADDR))
  const { promise, resolve } = Promise.withResolvers<string | undefined>()
  const look = () => {
    const found = linkLocalNow(clientLink)
    if (found !== undefined) resolve(found)
  }
  const eventSocket = openEventSocket(events.descriptor, { received: look, failed: () => resolve(undefined) })
  const timer = setTimeout(() => resolve(linkLocalNow(clientLink)), milliseconds)
  look() // it may have come before the first event could be heard
  const found = await promise
  clearTimeout(timer)
  eventSocket.close()
  if (found !== undefined) return found
  throw new CniError(code.tryAgainLater, `ipam.ipv6: ${clientLink.link.name} has no link-local address`, {
    details: `waited ${milliseconds} ms; has it a carrier? is net.ipv6.conf.${clientLink.link.name}.addr_gen_mode 1?`,
  })
}

/** The link-local address as it is; undefined while there is none that can be used. */
export function linkLocalNow({ descriptor, link }: ClientLink): string | undefined {
  using route = inNamespace(descriptor, openRoute)
  return listAddresses(route, link.index, [AF_INET6]).find(
    ({ address, detectionFailed, tentative }) => isLinkLocal(address) && !tentative && !detectionFailed,
  )?.address
}

/** Opens a socket for router advertisements, on which solicitations can be sent. */
export function openRouterSocket(clientLink: ClientLink, handlers: EventHandlers): FrameSocket {
  return openFrameSocket(clientLink, handlers, () =>
    openLinkSocket(clientLink.link.index, ETH_P_IPV6, icmpv6Filter(icmpType.routerAdvertisement)),
  )
}

/** Opens a socket for what neighbours say of themselves. */
export function openNeighbourSocket(clientLink: ClientLink, handlers: EventHandlers): FrameSocket {
  return openFrameSocket(clientLink, handlers, () =>
    openLinkSocket(clientLink.link.index, ETH_P_IPV6, icmpv6Filter(icmpType.neighbourAdvertisement)),
  )
}

/** Opens a socket for DHCPv6: messages go to all servers of the link. Throws SystemError while there is no link-local address. */
export function openServerSocket(clientLink: ClientLink, handlers: EventHandlers): FrameSocket {
  const descriptor = bindServerSocket(clientLink)
  return frameSocketOf(openEventSocket(descriptor, handlers), message =>
    toServers(descriptor, clientLink, message),
  )
}

/** Sends one message to all servers and forgets about it. */
export function tellServers(clientLink: ClientLink, message: Uint8Array): void {
  const descriptor = bindServerSocket(clientLink)
  try {
    toServers(descriptor, clientLink, message)
  } finally {
    close(descriptor)
  }
}

function toServers(descriptor: number, clientLink: ClientLink, message: Uint8Array): void {
  sendTo(descriptor, message, socketAddress(ALL_SERVERS, SERVER_PORT, clientLink))
}

/** A socket of the kernel's: with a packet socket, the kernel would tell servers that nothing listens at the port. */
function bindServerSocket(clientLink: ClientLink): number {
  const from = linkLocalNow(clientLink) ?? '::' // which cannot be bound to twice, and says so
  const descriptor = inNamespace(clientLink.descriptor, () => socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0))
  try {
    attachFilter(descriptor, datagramFilter(SMALLEST_MESSAGE))
    bind(
      descriptor,
      socketAddress(from, CLIENT_PORT, clientLink),
      `[${from}%${clientLink.link.name}]:${CLIENT_PORT}`,
    )
    return descriptor
  } catch (thrown) {
    close(descriptor)
    throw thrown
  }
}

/** struct sockaddr_in6. */
function socketAddress(address: string, port: number, { link }: ClientLink): Uint8Array {
  const view = new DataView(new ArrayBuffer(28))
  view.setUint16(0, AF_INET6, true)
  view.setUint16(2, port)
  const bytes = new Uint8Array(view.buffer)
  bytes.set(addressBytes(address), 8)
  view.setUint32(24, link.index, true)
  return bytes
}

/** Brings an address into its state on the link. */
export function applyAddressState(
  { descriptor, link }: ClientLink,
  { address, prefixLength, state }: { address: string; prefixLength: number; state: AddressState },
): void {
  using route = inNamespace(descriptor, openRoute)
  const on = { link: link.index, address, prefixLength }
  if (state === 'gone') removeAddress(route, on)
  else putAddress(route, on, state)
}

/** Takes routes away and adds others. */
export function changeRoutes(
  { descriptor, link }: ClientLink,
  { added, removed }: { added: readonly NetworkRoute[]; removed: readonly NetworkRoute[] },
  { mtu, priority }: { mtu: number | undefined; priority: number },
): void {
  using transport = inNamespace(descriptor, openRoute)
  for (const each of removed) removeRoute(transport, { ...routeOf(each), link: link.index })
  for (const each of added) {
    const metrics = { ...(mtu === undefined ? {} : { mtu }), ...(priority === 0 ? {} : { priority }) }
    addUnlessThere(transport, { ...routeOf(each), link: link.index, ...metrics })
  }
}

/** Beside others: replacing would take away the route of another network to the same place. */
function addUnlessThere(transport: Transport, route: Route): void {
  try {
    addRoute(transport, route, 'beside')
  } catch (thrown) {
    if (!isRefusal(thrown, errno.EEXIST)) throw thrown
  }
}

function routeOf({ destination, router }: NetworkRoute) {
  const [network = '', length] = destination.split('/')
  const to = { destination: network, prefixLength: Number(length) }
  return router === undefined ? { ...to, scope: scopes.link } : { ...to, gateway: router }
}

/** True for what passes by itself: the link is down, or has lost its address. */
export function isPassing(thrown: unknown): boolean {
  return isErrno(
    thrown,
    errno.ENETDOWN,
    errno.ENODEV,
    errno.ENXIO,
    errno.ENOBUFS,
    errno.EADDRNOTAVAIL,
    errno.ENETUNREACH,
    errno.EADDRINUSE,
  )
}
