/** What a network namespace has: links, addresses, routes, disciplines; and who listens there. Read with the thread inside; changes nothing. */
import { addressText } from '../ip/bytes.ts'
import { readFile } from '../linux/files.ts'
import { type InterfaceAddress, listAddresses } from '../linux/netlink/address.ts'
import { type Link, listLinks } from '../linux/netlink/link.ts'
import { listDisciplines, type PlacedDiscipline } from '../linux/netlink/qdisc.ts'
import { listRoutes, MAIN_TABLE, type Route } from '../linux/netlink/route.ts'
import { openRoute } from '../linux/netlink/socket.ts'

/** A socket that waits for connections, or for datagrams. */
export interface Listener {
  protocol: 'tcp' | 'udp'
  /** "0.0.0.0" and "::" are all addresses. */
  address: string
  port: number
  /** By which its process can be found. */
  inode: number
}

export interface Stack {
  links: Link[]
  addresses: InterfaceAddress[]
  /** Of the main table. */
  routes: Route[]
  disciplines: PlacedDiscipline[]
}

/** The stack of the namespace that the thread is in. */
export function readStack(): Stack {
  using route = openRoute()
  return {
    links: listLinks(route),
    addresses: listAddresses(route),
    routes: listRoutes(route, { table: MAIN_TABLE }),
    disciplines: listDisciplines(route),
  }
}

const LISTENING = '0A' // TCP_LISTEN, linux/tcp_states.h
const UNCONNECTED = '07' // what an UDP socket without a peer is in
const files = [
  { name: 'tcp', protocol: 'tcp', state: LISTENING },
  { name: 'tcp6', protocol: 'tcp', state: LISTENING },
  { name: 'udp', protocol: 'udp', state: UNCONNECTED },
  { name: 'udp6', protocol: 'udp', state: UNCONNECTED },
] as const

/**
 * Who listens in the namespace that the thread is in. By /proc/net, which needs no process inside, and takes the kernel 20 ms: for
 * those namespaces alone of which somebody asks.
 */
export function readListeners(): Listener[] {
  return files.flatMap(({ name, protocol, state }) => {
    const lines = readFile(`/proc/thread-self/net/${name}`)?.split('\n').slice(1) ?? []
    return lines.flatMap(line => {
      const fields = line.trim().split(/\s+/)
      if (fields[3] !== state) return []
      const [address = '', port = ''] = fields[1]?.split(':') ?? []
      return [
        {
          protocol,
          address: addressOf(address),
          port: Number.parseInt(port, 16),
          inode: Number(fields[9]),
        },
      ]
    })
  })
}

/** Words of four bytes, each in the machine's order (proc_pid_net(5)). */
function addressOf(hex: string): string {
  const bytes = Uint8Array.fromHex(hex)
  for (let at = 0; at + 4 <= bytes.length; at += 4) bytes.subarray(at, at + 4).reverse()
  return addressText(bytes)
}

/** Whether a listener is there for an address: its own, or all of the family; one on "::" hears IPv4 as well. */
export function hears({ address }: Listener, asked: string): boolean {
  if (address === asked || address === '::') return true
  return address === '0.0.0.0' && !asked.includes(':')
}
