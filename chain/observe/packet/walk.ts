/** The way of a packet through a node, step by step in the order that it meets things, until the first that keeps it from going on. */
import { isIpv6 } from '../../ip/family.ts'
import type { Link } from '../../linux/netlink/link.ts'
import type { Route } from '../../linux/netlink/route.ts'
import { KernelError, openRoute } from '../../linux/netlink/socket.ts'
import { inNamespace } from '../../linux/netns.ts'
import { readSysctl } from '../../linux/sysctl.ts'
import { bare } from '../attachments.ts'
import type { Attachment, NodeModel } from '../model.ts'
import { ask, enterContainer, listen, namespaceOf, passInside, pathInto, toHost } from './deliver.ts'
import { describePacket, familyOfPacket, type Packet } from './packet.ts'
import type { Ruleset } from './ruleset.ts'
import {
  End,
  lookupsOf,
  note,
  type Origin,
  over,
  passFilters,
  passFrames,
  stop,
  type Walking,
  type Way,
} from './steps.ts'

export function walk(
  node: NodeModel,
  ruleset: Ruleset,
  { origin, packet }: { origin: Origin; packet: Packet },
): Way {
  const way: Way = { reaches: 'yes', steps: [], links: [], first: packet, last: packet }
  const walking: Walking = { node, ruleset, around: lookupsOf(node.host), way, packet }
  try {
    begin(walking, origin)
  } catch (thrown) {
    if (!(thrown instanceof End)) throw thrown
    way.reaches = 'no'
  }
  if (way.reaches === 'yes' && way.steps.some(({ outcome }) => outcome === 'unknown')) way.reaches = 'unknown'
  way.last = walking.packet
  return way
}

function begin(walking: Walking, origin: Origin): void {
  const { packet } = walking
  const place = origin.kind === 'container' ? origin.attachment.name : origin.kind
  note(walking, { place, about: 'packet', says: describePacket(packet), outcome: 'on' })
  if (origin.kind === 'container') {
    leaveContainer(walking, origin.attachment)
    return
  }
  if (origin.kind === 'outside') {
    const link = walking.node.host.links.find(({ name }) => name === packet.input)
    if (link) over(walking, 'host', link)
    note(walking, { place: 'host', about: 'link', says: `it comes in by ${packet.input}`, outcome: 'on' })
    arrive(walking)
    return
  }
  passFilters(walking, 'output')
  route(walking)
}

function leaveContainer(walking: Walking, attachment: Attachment): void {
  const { name: place, ifname, link, netns = '' } = attachment
  const enter = `nsenter --net=${netns}`
  const found = routeIn(walking, attachment)
  if (found instanceof KernelError)
    stop(walking, {
      place,
      about: 'route',
      says: `the container has no route to ${walking.packet.destination}: ${found.message}`,
      commands: [`${enter} ip route`],
    })
  const stack = namespaceOf(walking, attachment)?.stack
  const by = stack?.links.find(({ index }) => index === found.link)
  if (by?.loopback) {
    note(walking, { place, about: 'route', says: 'to itself, by lo', outcome: 'on' })
    listen(walking, attachment)
    return
  }
  const hop = found.gateway ? `via ${found.gateway} ` : 'directly '
  note(walking, { place, about: 'route', says: `${hop}by ${by?.name ?? 'a link'}`, outcome: 'on' })
  if (by && by.name !== ifname)
    stop(walking, { place, about: 'route', says: `it leaves by ${by.name}, not by ${ifname}` })
  if (!link?.up)
    stop(walking, {
      place,
      about: 'link',
      says: `${ifname} is down`,
      commands: [`${enter} ip link set ${ifname} up`],
    })
  walking.packet = { ...walking.packet, output: ifname }
  passInside(walking, attachment, ['output', 'postrouting'])
  const { output: _, ...leaving } = walking.packet
  walking.packet = leaving
  over(walking, attachment.namespace ?? '', link)
  enterHost(walking, attachment, found.gateway ?? walking.packet.destination)
}

/** The kernel's own answer, in the container. */
function routeIn(walking: Walking, attachment: Attachment): Route | KernelError {
  return inNamespace<Route | KernelError>(pathInto(walking, attachment), () => {
    using transport = openRoute()
    return ask(transport, walking.packet.destination)
  })
}

/** Over the pair to the host: to its bridge, or to the link that the container's stands on. */
function enterHost(walking: Walking, attachment: Attachment, nextHop: string): void {
  const { name: place, host, ifname, link } = attachment
  if (!host) stop(walking, { place, about: 'link', says: `the other end of ${ifname} is not on the host` })
  if (!host.up)
    stop(walking, {
      place: 'host',
      about: 'link',
      says: `${host.name} is down`,
      commands: [`ip link set ${host.name} up`],
    })
  over(walking, 'host', host)
  if (host.kind !== 'veth') {
    note(walking, {
      place: 'host',
      about: 'link',
      says: `${ifname} stands on ${host.name}: its packets leave by it, and the host's filters do not see them`,
      outcome: 'on',
    })
    note(walking, {
      place: 'host',
      about: 'exit',
      says: `it leaves the node by ${host.name}`,
      outcome: 'on',
    })
    return
  }
  const bridge = walking.node.host.links.find(({ index }) => index === host.master)
  if (link && link.mtu > host.mtu)
    note(walking, {
      place: 'host',
      about: 'link',
      says: `${host.name} takes ${host.mtu} bytes, and ${ifname} sends ${link.mtu}`,
      outcome: 'unknown',
    })
  if (!bridge) {
    walking.packet = { ...walking.packet, input: host.name }
    note(walking, { place: 'host', about: 'link', says: `it comes in by ${host.name}`, outcome: 'on' })
    arrive(walking)
    return
  }
  if (!bridge.up)
    stop(walking, {
      place: 'host',
      about: 'bridge',
      says: `bridge ${bridge.name} is down`,
      commands: [`ip link set ${bridge.name} up`],
    })
  crossBridge(walking, { from: host, bridge, nextHop, sender: attachment })
}

/** A frame goes to the host where the host has the address of the next hop, else to the port of who has it. */
function crossBridge(
  walking: Walking,
  { from, bridge, nextHop, sender }: { from: Link; bridge: Link; nextHop: string; sender: Attachment },
): void {
  const { node } = walking
  if (from.port && from.port.state !== 3)
    stop(walking, {
      place: 'host',
      about: 'bridge',
      says: `port ${from.name} of ${bridge.name} does not forward yet`,
    })
  const isHosts = node.host.addresses.some(({ address }) => address === nextHop)
  const neighbour = node.attachments.find(
    ({ host, addresses }) => host?.master === bridge.index && addresses.some(each => bare(each) === nextHop),
  )
  const hardware = {
    source: sender.link?.address || '02:00:00:00:00:01',
    destination: neighbour?.link?.address || bridge.address || '02:00:00:00:00:02',
  }
  const before = walking.packet
  walking.packet = { ...before, input: from.name, output: neighbour?.host?.name ?? '', hardware }
  passFrames(walking, 'prerouting')
  if (isHosts) {
    passFrames(walking, 'input')
    walking.packet = withoutLinks(before, bridge.name)
    note(walking, {
      place: 'host',
      about: 'bridge',
      says: `${bridge.name} has ${nextHop}: the host takes it`,
      outcome: 'on',
    })
    arrive(walking)
    return
  }
  if (!neighbour)
    stop(walking, {
      place: 'host',
      about: 'bridge',
      says: `no link on ${bridge.name} has ${nextHop}`,
      commands: [`ip neighbour show dev ${bridge.name}`, 'catena ps'],
    })
  if (from.port?.isolated && neighbour.host?.port?.isolated)
    stop(walking, {
      place: 'host',
      about: 'bridge',
      says: `${from.name} and ${neighbour.host.name} are isolated from one another`,
    })
  passFrames(walking, 'forward')
  note(walking, {
    place: 'host',
    about: 'bridge',
    says: `${bridge.name} hands it from ${from.name} to ${neighbour.host?.name}`,
    outcome: 'on',
  })
  if (
    readSysctl(`net/bridge/bridge-nf-call-${familyOfPacket(before) === 'ip' ? 'ip' : 'ip6'}tables`) === '1'
  ) {
    note(walking, {
      place: 'host',
      about: 'sysctl',
      says: 'br_netfilter has the packet filter look at it as if it were routed',
      outcome: 'on',
    })
    walking.packet = { ...before, input: bridge.name, output: bridge.name }
    passFilters(walking, 'forward')
  }
  walking.packet = before
  enterContainer(walking, neighbour)
}

function withoutLinks({ hardware: _, output: __, ...rest }: Packet, input: string): Packet {
  return { ...rest, input }
}

/** On the host, from outside or from a container. */
function arrive(walking: Walking): void {
  passFilters(walking, 'prerouting')
  route(walking)
}

/** The host decides where it goes: to itself, to a container, or away. */
function route(walking: Walking): void {
  const { around } = walking
  const { destination, input } = walking.packet
  if (around.addressType(destination) === 2 && input !== undefined) {
    toHost(walking)
    return
  }
  using transport = openRoute()
  const found = ask(transport, destination)
  if (found instanceof KernelError)
    stop(walking, {
      place: 'host',
      about: 'route',
      says: `the host has no route to ${destination}: ${found.message}`,
      commands: ['ip route'],
    })
  const link = walking.node.host.links.find(({ index }) => index === found.link)
  if (around.addressType(destination) === 2) {
    toHost(walking)
    return
  }
  const says = `${found.gateway ? `via ${found.gateway} ` : ''}by ${link?.name ?? 'a link'}`
  note(walking, { place: 'host', about: 'route', says: `to ${destination} ${says}`, outcome: 'on' })
  walking.packet = { ...walking.packet, output: link?.name ?? '' }
  if (input !== undefined) forward(walking)
  if (link && !link.up)
    stop(walking, {
      place: 'host',
      about: 'link',
      says: `${link.name} is down`,
      commands: [`ip link set ${link.name} up`],
    })
  passFilters(walking, 'postrouting')
  if (link) send(walking, link, found.gateway ?? destination)
}

function forward(walking: Walking): void {
  const { packet } = walking
  const key = familyOfPacket(packet) === 'ip' ? 'net/ipv4/ip_forward' : 'net/ipv6/conf/all/forwarding'
  if (readSysctl(key) === '0')
    stop(walking, {
      place: 'host',
      about: 'sysctl',
      says: `${key.replaceAll('/', '.')} is 0: the host forwards nothing`,
      commands: [`sysctl -w ${key.replaceAll('/', '.')}=1`],
    })
  checkReversePath(walking)
  passFilters(walking, 'forward')
}

/** Strict: it must have come in by the link by which the host would answer. */
function checkReversePath(walking: Walking): void {
  const { source, input = '' } = walking.packet
  if (isIpv6(source)) return
  const of = (name: string) => Number(readSysctl(`net/ipv4/conf/${name}/rp_filter`) ?? 0)
  if (Math.max(of('all'), of(input)) !== 1) return
  using transport = openRoute()
  const back = ask(transport, source)
  const link = walking.node.host.links.find(
    ({ index }) => !(back instanceof KernelError) && index === back.link,
  )
  if (link?.name === input) return
  stop(walking, {
    place: 'host',
    about: 'sysctl',
    says: `rp_filter of ${input} is strict, and the host would answer ${source} by ${link?.name ?? 'no link'}`,
    commands: [`sysctl -w net.ipv4.conf.${input}.rp_filter=2`],
  })
}

/** Out of a link of the host: to a container behind it, or away. */
function send(walking: Walking, link: Link, nextHop: string): void {
  const target = walking.node.attachments.find(
    ({ host, addresses, label }) =>
      label !== 'orphan' &&
      (host?.index === link.index || host?.master === link.index) &&
      addresses.some(each => bare(each) === nextHop),
  )
  over(walking, 'host', link)
  if (target) {
    const end = target.host
    if (end && !end.up)
      stop(walking, {
        place: 'host',
        about: 'link',
        says: `${end.name} is down`,
        commands: [`ip link set ${end.name} up`],
      })
    if (end && end.index !== link.index) {
      note(walking, {
        place: 'host',
        about: 'bridge',
        says: `${link.name} hands it to ${end.name}`,
        outcome: 'on',
      })
      over(walking, 'host', end)
    }
    enterContainer(walking, target)
    return
  }
  const isContainers = walking.node.links.some(
    ({ link: own, role }) => own.index === link.index && role === 'bridge',
  )
  if (isContainers)
    stop(walking, {
      place: 'host',
      about: 'bridge',
      says: `no link on ${link.name} has ${nextHop}`,
      commands: ['catena doctor'],
    })
  note(walking, { place: 'host', about: 'exit', says: `it leaves the node by ${link.name}`, outcome: 'on' })
}
