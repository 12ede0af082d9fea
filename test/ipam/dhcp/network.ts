/** A network with DHCP servers and containers in namespaces, and a daemon in this process, each as a `using` value. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { openEventSocket } from '../../../chain/linux/event-socket.ts'
import { send } from '../../../chain/linux/libc/socket.ts'
import { ETH_P_IP, openLinkSocket, udpPortFilter } from '../../../chain/linux/packet-socket.ts'
import { runDaemon } from '../../../ipam/dhcp/daemon/daemon.ts'
import { type Datagram, decodeFrame, encodeFrame } from '../../../ipam/dhcp/link/frame.ts'
import { decodeMessage, encodeMessage, type Message } from '../../../ipam/dhcp/v4/packet.ts'
import { connect, freshNamespace, type Namespace } from '../../fixtures/namespace.ts'

export interface Lan {
  /** Where the bridge is, with 10.9.0.1/24. */
  namespace: Namespace
  /** A namespace with an eth0 on the bridge; further addresses are for eth0. */
  attach(label: string, ...addresses: string[]): Namespace
  [Symbol.dispose](): void
}

export function lan(): Lan {
  const namespace = freshNamespace('lan')
  // an address of its own, or it would take that of a port as ports come
  namespace.createLink({ name: 'br0', address: '02:00:00:00:09:01', kind: { type: 'bridge' } }, '10.9.0.1/24')
  const attached: Namespace[] = []
  return {
    namespace,
    attach(label, ...addresses) {
      const other = freshNamespace(label)
      attached.push(other)
      const port = `port${attached.length}`
      connect({ namespace: other, name: 'eth0', addresses }, { namespace, name: port })
      namespace.run('ip', 'link', 'set', port, 'master', 'br0')
      return other
    },
    [Symbol.dispose]() {
      for (const each of [...attached, namespace]) each[Symbol.dispose]()
    },
  }
}

export interface Program {
  /** All that it has said. */
  log(): string
  /** Waits until it says something; again and again from where it was found the last time. */
  says(pattern: RegExp): Promise<string>
  stop(signal?: NodeJS.Signals): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** Starts a program in a namespace. */
export function start(namespace: Namespace, command: string[]): Program {
  const child = namespace.inside(() => ({
    process: Bun.spawn(['sh', '-c', 'exec "$@" 2>&1', 'sh', ...command], { stdout: 'pipe', stdin: 'ignore' }),
  })).process
  let text = ''
  let from = 0
  let ended = false
  let wake = () => {}
  const reading = (async () => {
    for await (const chunk of child.stdout) {
      text += Buffer.from(chunk).toString()
      wake()
    }
    ended = true
    wake()
  })()
  const stop = async (signal: NodeJS.Signals = 'SIGKILL') => {
    child.kill(signal)
    await child.exited
    await reading
  }
  return {
    log: () => text,
    async says(pattern) {
      for (;;) {
        const found = pattern.exec(text.slice(from))
        if (found) {
          from += found.index + found[0].length
          return found[0]
        }
        if (ended) throw new Error(`${command[0]} ended without saying ${pattern}: ${text}`)
        await new Promise<void>(resolve => {
          wake = resolve
        })
      }
    },
    stop,
    [Symbol.asyncDispose]: () => stop(),
  }
}

export interface Pool {
  first?: string
  last?: string
  interface?: string
}

/** dnsmasq: leases of two minutes at least, but T1 and T2 as one likes. */
export async function dnsmasq(
  namespace: Namespace,
  { first = '10.9.0.50', last = '10.9.0.99', interface: name = 'br0' }: Pool,
  ...more: string[]
): Promise<Program> {
  const server = start(namespace, [
    ...['dnsmasq', '-C', '/dev/null', '--no-daemon', '--port=0', '--no-ping', '--leasefile-ro'],
    ...[`--interface=${name}`, '--bind-interfaces', '--user=root', '--pid-file='],
    ...[`--dhcp-range=${first},${last},120`, ...more],
  ])
  await server.says(/sockets bound/)
  return server
}

/** udhcpd: leases of seconds. */
export async function udhcpd(
  namespace: Namespace,
  { first = '10.9.0.150', last = '10.9.0.199', interface: name = 'br0' }: Pool,
  ...lines: string[]
): Promise<Program> {
  const folder = mkdtempSync(`${tmpdir()}/udhcpd-`)
  const file = `${folder}/udhcpd.conf`
  writeFileSync(`${folder}/leases`, '')
  const own = [
    `start ${first}`,
    `end ${last}`,
    `interface ${name}`,
    `lease_file ${folder}/leases`,
    `pidfile ${folder}/pid`,
  ]
  writeFileSync(
    file,
    [...own, 'min_lease 1', 'option subnet 255.255.255.0', 'option router 10.9.0.1', ...lines, ''].join('\n'),
  )
  const server = start(namespace, ['udhcpd', '-f', '-I', '10.9.0.1', file])
  await server.says(/started/)
  return {
    ...server,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

export interface DaemonEvent {
  event: string
  client?: string
  [fact: string]: unknown
}

export interface Daemon {
  socket: string
  events: DaemonEvent[]
  /** The next event of a name that has not been waited for yet. */
  event(name: string, client?: string): Promise<DaemonEvent>
  /** Ends as on SIGTERM and answers the exit status. */
  end(): Promise<number>
  [Symbol.asyncDispose](): Promise<void>
}

let count = 0

/** A daemon in this process; one with the same socket takes up what the last one left. */
export async function daemon(...flags: string[]): Promise<Daemon> {
  return daemonAt(`/run/cni/dhcp-${++count}.sock`, ...flags)
}

export async function daemonAt(socket: string, ...flags: string[]): Promise<Daemon> {
  const events: DaemonEvent[] = []
  const taken = new Set<DaemonEvent>()
  const wake: (() => void)[] = []
  let end = (_signal: string) => {}
  const status = runDaemon(['-socketpath', socket, '-timeout', '1s', '-probe', '60ms', ...flags], {
    env: {},
    pid: process.pid,
    stderr(text) {
      events.push(JSON.parse(text))
      for (const each of wake.splice(0)) each()
    },
    onEnd: callback => {
      end = callback
    },
  })
  const event = async (name: string, client?: string): Promise<DaemonEvent> => {
    for (;;) {
      const found = events.find(
        each => each.event === name && !taken.has(each) && (client === undefined || each.client === client),
      )
      if (found) {
        taken.add(found)
        return found
      }
      await new Promise<void>(resolve => {
        wake.push(resolve)
      })
    }
  }
  const stop = async () => {
    end('SIGTERM')
    return status
  }
  await Promise.race([
    event('started'),
    status.then(code => {
      if (!events.some(each => each.event === 'started'))
        throw new Error(`the daemon ended with ${code}: ${JSON.stringify(events)}`)
    }),
  ])
  return {
    socket,
    events,
    event,
    end: stop,
    async [Symbol.asyncDispose]() {
      await stop()
    },
  }
}

export interface Heard extends Datagram {
  message: Message
}

/** Somebody on the LAN who hears what is sent to servers, and may answer as one. */
export interface Listener {
  heard: Heard[]
  /** The next message of a type that has not been waited for yet. */
  next(type: number): Promise<Heard>
  /** Answers a request as a server; the bytes of the message can be spoilt. */
  answer(
    to: Heard,
    message: Partial<Message> & { options: Map<number, Uint8Array> },
    spoil?: (bytes: Uint8Array) => Uint8Array,
  ): void
  [Symbol.dispose](): void
}

/** Hears on a link; `reply` is called for each message. */
export function listenOn(
  namespace: Namespace,
  name: string,
  reply?: (heard: Heard, answer: Listener['answer']) => void,
): Listener {
  const link = namespace.link(name)
  const descriptor = namespace.inside(() => openLinkSocket(link.index, ETH_P_IP, udpPortFilter(67)))
  const heard: Heard[] = []
  const taken = new Set<Heard>()
  const wake: (() => void)[] = []
  const answer: Listener['answer'] = (to, message, spoil = bytes => bytes) => {
    const full: Message = { ...to.message, operation: 'reply', ...message }
    send(
      descriptor,
      encodeFrame({
        source: { hardware: link.address, address: '10.9.0.1', port: 67 },
        destination: { hardware: to.source.hardware, address: full.yourAddress, port: 68 },
        payload: spoil(encodeMessage(full)),
      }),
    )
  }
  const eventSocket = openEventSocket(descriptor, {
    received(frame) {
      const datagram = decodeFrame(frame)
      if (!datagram) return
      const one = { ...datagram, message: decodeMessage(datagram.payload) }
      heard.push(one)
      reply?.(one, answer)
      for (const each of wake.splice(0)) each()
    },
    failed(error) {
      throw error
    },
  })
  return {
    heard,
    answer,
    async next(type) {
      for (;;) {
        const found = heard.find(each => !taken.has(each) && each.message.options.get(53)?.[0] === type)
        if (found) {
          taken.add(found)
          return found
        }
        await new Promise<void>(resolve => {
          wake.push(resolve)
        })
      }
    },
    [Symbol.dispose]: eventSocket.close,
  }
}
