/** Links of every kind over rtnetlink (linux/if_link.h): list, find, create, change, remove. Knows nothing of CNI. */

import { hardwareAddressBytes, hardwareAddressText } from '../../ip/hardware.ts'
import { encodeText } from '../bytes.ts'
import { errno } from '../libc/errno.ts'
import {
  attribute,
  attributeMap,
  attributes,
  join,
  type Message,
  nested,
  readInt32,
  readText,
  readUint8,
  readUint32,
  split,
  text,
  uint8,
  uint32,
} from './codec.ts'
import {
  type BridgePort,
  type Kind,
  type KindData,
  kindAttributes,
  type LinkSettings,
  readBridgePort,
  readKindData,
} from './link-kind.ts'
import { CREATE, dump, EXCLUSIVE, isRefusal, type Request, request, type Transport } from './socket.ts'

export const RTM_NEWLINK = 16
export const RTM_DELLINK = 17
const RTM_GETLINK = 18
const RTM_SETLINK = 19
const RTM_DELLINKPROP = 109

// IFLA_*
const ADDRESS = 1
const IFNAME = 3
const MTU = 4
const LINK = 5
const MASTER = 10
const TXQLEN = 13
const OPERSTATE = 16
const LINKINFO = 18
const IFALIAS = 20
const GROUP = 27
const NET_NS_FD = 28
const PROMISCUITY = 30
const EXT_MASK = 29
const LINK_NETNSID = 37
const PROP_LIST = 52
const ALT_IFNAME = 53
const PERM_ADDRESS = 54
const PARENT_DEV_NAME = 56
// IFLA_INFO_*
const INFO_KIND = 1
const INFO_DATA = 2
const INFO_SLAVE_KIND = 4
const INFO_SLAVE_DATA = 5

// net/if.h
export const IFF_UP = 1
const IFF_LOOPBACK = 8
const IFF_PROMISC = 0x100
const IFF_ALLMULTI = 0x200
const RTEXT_FILTER_SKIP_STATS = 8

/** IF_OPER_*, RFC 2863. */
const OPERATIONAL_STATES = ['unknown', 'notpresent', 'down', 'lowerlayerdown', 'testing', 'dormant', 'up']

export interface Link {
  index: number
  name: string
  /** "veth", "bridge", …; absent for hardware and loopback. */
  kind?: string
  up: boolean
  loopback: boolean
  /** RFC 2863 state: "up", "down", "lowerlayerdown", "unknown", … */
  state: string
  mtu: number
  /** Hardware address in lower-case colon form; empty when the link has none. */
  address: string
  permanentAddress?: string
  /** Name of the device on its bus, such as a PCI address: no process can give a link another one. Since Linux 5.14. */
  parentDevice?: string
  /** Index of the link this one stands on: a veth's peer, a VLAN's or macvlan's parent. */
  parent?: number
  /** Namespace ID of the parent when it is elsewhere. */
  parentNamespace?: number
  master?: number
  alias?: string
  /** More names that the link is found by. */
  alternativeNames?: string[]
  /** Number of the group, 0 when none was set. */
  group: number
  transmitQueueLength: number
  promiscuity: number
  /** Asked for by someone through IFF_PROMISC, IFF_ALLMULTI. */
  promiscuous: boolean
  allMulticast: boolean
  /** What belongs to the kind: macvlan's mode, a VLAN's ID, a VRF's table. */
  data: KindData
  /** Settings as a bridge's port. */
  port?: BridgePort
}

export interface NewLink extends LinkSettings {
  name: string
  kind: Kind
  /** Index of the link to stand on. */
  parent?: number
  /** Namespace ID in which `parent` is, as seen from here. */
  parentNamespace?: number
}

/** A link by its name or its index. */
export type LinkSelector = string | number

function header(index: number, flags = 0, change = 0): Uint8Array {
  const view = new DataView(new ArrayBuffer(16)) // struct ifinfomsg
  view.setInt32(4, index, true)
  view.setUint32(8, flags, true)
  view.setUint32(12, change, true)
  return new Uint8Array(view.buffer)
}

function settingsAttributes(settings: LinkSettings): Uint8Array[] {
  const { name, mtu, address, master, namespace, alias, group, transmitQueueLength } = settings
  return [
    ...(name === undefined ? [] : [text(IFNAME, name)]),
    ...(mtu === undefined ? [] : [uint32(MTU, mtu)]),
    ...(address === undefined ? [] : [attribute(ADDRESS, hardwareAddressBytes(address))]),
    ...(master === undefined ? [] : [uint32(MASTER, master)]),
    ...(namespace === undefined ? [] : [uint32(NET_NS_FD, namespace)]),
    ...(alias === undefined ? [] : [attribute(IFALIAS, encodeText(alias === '' ? '\0' : alias))]),
    ...(group === undefined ? [] : [uint32(GROUP, group)]),
    ...(transmitQueueLength === undefined ? [] : [uint32(TXQLEN, transmitQueueLength)]),
  ]
}

function flagsOf({ up, promiscuous, allMulticast }: LinkSettings): { flags: number; change: number } {
  const bits = (select: (value: boolean | undefined) => boolean | undefined) =>
    (select(up) ? IFF_UP : 0) |
    (select(promiscuous) ? IFF_PROMISC : 0) |
    (select(allMulticast) ? IFF_ALLMULTI : 0)
  return { flags: bits(value => value), change: bits(value => value !== undefined) }
}

/** The request that creates a link. A link of that name that exists already is refused with EEXIST. */
export function newLink(link: NewLink): Request {
  const { flags, change } = flagsOf(link)
  const { data, type } = kindAttributes(link.kind, peer =>
    join(header(0, flagsOf(peer).flags, flagsOf(peer).change), ...settingsAttributes(peer)),
  )
  return {
    operation: `create ${type} ${link.name}`,
    type: RTM_NEWLINK,
    flags: CREATE | EXCLUSIVE,
    payload: join(
      header(0, flags, change),
      ...settingsAttributes(link),
      ...(link.parent === undefined ? [] : [uint32(LINK, link.parent)]),
      ...(link.parentNamespace === undefined ? [] : [uint32(LINK_NETNSID, link.parentNamespace)]),
      nested(LINKINFO, text(INFO_KIND, type), ...(data.length ? [nested(INFO_DATA, ...data)] : [])),
    ),
  }
}

function selected(selector: LinkSelector): { index: number; name: Uint8Array[] } {
  return typeof selector === 'number'
    ? { index: selector, name: [] }
    : { index: 0, name: [text(IFNAME, selector)] }
}

function labelOf(selector: LinkSelector): string {
  return typeof selector === 'number' ? `link ${selector}` : selector
}

/** The request that changes a link. Renaming needs the link's index as selector. */
export function changeLink(selector: LinkSelector, settings: LinkSettings): Request {
  const { index, name } = selected(selector)
  const { flags, change } = flagsOf(settings)
  return {
    get operation() {
      return `set ${describeSettings(settings)} on ${labelOf(selector)}`
    },
    type: RTM_SETLINK,
    payload: join(header(index, flags, change), ...name, ...settingsAttributes(settings)),
  }
}

function describeSettings(settings: LinkSettings): string {
  return Object.entries(settings)
    .map(([key, value]) => `${key} ${value}`)
    .join(', ')
}

/** Settings of a bridge port: IFLA_BRPORT_* under IFLA_INFO_SLAVE_DATA. */
export function changeBridgePort(
  selector: LinkSelector,
  settings: { hairpin?: boolean; isolated?: boolean },
): Request {
  const { index, name } = selected(selector)
  const { hairpin, isolated } = settings
  return {
    operation: `set bridge port ${describeSettings(settings as LinkSettings)} on ${labelOf(selector)}`,
    type: RTM_NEWLINK,
    payload: join(
      header(index),
      ...name,
      nested(
        LINKINFO,
        text(INFO_SLAVE_KIND, 'bridge'),
        nested(
          INFO_SLAVE_DATA,
          ...(hairpin === undefined ? [] : [uint8(4, hairpin ? 1 : 0)]), // IFLA_BRPORT_MODE
          ...(isolated === undefined ? [] : [uint8(33, isolated ? 1 : 0)]), // IFLA_BRPORT_ISOLATED
        ),
      ),
    ),
  }
}

/** The request that reads one link; its reply goes through `readLinkMessage`. */
export function getLink(selector: LinkSelector): Request {
  const { index, name } = selected(selector)
  return {
    operation: `look up ${labelOf(selector)}`,
    type: RTM_GETLINK,
    payload: join(header(index), ...name, uint32(EXT_MASK, RTEXT_FILTER_SKIP_STATS)),
  }
}

export function createLink(route: Transport, link: NewLink): void {
  request(route, newLink(link))
}

export function setLink(route: Transport, selector: LinkSelector, settings: LinkSettings): void {
  request(route, changeLink(selector, settings))
}

/** One link; undefined when there is none. */
export function findLink(route: Transport, selector: LinkSelector): Link | undefined {
  try {
    const [reply] = request(route, getLink(selector))
    return reply && readLinkMessage(reply)
  } catch (thrown) {
    if (isRefusal(thrown, errno.ENODEV)) return undefined
    throw thrown
  }
}

/** All links, or those of a kind or on a master. The kernel is asked to leave the others out; those before 4.20 do not. */
export function listLinks(route: Transport, { kind, master }: Pick<Link, 'kind' | 'master'> = {}): Link[] {
  const asked = {
    operation: 'list links',
    type: RTM_GETLINK,
    payload: join(
      header(0),
      uint32(EXT_MASK, RTEXT_FILTER_SKIP_STATS),
      ...(kind === undefined ? [] : [nested(LINKINFO, text(INFO_KIND, kind))]),
      ...(master === undefined ? [] : [uint32(MASTER, master)]),
    ),
  }
  return dump(route, asked, message => {
    if (message.type !== RTM_NEWLINK) return undefined
    const link = readLinkMessage(message)
    const isMatch =
      (kind === undefined || link.kind === kind) && (master === undefined || link.master === master)
    return isMatch ? link : undefined
  })
}

/** The request that deletes a link; a veth's peer, addresses and routes go with it. */
export function deleteLink(selector: LinkSelector): Request {
  const { index, name } = selected(selector)
  return {
    operation: `delete ${labelOf(selector)}`,
    type: RTM_DELLINK,
    payload: join(header(index), ...name),
  }
}

/** Deletes a link, and waits for all of it. Nothing there is an answer, not an error. */
export function removeLink(route: Transport, selector: LinkSelector): 'removed' | 'absent' {
  try {
    request(route, deleteLink(selector))
    return 'removed'
  } catch (thrown) {
    if (isRefusal(thrown, errno.ENODEV)) return 'absent'
    throw thrown
  }
}

/** Where a link is to be deleted: a socket in its namespace, and that (a descriptor) where it is not the thread's. */
export interface LinkPlace {
  route: Transport
  namespace?: number
}
type Unlist = (place: LinkPlace, link: Pick<Link, 'index' | 'name'>) => 'removed' | 'absent'

let unlist: Unlist = ({ route }, { index }) => removeLink(route, index)

/**
 * Deletes a link, and goes on when it and a pair's other end are in no list any more, where this process has a way to do so
 * (removal.ts); else as `removeLink`.
 */
export const unlistLink: Unlist = (place, link) => unlist(place, link)

/** Gives this process a way. A plugin in a process of its own has none, and does not load any. */
export function unlistBy(way: Unlist): void {
  unlist = way
}

/** Takes alternative names from a link. */
export function removeAlternativeNames(route: Transport, index: number, names: readonly string[]): void {
  request(route, {
    operation: `take alternative names from link ${index}`,
    type: RTM_DELLINKPROP,
    payload: join(header(index), nested(PROP_LIST, ...names.map(name => text(ALT_IFNAME, name)))),
  })
}

/** Reads an RTM_NEWLINK (or RTM_DELLINK) message. */
export function readLinkMessage({ payload }: Message): Link {
  const [head, rest] = split(payload, 16)
  const found = attributeMap(rest)
  const get = <T>(type: number, read: (value: Uint8Array) => T): T | undefined => {
    const value = found.get(type)
    return value && read(value)
  }
  const flags = head.getUint32(8, true)
  const permanent = get(PERM_ADDRESS, hardwareAddressText)
  const parentDevice = get(PARENT_DEV_NAME, readText)
  const parent = get(LINK, readUint32)
  const parentNamespace = get(LINK_NETNSID, readInt32)
  const master = get(MASTER, readUint32)
  const alias = get(IFALIAS, readText)
  const properties = found.get(PROP_LIST)
  return {
    index: head.getInt32(4, true),
    name: get(IFNAME, readText) ?? '',
    up: (flags & IFF_UP) !== 0,
    loopback: (flags & IFF_LOOPBACK) !== 0,
    promiscuous: (flags & IFF_PROMISC) !== 0,
    allMulticast: (flags & IFF_ALLMULTI) !== 0,
    state: OPERATIONAL_STATES[get(OPERSTATE, readUint8) ?? 0] ?? 'unknown',
    mtu: get(MTU, readUint32) ?? 0,
    address: get(ADDRESS, hardwareAddressText) ?? '',
    group: get(GROUP, readUint32) ?? 0,
    transmitQueueLength: get(TXQLEN, readUint32) ?? 0,
    promiscuity: get(PROMISCUITY, readUint32) ?? 0,
    ...(permanent === undefined ? {} : { permanentAddress: permanent }),
    ...(parentDevice === undefined ? {} : { parentDevice }),
    ...(parent === undefined ? {} : { parent }),
    ...(parentNamespace === undefined ? {} : { parentNamespace }),
    ...(master === undefined ? {} : { master }),
    ...(alias === undefined ? {} : { alias }),
    ...(properties === undefined ? {} : { alternativeNames: readNames(properties) }),
    ...readLinkInfo(found.get(LINKINFO)),
  }
}

function readNames(properties: Uint8Array): string[] {
  return attributes(properties).flatMap(({ type, value }) => (type === ALT_IFNAME ? [readText(value)] : []))
}

function readLinkInfo(info: Uint8Array | undefined): Pick<Link, 'data' | 'kind' | 'port'> {
  if (!info) return { data: {} }
  const found = attributeMap(info)
  const kind = found.get(INFO_KIND)
  const data = found.get(INFO_DATA)
  const slaveKind = found.get(INFO_SLAVE_KIND)
  const slaveData = found.get(INFO_SLAVE_DATA)
  const kindName = kind && readText(kind)
  const isPort = slaveKind && slaveData && readText(slaveKind) === 'bridge'
  return {
    ...(kindName === undefined ? {} : { kind: kindName }),
    ...(isPort ? { port: readBridgePort(slaveData) } : {}),
    data: kindName !== undefined && data ? readKindData(kindName, data) : {},
  }
}
