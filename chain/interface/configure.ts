/**
 * Puts a result on an interface in a container and checks that it is still there: what every plugin that makes an
 * interface shares. Knows no kind of link.
 */

import { AF_INET, AF_INET6, familyOf, isIpv6 } from '../ip/family.ts'
import { canonicalCidr, realGateway, splitCidr, splitNetwork } from '../ip/text.ts'
import { errno, isErrno } from '../linux/libc/errno.ts'
import { listAddresses, newAddress } from '../linux/netlink/address.ts'
import { changeLink, findLink, type Link } from '../linux/netlink/link.ts'
import {
  type Route as KernelRoute,
  LOCAL_TABLE,
  listRoutes,
  newRoute,
  scopes,
} from '../linux/netlink/route.ts'
import {
  awaitEvent,
  batch,
  type Events,
  openEvents,
  openRoute,
  type Transport,
} from '../linux/netlink/socket.ts'
import { inNamespace, namespaceState } from '../linux/netns.ts'
import { ensureSysctl, readSysctl, writeSysctl } from '../linux/sysctl.ts'
import { requirePrevious } from '../plugin/define.ts'
import { CniError, code } from '../protocol/error.ts'
import type { Interface, Result, Route } from '../protocol/result.ts'

export interface InterfaceSetup {
  netns: string
  /** CNI_IFNAME. */
  name: string
  /** Its `ips` that name this interface by index are added, and its routes. */
  result: Result
  /** Duplicate address detection of IPv6 and its wait: off where an IPAM plugin owns the addresses. */
  detectDuplicates?: boolean
}

/** Opens a route socket in a container. Code 8 when the path is no network namespace. */
export function openContainer(netns: string): Transport {
  const state = namespaceState(netns)
  if (state !== 'present') {
    const found =
      state === 'absent'
        ? `failed to Statfs "${netns}": no such file or directory`
        : `unknown FS magic on "${netns}": it is no namespace`
    throw new CniError(code.invalidNamespace, `failed to open netns "${netns}": ${found}`, {
      details: 'the runtime makes the namespace before it runs plugins; `ls -l` shows what the path is',
    })
  }
  return inNamespace(netns, openRoute)
}

/** Runs a step with a route socket of its own on the host: for undoing, which happens after ADD's own socket is closed. */
export function onHost<T>(step: (host: Transport) => T): T {
  using host = openRoute()
  return step(host)
}

/** Opens a route socket in a container that may be gone; undefined then. */
export function openContainerIfPresent(netns: string | undefined): Transport | undefined {
  return netns !== undefined && namespaceState(netns) === 'present'
    ? inNamespace(netns, openRoute)
    : undefined
}

/** Seconds that duplicate detection may take: one probe a second, one try (RFC 4862), and slack. */
const DETECTION_MILLISECONDS = 5000

/** Adds addresses, brings the link up and adds routes, in one exchange with the kernel. Answers the link as it is then. */
export function configureInterface(setup: InterfaceSetup): Link {
  const { netns, name, result, detectDuplicates = false } = setup
  using container = openContainer(netns)
  const addresses = addressesOf(result, name)
  if (addresses.some(({ address }) => isIpv6(address))) {
    inNamespace(netns, () => prepareIpv6(name, { detectDuplicates }))
  }
  const { index } = interfaceNamed(container, name, netns)
  using events = detectDuplicates ? openAddressEvents(netns) : undefined
  batch(container, [
    ...addresses.map(address => newAddress({ link: index, ...address, skipDetection: !detectDuplicates })),
    changeLink(index, { up: true }),
  ])
  if (events) awaitDetection(events, container, { index, name })
  const routes = routesOf(result, index)
  if (routes.length)
    batch(
      container,
      routes.map(route => newRoute(route, 'beside')),
    )
  return interfaceNamed(container, name, netns)
}

function interfaceNamed(container: Transport, name: string, netns: string): Link {
  const message = `failed to lookup "${name}": Link not found: there is no interface ${name} in ${netns}`
  return mustFind(container, name, { message })
}

/** A container's interface. Throws the message, which is the Go plugin's where there is none. */
export function mustFind(
  container: Transport,
  name: string,
  { message, details }: { message: string; details?: string },
): Link {
  const link = findLink(container, name)
  if (link) return link
  throw new CniError(code.internal, message, { details })
}

/** The result's addresses for an interface. An index that points at another interface is refused. */
function addressesOf(result: Result, name: string): { address: string; prefixLength: number }[] {
  return result.ips.flatMap(({ address, interface: index }) => {
    if (index === undefined) return []
    if (result.interfaces[index]?.name !== name) {
      throw new CniError(
        code.internal,
        `failed to add IP addr ${address} to "${name}": invalid interface index ${index}`,
        {
          details: `the result's interface with that index is ${result.interfaces[index]?.name ?? 'absent'}, not ${name}`,
        },
      )
    }
    const split = splitCidr(address)
    if (!split)
      throw new CniError(code.internal, `address ${address} of the IPAM result is not an address with prefix`)
    return [split]
  })
}

function prepareIpv6(name: string, { detectDuplicates }: { detectDuplicates: boolean }): void {
  for (const link of ['lo', name]) {
    if (readSysctl(`net/ipv6/conf/${link}/disable_ipv6`) === '1')
      writeSysctl(`net/ipv6/conf/${link}/disable_ipv6`, '0')
  }
  ensureSysctl(`net/ipv6/conf/${name}/keep_addr_on_down`, '1')
  if (detectDuplicates) {
    bestEffort(() => ensureSysctl(`net/ipv6/conf/${name}/enhanced_dad`, '1'))
    bestEffort(() => ensureSysctl(`net/ipv6/conf/${name}/accept_dad`, '1'))
  } else {
    bestEffort(() => ensureSysctl(`net/ipv6/conf/${name}/accept_dad`, '0')) // link-local addresses too are usable at once
  }
}

/** For settings that help but that some kernels do not have. */
export function bestEffort(step: () => unknown): void {
  try {
    step()
  } catch (thrown) {
    if (!isErrno(thrown, errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL)) throw thrown
  }
}

const IPV6_ADDRESS_EVENTS = 9 // RTNLGRP_IPV6_IFADDR

function openAddressEvents(netns: string): Events {
  return inNamespace(netns, () => openEvents(IPV6_ADDRESS_EVENTS))
}

function awaitDetection(
  events: Events,
  container: Transport,
  { index, name }: { index: number; name: string },
): void {
  const undecided = () => listAddresses(container, index, [AF_INET6]).filter(({ tentative }) => tentative)
  if (undecided().length > 0) awaitEvent(events, () => undecided().length === 0, DETECTION_MILLISECONDS)
  const failed = listAddresses(container, index, [AF_INET6]).filter(({ detectionFailed }) => detectionFailed)
  const [first] = failed
  if (first) {
    throw new CniError(
      code.internal,
      `link ${name} has address ${first.address} in DADFAILED state: it is in use by another host on the link`,
      {
        details: 'duplicate address detection failed (enabledad)',
      },
    )
  }
}

/** The result's routes for a link: without a gateway of their own they go via the first one of their family. */
function routesOf(result: Result, link: number): KernelRoute[] {
  return result.routes.map(route => {
    const network = splitNetwork(route.dst)
    if (!network) throw new CniError(code.internal, `route ${route.dst} is not a network with prefix`)
    const { address: destination, prefixLength } = network
    const first = route.scope === scopes.link ? undefined : gatewayOf(result, familyOf(destination))
    // the gateway itself is on the link, also where it is outside of the addresses' subnet
    const fallback = first === destination ? undefined : first
    const gateway = route.gw === undefined ? fallback : realGateway(route.gw)
    const given = (number: number | undefined) => number !== undefined && number > 0
    return {
      destination,
      prefixLength,
      link,
      ...(gateway === undefined ? {} : { gateway }),
      ...(given(route.priority) ? { priority: route.priority } : {}),
      ...(given(route.table) ? { table: route.table } : {}),
      ...(route.scope === undefined ? {} : { scope: route.scope }),
      ...(given(route.mtu) ? { mtu: route.mtu } : {}),
      ...(given(route.advmss) ? { advertisedMss: route.advmss } : {}),
    }
  })
}

function gatewayOf(result: Result, family: 4 | 6): string | undefined {
  const gateways = result.ips.map(({ gateway }) => realGateway(gateway))
  return gateways.find(gateway => gateway !== undefined && familyOf(gateway) === family)
}

/**
 * Tells the neighbours where the result's addresses are now: gratuitous ARP, unsolicited neighbour advertisements. Call it
 * when frames get through. The kernel sends them when a link is given its own hardware address again; a packet socket would
 * do the same, but closing one waits for a grace period of the kernel: 10 to 25 ms.
 */
export function announceInterface({ netns, name, result }: InterfaceSetup, link: Link): void {
  const addresses = addressesOf(result, name).map(({ address }) => address)
  if (addresses.length === 0 || link.address.length !== 17) return // 17: an Ethernet address in text
  using container = inNamespace(netns, () => {
    bestEffort(() => ensureSysctl(`net/ipv4/conf/${name}/arp_notify`, '1'))
    bestEffort(() => ensureSysctl(`net/ipv6/conf/${name}/ndisc_notify`, '1'))
    return openRoute()
  })
  batch(container, [changeLink(link.index, { address: link.address })])
}

/** What CHECK looks for on a container's interface. */
export interface InterfaceExpectation {
  netns: string
  name: string
  /** prevResult. */
  previous: Result | undefined
  /** Kind of link that it must be. */
  kind?: string
  /** True when ADD left the link down, without addresses and routes. */
  leftDown?: boolean
}

/** The interface of prevResult that is ours: by name and namespace, the last one. */
export function findOwnInterface(
  previous: Result,
  { netns, name }: { netns: string; name: string },
): Interface {
  const found = previous.interfaces.findLast(({ name: one, sandbox }) => one === name && sandbox === netns)
  if (found) return found
  const elsewhere = previous.interfaces.findLast(({ name: one }) => one === name)
  throw new CniError(
    code.internal,
    `Sandbox in prevResult ${elsewhere?.sandbox ?? ''} doesn't match configured netns: ${netns}: prevResult has no interface ${name} there`,
    { details: `it lists ${JSON.stringify(previous.interfaces)}` },
  )
}

/** Checks kind, hardware address, addresses and routes of a container's interface; throws for the first difference. */
export function checkInterface(expectation: InterfaceExpectation): Link {
  const { netns, name, previous, kind, leftDown = false } = expectation
  const result = requirePrevious(previous, kind ?? name)
  const expected = findOwnInterface(result, { netns, name })
  using container = openContainer(netns)
  const link = findLink(container, name)
  if (!link)
    throw differs(
      `Container Interface name in prevResult: ${name} not found: interface ${name} is not in ${netns}`,
    )
  if (kind !== undefined && link.kind !== kind)
    throw differs(`Error: Container interface ${name} not of type ${kind}: it is a ${link.kind ?? 'device'}`)
  if (expected.mac && expected.mac.toLowerCase() !== link.address) {
    throw differs(`Interface ${name} Mac ${expected.mac} doesn't match container Mac: ${link.address}`)
  }
  if (leftDown) return link
  checkAddresses(container, link, result)
  checkRoutes(container, result)
  return link
}

/** CHECK: what is not as it was. `place`: a container, unless it is told, or the host. */
export function differs(message: string, place = 'the container'): CniError {
  return new CniError(code.internal, message, { details: `${place} no longer is as ADD left it` })
}

/** Every address of the result is on the link, and the link is up. */
function checkAddresses(container: Transport, link: Link, result: Result): void {
  const present = new Set(
    listAddresses(container, link.index).map(({ address, prefixLength }) => `${address}/${prefixLength}`),
  )
  for (const { address, interface: index } of result.ips) {
    if (index !== undefined && result.interfaces[index]?.name !== link.name) continue
    const canonical = canonicalCidr(address)
    if (canonical && !present.has(canonical))
      throw differs(`Failed to match addr ${address} on interface ${link.name}`)
  }
  if (!link.up) throw differs(`Interface ${link.name} is down`)
}

/** Every route of the result is in its table. */
function checkRoutes(container: Transport, result: Result): void {
  if (result.routes.length === 0) return
  const present = listRoutes(container, { families: [AF_INET, AF_INET6] })
  for (const route of result.routes) {
    if (!present.some(found => isRoute(found, route))) {
      throw differs(
        `Expected Route ${route.dst}${route.gw ? ` via ${route.gw}` : ''} not found in routing table`,
      )
    }
  }
}

function isRoute(found: KernelRoute, expected: Route): boolean {
  const network = splitNetwork(expected.dst)
  return (
    network !== undefined &&
    found.destination === network.address &&
    found.prefixLength === network.prefixLength &&
    // sbr and vrf move routes that name no table into one of their own
    ((expected.table ?? 0) <= 0 ? found.table !== LOCAL_TABLE : found.table === expected.table) &&
    (expected.gw === undefined || found.gateway === realGateway(expected.gw))
  )
}
