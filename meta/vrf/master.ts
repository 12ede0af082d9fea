/** Changing an interface's master without losing what the kernel drops on the way: it takes the interface down and up. */
import { AF_INET6 } from '../../chain/ip/family.ts'
import { errno } from '../../chain/linux/libc/errno.ts'
import { type InterfaceAddress, listAddresses, newAddress } from '../../chain/linux/netlink/address.ts'
import { changeLink, type Link } from '../../chain/linux/netlink/link.ts'
import {
  LOCAL_TABLE,
  listRoutes,
  MAIN_TABLE,
  type Route,
  replacingRoutes,
} from '../../chain/linux/netlink/route.ts'
import {
  awaitEvent,
  batch,
  type Events,
  isRefusal,
  openEvents,
  request,
  type Transport,
} from '../../chain/linux/netlink/socket.ts'
import { inNamespace } from '../../chain/linux/netns.ts'
import { CniError, code } from '../../chain/protocol/error.ts'

const KERNEL = 2 // RTPROT_KERNEL: comes with an address
const GLOBAL = 0 // RT_SCOPE_UNIVERSE

/** Global IPv6 addresses and routes of the main table. */
export interface Lost {
  addresses: InterfaceAddress[]
  routes: Route[]
}

/** What an interface has that a change of its master takes away. */
export function noteWhatIsLost(container: Transport, link: number): Lost {
  return {
    addresses: listAddresses(container, link, [AF_INET6]).filter(({ scope }) => scope === GLOBAL),
    routes: listRoutes(container, { table: MAIN_TABLE, link }).filter(({ protocol }) => protocol !== KERNEL),
  }
}

const IPV6_ROUTE_EVENTS = 11 // RTNLGRP_IPV6_ROUTE
const WAIT_MILLISECONDS = 2500

/** A socket that hears of routes in a container. */
export function openRouteEvents(netns: string) {
  return inNamespace(netns, () => openEvents(IPV6_ROUTE_EVENTS))
}

/** Sets the master (0: none), and puts back addresses, and routes into the table. */
export function changeMaster(
  { container, events }: { container: Transport; events: ReturnType<typeof openRouteEvents> },
  link: Link,
  { master, table, lost }: { master: number; table: number; lost: Lost },
): void {
  request(container, changeLink(link.index, { master }))
  const present = new Set(listAddresses(container, link.index, [AF_INET6]).map(({ address }) => address))
  const missing = lost.addresses.filter(({ address }) => !present.has(address))
  for (const { address, prefixLength } of missing)
    addAgain(container, { link: link.index, address, prefixLength })
  awaitLocalRoutes(container, events, { link, table, addresses: lost.addresses })
  batch(container, replacingRoutes([...lost.routes].sort(bareFirst).map(route => ({ ...route, table }))))
}

/** Gateways are reached over routes without one. */
function bareFirst(one: Route, other: Route): number {
  return Number(one.gateway !== undefined) - Number(other.gateway !== undefined)
}

function addAgain(
  container: Transport,
  address: { link: number; address: string; prefixLength: number },
): void {
  try {
    request(container, newAddress({ ...address, skipDetection: true })) // it was the interface's a moment ago
  } catch (thrown) {
    if (!isRefusal(thrown, errno.EEXIST)) throw thrown
  }
}

/** An IPv6 address is ready when its own route is in the table of the VRF: routes that name it as source are refused before. */
function awaitLocalRoutes(
  container: Transport,
  events: Events,
  { addresses, link, table }: { addresses: readonly InterfaceAddress[]; link: Link; table: number },
): void {
  const local = table === MAIN_TABLE ? LOCAL_TABLE : table
  const missing = () => {
    const present = listRoutes(container, { table: local, families: [AF_INET6] })
    return addresses.find(
      ({ address }) =>
        !present.some(({ destination, prefixLength }) => prefixLength === 128 && destination === address),
    )
  }
  if (addresses.length === 0 || !missing()) return
  if (awaitEvent(events, () => missing() === undefined, WAIT_MILLISECONDS)) return
  throw new CniError(
    code.internal,
    `address ${missing()?.address} of ${link.name} did not get its route in table ${local}`,
    {
      details: `the kernel had ${WAIT_MILLISECONDS} ms to make it ready`,
    },
  )
}
