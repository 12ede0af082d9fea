/** Messages about links in words, and as lines of ip and bridge. Pure. */
import { hardwareAddressText } from '../../ip/hardware.ts'
import {
  type AttributeMap,
  attributeMap,
  attributes,
  readText,
  readUint8,
  readUint16,
  readUint32,
  viewOf,
} from '../../linux/netlink/codec.ts'
import type { NetlinkCall, Where } from './calls.ts'
import { type Context, inPlace, type Names, nameOf, type Part, quoted, words } from './step.ts'

const NEW = 0
const DELETE = 1
const AF_BRIDGE = 7
const CREATE = 0x400 // NLM_F_CREATE
// IFLA_*
const link = {
  address: 1,
  name: 3,
  mtu: 4,
  parent: 5,
  master: 10,
  queue: 13,
  info: 18,
  alias: 20,
  specific: 26,
  group: 27,
  namespace: 28,
} as const

/** The settings of a link in a message, as words of ip. */
function settingsIn(found: AttributeMap, { names, where }: { names: Names; where: Where }): string[] {
  const words: string[] = []
  const add = (key: number, read: (value: Uint8Array) => string[]) => {
    const value = found.get(key)
    if (value) words.push(...read(value))
  }
  add(link.address, value => ['address', hardwareAddressText(value)])
  add(link.mtu, value => ['mtu', String(readUint32(value))])
  add(link.queue, value => ['txqueuelen', String(readUint32(value))])
  add(link.group, value => ['group', String(readUint32(value))])
  add(link.alias, value => ['alias', readText(value)])
  add(link.master, value => {
    const index = readUint32(value)
    return index === 0 ? ['nomaster'] : ['master', nameOf(names, where, index)]
  })
  return words
}

const flagWords: readonly [number, string, string][] = [
  [1, 'up', 'down'],
  [0x100, 'promisc on', 'promisc off'],
  [0x200, 'allmulticast on', 'allmulticast off'],
]

function flagsIn(payload: Uint8Array): string[] {
  const view = viewOf(payload)
  const [flags, change] = [view.getUint32(8, true), view.getUint32(12, true)]
  return flagWords.flatMap(([bit, on, off]) => (change & bit ? [flags & bit ? on : off] : []))
}

export function linkPart(call: NetlinkCall, context: Context): Part | undefined {
  const { message, where } = call
  const { names, verb } = context
  const index = viewOf(message.payload).getInt32(4, true)
  const found = attributeMap(message.payload.subarray(16))
  const named = found.get(link.name)
  const name = index > 0 ? nameOf(names, where, index) : named ? readText(named) : ''
  if (message.payload[0] === AF_BRIDGE) return vlanPart(found, { name, where, verb })
  if (verb === DELETE)
    return {
      about: 'link',
      does: `delete link ${name}`,
      lines: [inPlace(where, words('ip link delete', name))],
    }
  const info = attributeMap(found.get(link.info) ?? new Uint8Array(0))
  if (verb === NEW && message.flags & CREATE) return newLinkPart(call, { found, info, names, name })
  if (info.has(5)) return portPart(info, { name, where })
  if (verb === NEW && info.has(1)) return kindPart(info, { name, where })
  const settings = [...settingsIn(found, { names, where }), ...flagsIn(message.payload)]
  if (found.has(link.namespace)) settings.push('netns', where === 'host' ? '"$NETNS"' : '1')
  if (named && index > 0) settings.push('name', readText(named))
  if (settings.length === 0) return undefined
  return {
    about: 'link',
    does: `set ${settings.join(' ')} on ${name}`,
    lines: [inPlace(where, `ip link set dev ${quoted(name)} ${words(...settings)}`)],
  }
}

const INFO_KIND = 1
const INFO_DATA = 2

interface Created {
  found: AttributeMap
  info: AttributeMap
  names: Names
  name: string
}

function newLinkPart({ where, message }: NetlinkCall, { found, info, names, name }: Created): Part {
  const kind = readText(info.get(INFO_KIND) ?? new Uint8Array(0))
  const data = attributeMap(info.get(INFO_DATA) ?? new Uint8Array(0))
  const place = { names, where }
  const settings = [...settingsIn(found, place), ...flagsIn(message.payload)]
  if (kind === 'veth') return pairPart({ where, names, name, settings }, data.get(1) ?? new Uint8Array(0))
  const parent = found.get(link.parent)
  const other = where === 'host' ? 'container' : 'host'
  const master = parent ? nameOf(names, found.has(37) ? other : where, readUint32(parent)) : undefined
  const more = kindWords(kind, data)
  const head = [...(master ? ['link', master] : []), 'name', name]
  const flags = settings.filter(each => /^(up|down|promisc|allmulti)/.test(each))
  const first = settings.filter(each => !flags.includes(each))
  // of a link elsewhere only one who is there can make another: it is moved afterwards
  const isElsewhere = found.has(37)
  const at = isElsewhere ? other : where
  const to = isElsewhere ? ` netns ${where === 'host' ? '1' : '"$NETNS"'}` : ''
  return {
    about: 'link',
    does: `create ${[kind, name, ...(master ? [`on ${master}`] : []), ...more, ...settings].join(' ')}`,
    lines: [
      inPlace(at, `ip link add ${words(...head, ...first)}${to} type ${words(kind, ...more)}`),
      ...(flags.length > 0 ? [inPlace(where, `ip link set dev ${quoted(name)} ${flags.join(' ')}`)] : []),
    ],
  }
}

function kindWords(kind: string, data: AttributeMap): string[] {
  const read = (key: number, reader: (value: Uint8Array) => number) => {
    const value = data.get(key)
    return value && reader(value)
  }
  const modes: Readonly<Record<number, string>> = { 1: 'private', 2: 'vepa', 4: 'bridge', 8: 'passthru' }
  const ways = ['l2', 'l3', 'l3s']
  switch (kind) {
    case 'macvlan':
      return ['mode', modes[read(1, readUint32) ?? 4] ?? 'bridge']
    case 'ipvlan':
      return ['mode', ways[read(1, readUint16) ?? 0] ?? 'l2']
    case 'vlan':
      return ['id', String(read(1, readUint16))]
    case 'vrf':
      return ['table', String(read(1, readUint32))]
    case 'bridge': {
      const filtering = read(7, readUint8)
      return filtering === undefined ? [] : ['vlan_filtering', String(filtering)]
    }
    default:
      return []
  }
}

/** A pair is made where its end for the host is: ip can put the other one into a namespace by its path. */
function pairPart(
  { where, names, name, settings }: { where: Where; names: Names; name: string; settings: readonly string[] },
  peer: Uint8Array,
): Part {
  const found = attributeMap(peer.subarray(16))
  const far = found.has(link.namespace) ? (where === 'host' ? 'container' : 'host') : where
  const other = readText(found.get(link.name) ?? new Uint8Array(0))
  const its = [...settingsIn(found, { names, where: far }), ...flagsIn(peer).filter(Boolean)]
  const up = viewOf(peer).getUint32(8, true) & 1 ? ['up'] : []
  const [near, away] = [
    { where, name, settings: [...settings] },
    { where: far, name: other, settings: [...new Set([...its, ...up])] },
  ]
  const [here, there] = where === 'host' ? [near, away] : [away, near]
  const isFlag = (word: string) => /^(up|down|promisc|allmulti)/.test(word)
  const plain = (all: readonly string[]) => all.filter(word => !isFlag(word))
  const later = [here, there].flatMap(end => {
    const flags = end.settings.filter(isFlag)
    return flags.length > 0
      ? [inPlace(end.where, `ip link set dev ${quoted(end.name)} ${flags.join(' ')}`)]
      : []
  })
  const target =
    there.where === here.where ? '' : there.where === 'container' ? ' netns "$NETNS"' : ' netns 1'
  const line = `ip link add ${words('name', here.name, ...plain(here.settings))} type veth peer ${words('name', there.name, ...plain(there.settings))}${target}`
  const end = (each: typeof near) =>
    `${each.name}${each.settings.length > 0 ? ` (${each.settings.join(' ')})` : ''}`
  return {
    about: 'link',
    does: `create a veth pair: ${end(near)}, and ${end(away)} ${far === 'host' ? 'on the host' : 'in the container'}`,
    lines: [inPlace(here.where, line), ...later],
  }
}

function kindPart(info: AttributeMap, { name, where }: { name: string; where: Where }): Part {
  const kind = readText(info.get(INFO_KIND) ?? new Uint8Array(0))
  const more = kindWords(kind, attributeMap(info.get(INFO_DATA) ?? new Uint8Array(0)))
  return {
    about: 'link',
    does: `set ${more.join(' ')} on ${kind} ${name}`,
    lines: [inPlace(where, `ip link set dev ${quoted(name)} type ${words(kind, ...more)}`)],
  }
}

const HAIRPIN = 4
const ISOLATED = 33

function portPart(info: AttributeMap, { name, where }: { name: string; where: Where }): Part {
  const data = attributeMap(info.get(5) ?? new Uint8Array(0))
  const on = (key: number, word: string) => {
    const value = data.get(key)
    return value ? [`${word} ${readUint8(value) ? 'on' : 'off'}`] : []
  }
  const settings = [...on(HAIRPIN, 'hairpin'), ...on(ISOLATED, 'isolated')]
  return {
    about: 'link',
    does: `set ${settings.join(', ')} on port ${name}`,
    lines: [inPlace(where, `bridge link set dev ${quoted(name)} ${settings.join(' ')}`)],
  }
}

/** VLANs of a bridge's port: IFLA_BRIDGE_VLAN_INFO, ranges as two. */
function vlanPart(
  found: AttributeMap,
  { name, where, verb }: { name: string; where: Where; verb: number },
): Part | undefined {
  const entries = attributes(found.get(link.specific) ?? new Uint8Array(0)).filter(({ type }) => type === 2)
  const vlans: string[] = []
  let first: number | undefined
  for (const { value } of entries) {
    const [flags, id] = [readUint16(value), readUint16(value.subarray(2))]
    if (flags & 8) first = id
    else {
      const range = first === undefined ? String(id) : `${first}-${id}`
      vlans.push(
        [`vid ${range}`, ...(flags & 2 ? ['pvid'] : []), ...(flags & 4 ? ['untagged'] : [])].join(' '),
      )
      first = undefined
    }
  }
  if (vlans.length === 0) return undefined
  const verbs = verb === DELETE ? 'del' : 'add'
  return {
    about: 'link',
    does: `${verb === DELETE ? 'take' : 'give'} ${vlans.join(', ')} ${verb === DELETE ? 'from' : 'to'} port ${name}`,
    lines: vlans.map(vlan => inPlace(where, `bridge vlan ${verbs} dev ${quoted(name)} ${vlan}`)),
  }
}
