/**
 * An attachment held against what ADD would make of it: in the twin it is deleted and added again, and what has come of that is
 * looked for on the node. A CHECK that says what is there instead, and what would mend it.
 */
import { readState } from '../../linux/files.ts'
import { SystemError } from '../../linux/libc/errno.ts'
import { inNamespace, namespaceState } from '../../linux/netns.ts'
import { isObject, type JsonObject, lookup } from '../../protocol/configuration.ts'
import { CniError, code } from '../../protocol/error.ts'
import {
  type CachedAttachment,
  delNetworkList,
  listAttachments,
  type NetworkList,
} from '../../runtime/network.ts'
import type { Where } from './calls.ts'
import { type Fact, type Facts, readFacts } from './facts.ts'
import { type Plan, planWithin, prepare } from './plan.ts'
import { type About, inPlace, quoted, type Step } from './step.ts'
import type { Event } from './steps.ts'
import type { Twin } from './twin.ts'

export interface Difference {
  where: Where
  about: About
  /** "mtu of eth0", "address 10.22.0.2/16 on eth0". */
  what: string
  /** "missing", "there", or what it is. */
  is: string
  /** What ADD makes it; "missing" for what ADD does not make. */
  wanted: string
  /** Lines for a shell that make it so, as far as a step of ADD has them. */
  mend: string[]
}

export interface Compared {
  shape: 'catena-differences-1'
  network: string
  containerId: string
  ifname: string
  netns: string
  differences: Difference[]
  notes: string[]
}

/** Compares in this process, which is in the twin afterwards and never comes back. Code 7 where there is nothing to compare with. */
export async function compareWithNow(given: Plan): Promise<Compared> {
  const { list, attachment } = given
  const { netns, containerId, ifname } = attachment
  if (list.plugins.some(({ type }) => type === 'host-device')) {
    throw new CniError(
      code.internal,
      'host-device: the device is in the container, and there is no other to try ADD with',
      {
        details: '`catena check` asks the plugin itself',
      },
    )
  }
  const cached = cachedOf(given)
  if (namespaceState(netns) !== 'present') {
    throw new CniError(code.invalidNamespace, `there is no namespace ${netns}`, {
      details: 'without --against-now plan says what ADD would do, were it there',
    })
  }
  const now = { host: readFacts('host'), container: inNamespace<Facts>(netns, () => readFacts('container')) }
  const whole = { ...attachment, ...givenAtAdd(cached, attachment) }
  const own = withAddresses(list, cached)
  const prepared = prepare(
    { ...given, list: own, attachment: whole },
    { host: hostLinksOf(cached), container: [ifname] },
  )
  const { twin, options } = prepared
  const failure = await forget(own, { ...whole, netns: twin.netns }, options)
  const before = factsIn(twin)
  const { planned, events } = await planWithin(prepared)
  if (planned.error)
    throw new CniError(planned.error.code, `ADD would fail: ${planned.error.message}`, {
      details: planned.error.details,
    })
  const after = factsIn(twin)
  const differences = (['host', 'container'] as const).flatMap(where => [
    ...lacking(now[where], made(before[where], after[where]), planned.steps),
    ...(where === 'container' ? surplus(now.container, after.container, ifname) : []),
  ])
  const all = [...differences, ...sysctlDifferences(events, twin), ...fileDifferences(events, twin)]
  return {
    shape: 'catena-differences-1',
    ...{ network: list.name, containerId, ifname, netns },
    differences: all.map(each => ({
      ...each,
      mend: each.mend.map(line => line.replaceAll('"$NETNS"', quoted(netns))),
    })),
    notes: [...planned.notes, ...(failure ? [`DEL in the twin: ${failure}`] : [])],
  }
}

function cachedOf({ list, attachment }: Plan): CachedAttachment | undefined {
  const { containerId, ifname } = attachment
  return listAttachments({ containerId, network: list.name }).find(each => each.ifname === ifname)
}

/** What the caller does not say is what ADD was given, as for CHECK and DEL. */
function givenAtAdd(cached: CachedAttachment | undefined, { args, capabilityArgs }: Plan['attachment']) {
  const said = { args: args ?? cached?.args, capabilityArgs: capabilityArgs ?? cached?.capabilityArgs }
  return {
    ...(said.args ? { args: said.args } : {}),
    ...(said.capabilityArgs ? { capabilityArgs: said.capabilityArgs } : {}),
  }
}

const resultOf = (cached: CachedAttachment | undefined): JsonObject => cached?.result ?? {}

function objectsAt(result: JsonObject, key: string): JsonObject[] {
  const found = lookup(result, key)
  return Array.isArray(found) ? found.filter(isObject) : []
}

/** Host ends: they are made again. Bridges stay; a name that is a bridge's is taken for none here by the twin. */
function hostLinksOf(cached: CachedAttachment | undefined): string[] {
  return objectsAt(resultOf(cached), 'interfaces')
    .filter(each => !lookup(each, 'sandbox'))
    .map(each => String(lookup(each, 'name')))
    .filter(name => /^(veth|bwp)/.test(name))
}

/** host-local is asked for the addresses that the container has: they were given once, and would be others the next time. */
function withAddresses(list: NetworkList, cached: CachedAttachment | undefined): NetworkList {
  const ips = objectsAt(resultOf(cached), 'ips').map(each => String(lookup(each, 'address')))
  if (ips.length === 0) return list
  const plugins = list.plugins.map(plugin => {
    const { raw } = plugin
    const ipam = lookup(raw, 'ipam')
    if (!isObject(ipam) || lookup(ipam, 'type') !== 'host-local') return plugin
    const args = lookup(raw, 'args')
    const cni = isObject(args) ? lookup(args, 'cni') : undefined
    const more = { ...(isObject(args) ? args : {}), cni: { ...(isObject(cni) ? cni : {}), ips } }
    return { ...plugin, raw: { ...raw, args: more } }
  })
  return { ...list, plugins }
}

/** Takes the attachment away in the twin; answers why that failed. */
async function forget(
  list: NetworkList,
  attachment: Plan['attachment'],
  options: ReturnType<typeof prepare>['options'],
): Promise<string | undefined> {
  try {
    await delNetworkList(list, attachment, options)
    return undefined
  } catch (thrown) {
    return thrown instanceof Error ? thrown.message : String(thrown)
  }
}

const factsIn = ({ netns }: Twin) => ({
  host: readFacts('host'),
  container: inNamespace<Facts>(netns, () => readFacts('container')),
})

/** What ADD has made or changed. */
function made(before: Facts, after: Facts): Fact[] {
  return [...after].filter(([key, fact]) => before.get(key)?.value !== fact.value).map(([, fact]) => fact)
}

function lacking(now: Facts, wanted: readonly Fact[], steps: readonly Step[]): Difference[] {
  return wanted.flatMap((fact): Difference[] => {
    const { about, where, what, value } = fact
    const found = now.get(`${where} ${what}`)
    if (found?.value === value) return []
    const is = found?.value ?? 'missing'
    return [{ where, about, what, is, wanted: value, mend: mendOf(fact, steps) }]
  })
}

/** The lines of the step that speaks of it; what a link is like without a step for it, ip sets. */
function mendOf({ about, where, hint, what, value }: Fact, steps: readonly Step[]): string[] {
  const [, property = '', link = ''] = /^(.*) (?:of|on|over) (\S+)/.exec(what) ?? []
  const set = { mtu: `mtu ${value}`, state: value }[property]
  if (about === 'link' && set !== undefined) return [inPlace(where, `ip link set dev ${quoted(link)} ${set}`)]
  const isMeant = (step: Step) =>
    hint !== '' &&
    step.about === about &&
    step.where === where &&
    hint.split('\n').every(words => step.does.includes(words)) &&
    (about !== 'link' || step.does.includes(link))
  const found = steps.findLast(isMeant)
  return found?.alone ?? found?.commands ?? []
}

/** What somebody has put on the interface. */
function surplus(now: Facts, after: Facts, ifname: string): Difference[] {
  return [...now].flatMap(([key, { about, where, what }]): Difference[] => {
    const isOnInterface = new RegExp(` (on|over) ${RegExp.escape(ifname)}( |$)`).test(what)
    if (after.has(key) || !isOnInterface || (about !== 'address' && about !== 'route')) return []
    return [{ where, about, what, is: 'there', wanted: 'missing', mend: [] }]
  })
}

function sysctlDifferences(events: readonly Event[], { captured }: Twin): Difference[] {
  const last = new Map(
    events.flatMap(event =>
      event.kind === 'sysctl' ? [[`${event.where} ${event.key}`, event] as const] : [],
    ),
  )
  return [...last.values()].flatMap(({ where, key, value }): Difference[] => {
    const is = captured[where]?.sysctls.get(key)
    if (is === undefined || is === value) return []
    const mend = [inPlace(where, `sysctl -qw ${quoted(`${key}=${value}`)}`)]
    return [{ where, about: 'sysctl', what: `sysctl ${key.replaceAll('/', '.')}`, is, wanted: value, mend }]
  })
}

/** Hints and results: others at each ADD. */
const VOLATILE = /\/host-local\/|\/results\/|\/last_reserved_ip\.|\/boot$|\/lock$|\/locks\/|\/records\//

/** Files that ADD makes, and whether they are there; their content is told where it is another container's. */
function fileDifferences(events: readonly Event[], { original }: Twin): Difference[] {
  const paths = events.flatMap(event => {
    if (event.kind !== 'file') return []
    if (event.does === 'rename' || event.does === 'link') return [event.to ?? '']
    return event.does === 'write' || event.does === 'create' ? [event.path] : []
  })
  return [...new Set(paths)]
    .filter(path => !VOLATILE.test(path) && !/\/\.[^/]*$/.test(path))
    .flatMap((path): Difference[] => {
      const [is, wanted] = [textAt(original(path)), textAt(path)]
      if (wanted === undefined || is === wanted) return []
      const isReservation = /\/networks\/[^/]+\/[0-9a-f.:]+$/.test(path)
      if (is !== undefined && !isReservation) return []
      return [
        {
          where: 'host',
          about: 'file',
          what: `file ${path}`,
          is: is === undefined ? 'missing' : JSON.stringify(is),
          wanted: is === undefined ? 'there' : JSON.stringify(wanted),
          mend: [],
        },
      ]
    })
}

function textAt(path: string): string | undefined {
  try {
    return readState(path)
  } catch (thrown) {
    if (thrown instanceof SystemError) return undefined
    throw thrown
  }
}
