/** The link that a container's interface stands on: which one it is, what it bounds, whether it still is the one. */
import { errno } from '../linux/libc/errno.ts'
import { findLink, type Link } from '../linux/netlink/link.ts'
import type { Kind } from '../linux/netlink/link-kind.ts'
import { hasKind } from '../linux/netlink/link-probe.ts'
import { listRoutes, MAIN_TABLE } from '../linux/netlink/route.ts'
import { isRefusal, type Transport } from '../linux/netlink/socket.ts'
import { CniError, code } from '../protocol/error.ts'
import { differs, onHost, openContainer } from './configure.ts'
import { isParentHere } from './owner.ts'

/** What the configuration says about the master. */
export interface MasterChoice {
  master?: string | undefined
  /** It is in the container, not on the host. */
  linkInContainer: boolean
}

export interface Master {
  link: Link
  inContainer: boolean
}

/** Where the master is looked for, in words. */
const placeOf = ({ linkInContainer }: MasterChoice, netns: string) => (linkInContainer ? netns : 'the host')

/** The master by its name; without one, the device of the first default route. Code 7 when there is none. */
export function findMaster(choice: MasterChoice, netns: string): Master {
  const inContainer = choice.linkInContainer
  const look = (route: Transport) => lookFor(route, choice.master, placeOf(choice, netns))
  if (!inContainer) return { inContainer, link: onHost(look) }
  using container = openContainer(netns)
  return { inContainer, link: look(container) }
}

function lookFor(route: Transport, name: string | undefined, place: string): Link {
  const link = name ? findLink(route, name) : defaultRouteLink(route)
  if (link) return link
  throw name
    ? new CniError(
        code.invalidConfiguration,
        `master: failed to lookup master ${JSON.stringify(name)}: Link not found`,
        {
          details: `there is no link ${name} in the network namespace of ${place}; \`ip link\` lists what is there`,
        },
      )
    : new CniError(code.invalidConfiguration, 'master: no default route interface found', {
        details: `the configuration names no master, and ${place} has no default route`,
      })
}

const RTN_UNICAST = 1

/** The device of the first default route of the main table, IPv4 before IPv6. */
function defaultRouteLink(route: Transport): Link | undefined {
  const found = listRoutes(route, { table: MAIN_TABLE, prefixLength: 0 }).find(
    ({ link, type }) => link !== undefined && type === RTN_UNICAST,
  )
  return found?.link === undefined ? undefined : findLink(route, found.link)
}

/** An interface cannot send larger packets than its master. */
export function checkMtu(mtu: number, { link }: Master): void {
  if (mtu >= 0 && mtu <= link.mtu) return
  throw new CniError(
    code.invalidConfiguration,
    `mtu: invalid MTU ${mtu}, must be [0, master MTU(${link.mtu})]`,
    {
      details: `the master is ${link.name}`,
    },
  )
}

/** An interface that cannot come up because its master is down, in words. */
export function explainDown(thrown: unknown, { link }: Master): unknown {
  if (!isRefusal(thrown, errno.ENETDOWN)) return thrown
  return new CniError(
    code.internal,
    `master: ${link.name} is down, so nothing that stands on it can come up`,
    {
      details: `${thrown.message}; \`ip link set ${link.name} up\``,
      cause: thrown,
    },
  )
}

/** CHECK: the interface stands on the configured master; on one that exists, where the configuration names none. */
export function checkMaster(link: Link, { choice, netns }: { choice: MasterChoice; netns: string }): void {
  using container = openContainer(netns)
  const expected = choice.master ? findMaster(choice, netns).link : undefined
  const isPlaced = choice.linkInContainer
    ? link.parentNamespace === undefined
    : isParentHere(link, { container, netns })
  if (!isPlaced) {
    throw differs(`master: ${link.name} does not stand on a link of ${placeOf(choice, netns)}`)
  }
  if (expected && link.parent !== expected.index) {
    throw differs(
      `master: ${link.name} stands on link ${link.parent}, not on ${expected.name} (${expected.index})`,
    )
  }
}

/** CHECK: the MTU is the one that a later plugin reported or the configuration sets; an inherited one may follow the master. */
export function checkLinkMtu(link: Link, expected: number | undefined): void {
  if (expected && link.mtu !== expected) {
    throw differs(`mtu: interface ${link.name} has MTU ${link.mtu}, not ${expected}`)
  }
}

function missingKind(kind: string, cause?: unknown): CniError {
  return new CniError(
    code.pluginNotAvailable,
    `failed to create ${kind}: operation not supported: the kernel has no ${kind} links`,
    {
      details: `\`modprobe ${kind === 'vlan' ? '8021q' : kind}\` tells whether it can load them`,
      cause,
    },
  )
}

/** A refusal because the kernel lacks the kind of link, in words. */
export function explainKind(thrown: unknown, kind: Kind['type']): unknown {
  if (!isRefusal(thrown, errno.EOPNOTSUPP) || onHost(host => hasKind(host, kind))) return thrown
  return missingKind(kind, thrown)
}

/** Creates a link; a kernel that has none of the kind is code 50. */
export function explained<T>(kind: Kind['type'], create: () => T): T {
  try {
    return create()
  } catch (thrown) {
    throw explainKind(thrown, kind)
  }
}

/** STATUS: the kernel has the kind, and the host has the master. Code 50 with the reason. */
export function requireReady(kind: Kind['type'], choice?: MasterChoice): void {
  if (!onHost(host => hasKind(host, kind))) throw missingKind(kind)
  if (!choice || choice.linkInContainer) return // which container, STATUS is not told
  try {
    findMaster(choice, '')
  } catch (thrown) {
    if (!(thrown instanceof CniError)) throw thrown
    throw new CniError(code.pluginNotAvailable, thrown.message, { details: thrown.details, cause: thrown })
  }
}
