/** sbr: source based routing. What a container sends from an interface's addresses is routed by a table of its own. */

import { onHost, openContainer, openContainerIfPresent } from '../chain/interface/configure.ts'
import { otherOwner, sayLeft } from '../chain/interface/owner.ts'
import { freeTables, tablesOf } from '../chain/interface/routing-table.ts'
import { parseAddress, parseCidr } from '../chain/ip/address.ts'
import { familyOf, isIpv6, widthOf } from '../chain/ip/family.ts'
import { splitCidr } from '../chain/ip/text.ts'
import { errno } from '../chain/linux/libc/errno.ts'
import { listAddresses } from '../chain/linux/netlink/address.ts'
import { findLink, type Link } from '../chain/linux/netlink/link.ts'
import {
  describeRoute,
  listRoutes,
  newRoute,
  type Route,
  removeRoute,
  replacingRoutes,
} from '../chain/linux/netlink/route.ts'
import {
  addRule,
  describeRule,
  listRules,
  type Rule,
  removeRule,
  sourceRule,
} from '../chain/linux/netlink/rule.ts'
import { isRefusal, request, type Transport } from '../chain/linux/netlink/socket.ts'
import { type AddRequest, definePlugin } from '../chain/plugin/define.ts'
import { requireKernel } from '../chain/plugin/probe.ts'
import { main } from '../chain/plugin/run.ts'
import { everyStep, reversible, type Undo } from '../chain/plugin/undo.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import type { IpConfig, Result } from '../chain/protocol/result.ts'
import { configuration } from './sbr/checks.ts'
import { gatewaysFirst, isFilled, isMovable, routesFor, withSourceHint } from './sbr/routes.ts'
import type { Configuration } from './sbr/schema.ts'

const FIRST_TABLE = 100

export const sbr = definePlugin({
  name: 'sbr',
  chained: true,
  config: configuration,

  examine: config => void withGateways([], config),

  async add(request) {
    const { attachment, config, netns, previous, undo, keep } = request
    const ips = withGateways(ownAddresses(previous, attachment.ifname), config)
    await request.alone(tablesOf(netns))
    const container = keep(openContainer(netns))
    const link = findLink(container, attachment.ifname)
    if (!link)
      throw new CniError(
        code.internal,
        `Cannot find network interface ${attachment.ifname}: Link not found in ${netns}`,
      )
    if (config.table === undefined) separate(container, request, { link, ips })
    else for (const ip of ips) lookUp(container, undo, sourceRule(hostOf(ip), config.table))
    return previous
  },

  check({ attachment, config, netns, previous }) {
    const ips = withGateways(ownAddresses(previous, attachment.ifname), config)
    using container = openContainer(netns)
    const link = findLink(container, attachment.ifname)
    const rules = listRules(container)
    const routes = link ? listRoutes(container, { link: link.index }) : []
    const differences = ips.flatMap(ip => {
      const rule = rules.find(rule => isFrom(rule, [hostOf(ip)], config.table))
      if (!rule) return [`there is no rule for packets from ${hostOf(ip)}`]
      const hasRoutes = routes.some(({ table }) => table === rule.table)
      return hasRoutes || config.table !== undefined || !isFilled(ip)
        ? []
        : [`table ${rule.table} for packets from ${hostOf(ip)} has no route over ${attachment.ifname}`]
    })
    if (differences.length === 0) return
    throw new CniError(code.internal, differences.join('; '), {
      details: `the rules in ${netns} no longer are as ADD left them; they are ${rules.map(describeRule).join(', ')}`,
    })
  },

  async del({ attachment, config, netns, previous, io }) {
    using container = openContainerIfPresent(netns)
    if (!container) return
    const link = findLink(container, attachment.ifname)
    const other = link && onHost(host => otherOwner({ attachment, netns }, { host, container }, link))
    if (other !== undefined)
      return sayLeft(io, `routing by source of ${attachment.ifname} in ${netns}`, other)
    const told = previous ? addressesIn(previous, attachment.ifname).map(hostOf) : []
    const present = link ? listAddresses(container, link.index).map(({ address }) => address) : []
    const rules = listRules(container).filter(rule => isFrom(rule, [...told, ...present], config.table))
    // a step each, under a name of its own: of several rules for one address none may stand for the others
    await everyStep(
      Object.fromEntries(
        rules.map((rule, index) => [
          `delete rule ${describeRule(rule)} (${index + 1} of ${rules.length})`,
          () => removeRule(container, rule),
        ]),
      ),
    )
  },

  status() {
    requireKernel('routing by source (CONFIG_IP_MULTIPLE_TABLES)', route => {
      for (const address of ['192.0.2.1', '2001:db8::1']) addRule(route, sourceRule(address, FIRST_TABLE))
    })
  },
})

/** Addresses that prevResult gives the interface; those that it gives no interface count as well. */
function addressesIn({ interfaces, ips }: Result, name: string): IpConfig[] {
  return ips.filter(({ interface: index }) => (interfaces[index ?? -1]?.name ?? name) === name)
}

function ownAddresses(previous: Result, name: string): IpConfig[] {
  if (previous.ips.length > 0) return addressesIn(previous, name)
  throw new CniError(code.internal, `prevResult: No IP addresses supplied on interface: ${name}`, {
    details: `sbr comes after a plugin that gives ${name} addresses`,
  })
}

/** Addresses with the gateways that the configuration names, each for its family, in place of their own. */
function withGateways(ips: readonly IpConfig[], { gateways = [] }: Configuration): IpConfig[] {
  const families = gateways.map(gateway => parseAddress(gateway)?.family)
  const refuse = (reason: string): never => {
    throw new CniError(
      code.invalidConfiguration,
      `gateways: ${reason}: got ${JSON.stringify(gateways).slice(0, 200)}`,
      {
        details: 'there may be one IPv4 gateway and one IPv6 gateway, for all addresses of their family',
      },
    )
  }
  if (gateways.length > 2) refuse('gateways list cannot contain more than 2 entries')
  if (families.includes(undefined)) refuse('invalid static gateway IP address')
  const [first, second] = families
  if (first !== undefined && first === second) refuse(`gateways list contains multiple IPv${first} addresses`)
  return ips.map(ip => {
    const gateway = gateways[families.indexOf(parseCidr(ip.address)?.address.family)]
    return gateway === undefined ? ip : { ...ip, gateway }
  })
}

/** The address without its prefix length. */
function hostOf({ address }: IpConfig): string {
  return splitCidr(address)?.address ?? address
}

/** Whether a rule is for packets from one of these addresses alone. */
function isFrom(
  { input, source, table: own }: Rule,
  addresses: readonly string[],
  table: number | undefined,
): boolean {
  const whole = source && source.prefixLength === widthOf(familyOf(source.address))
  return Boolean(whole && input === undefined && addresses.includes(source.address) && (table ?? own) === own)
}

function lookUp(container: Transport, undo: Undo, rule: Rule): void {
  reversible(undo, `delete rule ${describeRule(rule)}`, {
    forth: () => addRule(container, rule),
    back: () => removeRule(container, rule),
  })
}

/** Gives each address a table with its routes, and takes these out of the main table. */
function separate(
  container: Transport,
  { config, undo }: AddRequest<Configuration>,
  { link, ips }: { link: Link; ips: readonly IpConfig[] },
): void {
  const routes = listRoutes(container, { table: 254, link: link.index }) // RT_TABLE_MAIN
  const networks = ips.flatMap(({ address }) => parseCidr(address) ?? [])
  const tables = freeTables(container, { first: FIRST_TABLE })
  for (const ip of ips) {
    const { value: table } = tables.next()
    lookUp(container, undo, sourceRule(hostOf(ip), table))
    const own = routesFor(ip, { link: link.index, networks, routes, table })
    for (const [index, copied] of replacingRoutes(own).entries()) {
      const route = own[index]
      reversible(undo, `delete a route of table ${table}`, {
        forth: () => request(container, copied),
        back: () => route && removeRoute(container, route),
      })
    }
  }
  const families = new Set(ips.map(({ address }) => isIpv6(address)))
  const movable = gatewaysFirst(routes).filter(route => isMovable(route, families))
  const hinted = config.addSourceHints ? ips.flatMap(ip => withSourceHint(ip, routes) ?? []) : []
  for (const each of hinted) hint(container, undo, each)
  const isStaying = (route: Route) => config.addSourceHints && route.gateway === undefined
  for (const route of movable) if (!isStaying(route)) takeAway(container, undo, route)
}

function hint(container: Transport, undo: Undo, { bare, hinted }: { bare: Route; hinted: Route }): void {
  reversible(undo, `take the source from route ${describeRoute(bare)}`, {
    forth: () => request(container, newRoute(hinted, 'replace')),
    back: () => request(container, newRoute(bare, 'replace')),
  })
}

function takeAway(container: Transport, undo: Undo, route: Route): void {
  reversible(undo, 'restore a route of the main table', {
    forth: () => removeRoute(container, route),
    back: () => putBack(container, route),
  })
}

/** It may be there still. */
function putBack(container: Transport, route: Route): void {
  try {
    request(container, newRoute(route, 'beside'))
  } catch (thrown) {
    if (!isRefusal(thrown, errno.EEXIST)) throw thrown
  }
}

if (import.meta.main) main(sbr)
