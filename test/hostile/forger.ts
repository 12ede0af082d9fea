/**
 * A process of a container that answers in the kernel's stead: it sends to every netlink socket of its namespace that is not
 * its own. usage: forger.ts poll          until it is killed, to every port as it comes
 *                 forger.ts to PORT PROTOCOL   once, to one port; prints what the kernel says to that
 *                 forger.ts group GROUP   until it is killed, to all who hear of a group's events
 */
import { readFileSync } from 'node:fs'
import { encodeText } from '../../chain/linux/bytes.ts'
import { isErrno } from '../../chain/linux/libc/errno.ts'
import { bind, SOCK_RAW, sendTo, socket } from '../../chain/linux/libc/socket.ts'
import { encodeMessage, join, text } from '../../chain/linux/netlink/codec.ts'

const AF_NETLINK = 16
const ECONNREFUSED = 111
const [ERROR, NEW_LINK] = [2, 16]
const [IFF_UP, IFF_LOOPBACK, IFF_RUNNING] = [1, 8, 0x40]
/** Numbers of requests that a process may have come to. */
const SEQUENCES = 64

const [mode, where = '0', protocol = '0'] = process.argv.slice(2)
const descriptor = socket(AF_NETLINK, SOCK_RAW, Number(protocol))
bind(descriptor, portAddress(0))
const own = Number(portsOf().find(({ pid }) => pid === process.pid)?.port ?? process.pid)

function portAddress(port: number, groups = 0): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(12)) // struct sockaddr_nl
  bytes.setUint16(0, AF_NETLINK, true)
  bytes.setUint32(4, port, true)
  bytes.setUint32(8, groups, true)
  return new Uint8Array(bytes.buffer)
}

/** The route sockets of the namespace: /proc/net/netlink has one a line, the protocol second, the port third. */
function portsOf(): { port: number; pid: number }[] {
  return readFileSync('/proc/thread-self/net/netlink', 'utf8')
    .split('\n')
    .slice(1)
    .map(line => line.trim().split(/\s+/))
    .filter(([, protocol, port]) => protocol === '0' && port !== '0' && port !== undefined)
    .map(([, , port]) => ({ port: Number(port), pid: Number(port) }))
}

/** "lo is up", and "that was all", to a request of any of the numbers. */
function forged(): Uint8Array {
  const link = new DataView(new ArrayBuffer(16)) // struct ifinfomsg
  link.setUint16(2, 772, true) // ARPHRD_LOOPBACK
  link.setInt32(4, 1, true)
  link.setUint32(8, IFF_UP | IFF_LOOPBACK | IFF_RUNNING, true)
  const payload = join(new Uint8Array(link.buffer), text(3, 'lo')) // IFLA_IFNAME
  const messages = Array.from({ length: SEQUENCES }, (_, index) => index + 1).flatMap(sequence => [
    encodeMessage({ type: NEW_LINK, flags: 0, sequence, payload }),
    encodeMessage({ type: ERROR, flags: 0x100, sequence, payload: new Uint8Array(20) }),
  ])
  return join(...messages)
}

function send(port: number, groups = 0): string {
  try {
    sendTo(descriptor, forged(), portAddress(port, groups))
    return 'delivered'
  } catch (thrown) {
    return isErrno(thrown, ECONNREFUSED) ? 'refused' : String(thrown)
  }
}

if (mode === 'to') console.log(send(Number(where)))
else if (mode === 'group') {
  process.stdout.write(encodeText(`${send(0, 1 << (Number(where) - 1))}\n`))
  for (;;) send(0, 1 << (Number(where) - 1))
} else {
  process.stdout.write(encodeText('forging\n'))
  for (;;) for (const { port } of portsOf()) if (port !== own) send(port)
}
