/** What a namespace is like, as facts that can be held against one another: each has a key, and a value that can be another one. */
import { isGlobalUnicast } from '../../ip/text.ts'
import { listAddresses } from '../../linux/netlink/address.ts'
import { type Link, listLinks } from '../../linux/netlink/link.ts'
import { listDisciplines } from '../../linux/netlink/qdisc.ts'
import { describeRoute, LOCAL_TABLE, listRoutes, MAIN_TABLE } from '../../linux/netlink/route.ts'
import { describeRule, listRules } from '../../linux/netlink/rule.ts'
import { openRoute } from '../../linux/netlink/socket.ts'
import { readFilters } from '../../observe/filters.ts'
import type { Where } from './calls.ts'
import { captureRuleset, familyNames } from './ruleset.ts'
import type { About } from './step.ts'

export interface Fact {
  about: About
  where: Where
  /** "address 10.22.0.2/16 on eth0", "mtu of eth0". */
  what: string
  /** "there", or what it is: "1500". */
  value: string
  /** Words that the step has which makes it so; several are on lines of their own. */
  hint: string
}

/** By where and what. */
export type Facts = ReadonlyMap<string, Fact>

const THERE = 'there'

function indexed(facts: readonly Fact[]): Facts {
  return new Map(facts.map(fact => [`${fact.where} ${fact.what}`, fact]))
}

/** The facts of the namespace that the thread is in; of the host packet filters as well. */
export function readFacts(where: Where): Facts {
  using route = openRoute()
  const links = listLinks(route)
  const nameOf = (index: number | undefined) =>
    links.find(link => link.index === index)?.name ?? `link ${index}`
  const fact = (about: About, what: string, rest: Partial<Fact> = {}): Fact => ({
    ...{ about, where, what, value: THERE, hint: what },
    ...rest,
  })
  const addresses = listAddresses(route).filter(({ address }) => isGlobalUnicast(address))
  const routes = listRoutes(route).filter(
    ({ table, protocol }) => table !== LOCAL_TABLE && protocol !== RTPROT_KERNEL,
  )
  return indexed([
    ...links.flatMap(link =>
      linkFacts(link, nameOf).map(([what, value, hint]) => fact('link', what, { value, hint })),
    ),
    ...addresses.map(({ address, prefixLength, link }) =>
      fact('address', `address ${address}/${prefixLength} on ${nameOf(link)}`, {
        hint: `${address}/${prefixLength}`,
      }),
    ),
    ...routes.map(each => {
      const said = describeRoute(each)
      const table = each.table === MAIN_TABLE ? '' : ` in table ${each.table}`
      return fact('route', `route ${said} over ${nameOf(each.link)}${table}`, { hint: said })
    }),
    ...listRules(route).map(rule => fact('rule', `rule ${describeRule(rule)}`, { hint: describeRule(rule) })),
    ...listDisciplines(route)
      .filter(({ kind }) => kind !== 'noqueue')
      .map(({ link, kind, bucket }) =>
        fact('limit', `limit of ${nameOf(link)}`, {
          value: bucket ? `${kind} ${bucket.rate}` : kind,
          hint: nameOf(link),
        }),
      ),
    ...(where === 'host' ? filterFacts() : []),
  ])
}

const RTPROT_KERNEL = 2

/** What, value, and the word that its step has. Hardware addresses are often random, and are left out. */
function linkFacts(link: Link, nameOf: (index: number | undefined) => string): [string, string, string][] {
  const { name, kind, up, mtu, master, alias, promiscuous, data, port } = link
  const rows: [string, unknown, string][] = [
    ['kind', kind ?? 'device', 'create'],
    ['state', up ? 'up' : 'down', 'up'],
    ['mtu', mtu, 'mtu'],
    ['master', master === undefined ? 'none' : nameOf(master), 'master'],
    ['alias', alias ?? 'none', 'alias'],
    ['promiscuous mode', promiscuous ? 'on' : 'off', 'promisc'],
    ['VLAN', data.vlan, 'create'],
    [
      'VLAN filtering',
      data.vlanFiltering === undefined ? undefined : data.vlanFiltering ? 'on' : 'off',
      'vlan_filtering',
    ],
    ['hairpin mode', port && (port.hairpin ? 'on' : 'off'), 'hairpin'],
    ['isolation', port && (port.isolated ? 'on' : 'off'), 'isolated'],
  ]
  return rows.flatMap(([what, value, hint]) =>
    value === undefined ? [] : [[`${what} of ${name}`, String(value), hint] as [string, string, string]],
  )
}

const RULE = 6

/** Elements one by one, as they are owned; of tables and chains whether they are there, and how many rules they have. */
function filterFacts(): Fact[] {
  const owned = readFilters().map(({ backend, family, table, place, text }): Fact => {
    const what = `${text} in ${family} ${table} ${place}`
    return {
      about: backend,
      where: 'host',
      what,
      value: THERE,
      hint: `${table} ${place} {\n${text.split(' : ')[0]}`,
    }
  })
  const tables = [...captureRuleset()].map(([key, objects]): Fact => {
    const [family = '', name = ''] = key.split(' ')
    const rules = objects.filter(({ type }) => (type & 0xff) === RULE).length
    const what = `rules in table ${familyNames[family] ?? family} ${name}`
    return {
      about: 'nftables',
      where: 'host',
      what,
      value: String(rules),
      hint: '',
    }
  })
  return [...owned, ...tables]
}
