/** A LAN with IPv6, its routers and DHCPv6 servers, real and played, each as a `using` value. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { addressBytes, addressText } from '../../../../chain/ip/bytes.ts'
import { hardwareAddressText } from '../../../../chain/ip/hardware.ts'
import { openEventSocket } from '../../../../chain/linux/event-socket.ts'
import { close } from '../../../../chain/linux/libc/file.ts'
import { SOCK_DGRAM, send, sendTo, socket } from '../../../../chain/linux/libc/socket.ts'
import { ETH_P_IPV6, openLinkSocket } from '../../../../chain/linux/packet-socket.ts'
import { encodeFrame, multicastHardware } from '../../../../ipam/dhcp/link/neighbour.ts'
import { decodeMessage, encodeMessage, type Message } from '../../../../ipam/dhcp/v6/packet.ts'
import type { Namespace } from '../../../fixtures/namespace.ts'
import { type Lan, lan, type Program, start } from '../network.ts'

const ALL_NODES = 'ff02::1'
export const ROUTER = 'fe80::ff:fe00:901' // of br0's hardware address

/** As `lan`, with fd00:9::1/64 on the bridge, and a network behind it that containers can reach. */
export function lan6(): Lan {
  const network = lan()
  const { namespace } = network
  network.attach('somebody') // a bridge without ports has no carrier
  makeUsable(namespace, 'br0', 'fd00:9::1/64')
  namespace.setSysctl('net/ipv6/conf/all/forwarding', '1')
  namespace.addAddress('lo', 'fd00:beef::1/128')
  return network
}

/** Has a link's IPv6 addresses usable at once, for a server that is started then. */
export function makeUsable(namespace: Namespace, link: string, address: string): void {
  for (const [key, value] of [
    ['accept_dad', '0'],
    ['disable_ipv6', '1'],
    ['disable_ipv6', '0'],
  ])
    namespace.setSysctl(`net/ipv6/conf/${link}/${key}`, value ?? '')
  namespace.addAddress(link, address)
}

/** dnsmasq as router and DHCPv6 server. `mode` as in --dhcp-range: slaac, ra-only, ra-stateless … */
export async function dnsmasq6(namespace: Namespace, mode = 'slaac', ...more: string[]): Promise<Program> {
  const range = mode === 'ra-only' || mode === 'ra-stateless' ? 'fd00:9::' : 'fd00:9::100,fd00:9::1ff'
  const server = start(namespace, [
    ...['dnsmasq', '-C', '/dev/null', '--no-daemon', '--port=0', '--no-ping', '--leasefile-ro'],
    ...['--interface=br0', '--bind-interfaces', '--user=root', '--pid-file=', '--enable-ra'],
    ...[`--dhcp-range=${range},${mode},64,120`, '--dhcp-option=option6:dns-server,[fd00:9::53]', ...more],
  ])
  await server.says(mode === 'ra-only' ? /router advertisement enabled/ : /sockets bound/)
  return server
}

/** A file of a server's own in a folder of its own; both go with the server. */
async function withFile(
  text: (folder: string) => string,
  run: (file: string, folder: string) => Promise<Program>,
): Promise<Program> {
  const folder = mkdtempSync(`${tmpdir()}/server6-`)
  const file = `${folder}/configuration`
  writeFileSync(file, text(folder))
  const server = await run(file, folder)
  return {
    ...server,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** radvd: a router that is no server. `prefix` and `options` are lines of its configuration. */
export function radvd(namespace: Namespace, prefix: string[], ...options: string[]): Promise<Program> {
  const lines = ['AdvSendAdvert on;', 'MinRtrAdvInterval 3;', 'MaxRtrAdvInterval 4;', ...options]
  const text = `interface br0 { ${lines.join(' ')} prefix fd00:9::/64 { ${prefix.join(' ')} }; };\n`
  return withFile(
    () => text,
    async (file, folder) => {
      const server = start(namespace, [
        ...['radvd', '-n', '-C', file, '-d', '3', '-m', 'stderr', '-p', `${folder}/pid`],
      ])
      await server.says(/polling for/)
      return server
    },
  )
}

export interface Subnet {
  pool?: string
  interface?: string
  /** Seconds. */
  valid?: number
  options?: { name: string; data: string }[]
}

/** Servers of one pool are one server, also after a restart. */
function identifierOf(pool: string): string {
  return Buffer.from(pool.slice(0, 16)).toString('hex')
}

/** kea-dhcp6: a server that is no router, with leases of seconds. */
export function kea(
  namespace: Namespace,
  { pool = 'fd00:9::200-fd00:9::2ff', interface: name = 'br0', valid = 4000, options = [] }: Subnet = {},
): Promise<Program> {
  const configuration = {
    Dhcp6: {
      'interfaces-config': { interfaces: [name], 're-detect': false },
      'server-id': { type: 'EN', 'enterprise-id': 1, identifier: identifierOf(pool), persist: false },
      'lease-database': { type: 'memfile', persist: false },
      'valid-lifetime': valid,
      'preferred-lifetime': valid,
      'renew-timer': Math.floor(valid / 4),
      'rebind-timer': Math.floor(valid / 2),
      'option-data': options.map(each => ({ ...each, 'always-send': true })),
      subnet6: [{ id: 1, subnet: 'fd00:9::/64', interface: name, pools: [{ pool }] }],
      loggers: [
        { name: 'kea-dhcp6', severity: 'DEBUG', debuglevel: 50, output_options: [{ output: 'stdout' }] },
      ],
    },
  }
  return withFile(
    () => JSON.stringify(configuration),
    async (file, folder) => {
      const directories = ['PIDFILE', 'LOCKFILE'].map(each => `KEA_${each}_DIR=${folder}`)
      const server = start(namespace, ['env', ...directories, 'kea-dhcp6', '-c', file])
      await server.says(/DHCP6_STARTED/)
      return server
    },
  )
}

export interface Heard6 {
  from: { address: string; hardware: string }
  message: Message
}

/** Somebody on the LAN who hears what is sent to DHCPv6 servers, and may answer as one. */
export interface Listener6 {
  heard: Heard6[]
  /** The next message of a type that has not been waited for yet. */
  next(type: number): Promise<Heard6>
  /** Answers with a message, or with any bytes. */
  answer(to: Heard6, message: Message | Uint8Array): void
  /** Sends an ICMPv6 message to all on the link, as a router; `spoil` may change the frame. */
  advertise(message: Uint8Array, from?: string, spoil?: (frame: Uint8Array) => Uint8Array): void
  [Symbol.dispose](): void
}

const ETHERNET_HEADER = 14
const UDP_AT = ETHERNET_HEADER + 40

/** Hears on the bridge; `reply` is called for each message to servers, `solicited` for each router solicitation. */
export function listenOn6(
  namespace: Namespace,
  {
    reply,
    solicited,
  }: { reply?: (heard: Heard6, listener: Listener6) => void; solicited?: (listener: Listener6) => void } = {},
): Listener6 {
  const link = namespace.link('br0')
  const descriptor = namespace.inside(() => openLinkSocket(link.index, ETH_P_IPV6))
  const out = namespace.inside(() => socket(10, SOCK_DGRAM, 0))
  const heard: Heard6[] = []
  const taken = new Set<Heard6>()
  const wake: (() => void)[] = []
  const eventSocket = openEventSocket(descriptor, {
    received(frame) {
      const next = frame[ETHERNET_HEADER + 6]
      if (next === 58 && frame[UDP_AT] === 133) solicited?.(listener)
      if (next !== 17 || ((frame[UDP_AT + 2] ?? 0) << 8) + (frame[UDP_AT + 3] ?? 0) !== 547) return
      const from = {
        address: addressText(frame.subarray(ETHERNET_HEADER + 8, ETHERNET_HEADER + 24)),
        hardware: hardwareAddressText(frame.subarray(6, 12)),
      }
      const one = { from, message: decodeMessage(Uint8Array.from(frame.subarray(UDP_AT + 8))) }
      heard.push(one)
      reply?.(one, listener)
      for (const each of wake.splice(0)) each()
    },
    failed(error) {
      throw error
    },
  })
  const listener: Listener6 = {
    heard,
    async next(type) {
      for (;;) {
        const found = heard.find(each => !taken.has(each) && each.message.type === type)
        if (found) {
          taken.add(found)
          return found
        }
        await new Promise<void>(resolve => {
          wake.push(resolve)
        })
      }
    },
    answer({ from }, message) {
      const address = new DataView(new ArrayBuffer(28)) // struct sockaddr_in6
      address.setUint16(0, 10, true)
      address.setUint16(2, 546)
      new Uint8Array(address.buffer).set(addressBytes(from.address), 8)
      address.setUint32(24, link.index, true)
      const bytes = message instanceof Uint8Array ? message : encodeMessage(message)
      sendTo(out, bytes, new Uint8Array(address.buffer))
    },
    advertise(message, from = ROUTER, spoil = frame => frame) {
      const frame = encodeFrame({
        source: { hardware: link.address, address: from },
        destination: { hardware: multicastHardware(ALL_NODES), address: ALL_NODES },
        message,
      })
      send(descriptor, spoil(frame))
    },
    [Symbol.dispose]() {
      eventSocket.close()
      close(out)
    },
  }
  return listener
}
