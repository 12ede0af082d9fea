/**
 * A network namespace made again in another: links that look alike, with the same numbers, and what stands on them, message by
 * message as the kernel told it.
 */
import { listFolder, readFile } from '../../linux/files.ts'
import { SystemError } from '../../linux/libc/errno.ts'
import { viewOf } from '../../linux/netlink/codec.ts'
import { changeLink, type Link, listLinks, newLink } from '../../linux/netlink/link.ts'
import { attempt, CREATE, dump, KernelError, openRoute, type Request } from '../../linux/netlink/socket.ts'
import { inNamespace } from '../../linux/netns.ts'
import { writeSysctl } from '../../linux/sysctl.ts'

export interface CapturedStack {
  links: Link[]
  /** Addresses, rules and routes as the kernel prints them. */
  addresses: Uint8Array[]
  rules: Uint8Array[]
  routes: Uint8Array[]
  /** Below /proc/sys. */
  sysctls: Map<string, string>
}

const NEW_ADDRESS = 20
const NEW_ROUTE = 24
const NEW_RULE = 32
const RTM_F_CLONED = 0x200
const RTPROT_KERNEL = 2
const families = [2, 10] // AF_INET, AF_INET6

/** What the namespace has that the thread is in. */
export function captureStack(): CapturedStack {
  using route = openRoute()
  const list = (type: number, length: number) =>
    families.flatMap(family => {
      const payload = new Uint8Array(length)
      payload[0] = family
      return dump(route, { operation: 'list what is there', type: type + 2, payload }, message =>
        message.type === type ? message.payload.slice() : undefined,
      )
    })
  return {
    links: listLinks(route),
    addresses: list(NEW_ADDRESS, 8),
    rules: list(NEW_RULE, 12),
    routes: list(NEW_ROUTE, 12).filter(isKept),
    sysctls: readSysctls(),
  }
}

/** Not what the kernel adds by itself with each address, nor what it remembers of packets. */
function isKept(payload: Uint8Array): boolean {
  const isCloned = (viewOf(payload).getUint32(8, true) & RTM_F_CLONED) !== 0
  return !isCloned && payload[5] !== RTPROT_KERNEL
}

const ROOTS = ['net/ipv4', 'net/ipv6', 'net/bridge', 'net/core', 'net/netfilter']

/** Parameters of the namespace; what can only be written, or not be read, is left out. */
function readSysctls(): Map<string, string> {
  const found = new Map<string, string>()
  const visit = (folder: string): void => {
    for (const name of listFolder(`/proc/sys/${folder}`) ?? []) {
      const key = `${folder}/${name}`
      try {
        const value = readFile(`/proc/sys/${key}`)
        if (value !== undefined) found.set(key, value.replace(/\n$/, ''))
      } catch (thrown) {
        if (!(thrown instanceof SystemError)) throw thrown
        visit(key) // a folder, or nothing that may be read: then it lists nothing
      }
    }
  }
  for (const root of ROOTS) if (listFolder('/proc/sys/net')) visitIfThere(root, visit)
  return found
}

function visitIfThere(folder: string, visit: (folder: string) => void): void {
  try {
    visit(folder)
  } catch (thrown) {
    if (!(thrown instanceof SystemError)) throw thrown
  }
}

/**
 * Makes the namespace that the thread is in look like a captured one. `outside` is a namespace that takes the other ends of what
 * stands for hardware, `without` are names of links to leave out. Answers what could not be made, in words.
 */
export function restoreStack(captured: CapturedStack, outside: number, without: readonly string[]): string[] {
  using route = openRoute()
  const lacking: string[] = []
  const all = (requests: readonly Request[]) => {
    for (const answer of attempt(route, requests))
      if (answer instanceof KernelError) lacking.push(answer.message)
  }
  const present = new Set(listLinks(route).map(({ name }) => name))
  restoreSysctls(captured.sysctls, key => !/\/(conf|neigh)\/(?!all\/|default\/)/.test(key))
  const links = captured.links.filter(({ name }) => !without.includes(name))
  const missing = links.filter(({ name, loopback }) => !loopback && !present.has(name))
  all(missing.map(link => standIn(link, outside)))
  bringUp(outside)
  all(
    links.map(({ index, loopback, up, master }) =>
      changeLink(loopback ? 1 : index, { up, ...(master ? { master } : {}) }),
    ),
  )
  restoreSysctls(captured.sysctls, key => /\/(conf|neigh)\//.test(key))
  const again = (type: number, what: string) => (payload: Uint8Array) => ({
    operation: what,
    type,
    flags: CREATE,
    payload,
  })
  const unlessThere = (requests: readonly Request[]) => void attempt(route, requests)
  unlessThere(captured.addresses.map(again(NEW_ADDRESS, 'add an address')))
  unlessThere(captured.rules.map(again(NEW_RULE, 'add a rule')))
  // a gateway has to be reachable before a route leads through it
  const routes = captured.routes.map(again(NEW_ROUTE, 'add a route'))
  unlessThere(routes)
  unlessThere(routes)
  return lacking
}

/** What stands for hardware has a carrier when its other end is up. */
function bringUp(outside: number): void {
  inNamespace(outside, () => {
    using route = openRoute()
    void attempt(
      route,
      listLinks(route).map(({ index }) => changeLink(index, { up: true })),
    )
  })
}

/** A bridge is made as a bridge, and anything else as one end of a pair, which has a carrier and takes what stands on it. */
function standIn(link: Link, outside: number): Request {
  const { index, name, kind, mtu, address, alias, group, data, transmitQueueLength } = link
  const settings = {
    name,
    mtu,
    group,
    transmitQueueLength,
    ...(address === '' ? {} : { address }),
  }
  const isBridge = kind === 'bridge'
  const asked = newLink({
    ...settings,
    kind: isBridge
      ? { type: 'bridge', ...(data.vlanFiltering ? { vlanFiltering: true } : {}) }
      : { type: 'veth', peer: { name: `p${index}`, namespace: outside } },
    ...(alias === undefined ? {} : { alias }),
  })
  viewOf(asked.payload).setInt32(4, index, true) // struct ifinfomsg: the number is ours to choose
  return asked
}

function restoreSysctls(sysctls: ReadonlyMap<string, string>, isMeant: (key: string) => boolean): void {
  for (const [key, value] of sysctls) {
    if (!isMeant(key)) continue
    try {
      if (readFile(`/proc/sys/${key}`)?.replace(/\n$/, '') !== value) writeSysctl(key, value)
    } catch (thrown) {
      if (!(thrown instanceof SystemError)) throw thrown // read-only here, or of a link that is made otherwise
    }
  }
}
