/**
 * What a new connection through a published port costs, from a host outside over veth, ours beside the Go plugin with either
 * backend: the port is the last one of as many as are given. usage: npm run bench -- connections [--ports 1,100,2000 --rounds N]
 */
import { mkdirSync, rmSync } from 'node:fs'
import { cpus, loadavg, release } from 'node:os'
import { parseArgs } from 'node:util'
import { close } from '../../chain/linux/libc/file.ts'
import {
  connect as connectSocket,
  SOCK_STREAM,
  setSocketOption,
  socket,
} from '../../chain/linux/libc/socket.ts'
import { getHttp } from '../fixtures/http.ts'
import { connect, freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { ours, peers } from '../fixtures/plugin.ts'
import { quantile } from './table.ts'

const sides = [
  { title: 'ours, nftables', folder: ours, backend: 'nftables' },
  { title: 'ours, iptables', folder: ours, backend: 'iptables' },
  { title: 'Go, nftables', folder: peers, backend: 'nftables' },
  { title: 'Go, iptables', folder: peers, backend: 'iptables' },
] as const

type Side = (typeof sides)[number]

const FIRST_PORT = 20_000
const HOST = '192.0.2.1'
const BATCH = 100

/** A host with a container whose ports are published, and somebody outside who connects. */
interface Scene {
  side: Side
  outside: Namespace
  /** Milliseconds that portmap's ADD took. */
  add: number
  /** The container's own address, which is reached without translation. */
  address: string
  port: number
}

/** One plugin call in a host's namespace; answers its result, and milliseconds. */
function add(
  host: Namespace,
  { side, container }: { side: Side; container: Namespace },
  config: { type: string; [key: string]: unknown },
): { result: { ips: { address: string }[] }; milliseconds: number } {
  const env = {
    PATH: process.env.PATH ?? '',
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: container.name,
    CNI_NETNS: container.path,
    CNI_IFNAME: 'eth0',
    CNI_PATH: side.folder,
  }
  const stdin = Buffer.from(JSON.stringify({ cniVersion: '1.1.0', name: 'connections', ...config }))
  const started = performance.now()
  const { exitCode, stdout } = host.inside(() =>
    Bun.spawnSync([`${side.folder}/${config.type}`], { env, stdin }),
  )
  if (exitCode !== 0) throw new Error(`${side.title}: ${config.type}: ${stdout}`)
  return { result: JSON.parse(stdout.toString()), milliseconds: performance.now() - started }
}

async function build(side: Side, count: number, stack: AsyncDisposableStack): Promise<Scene> {
  const [host, container, outside] = ['host', 'container', 'outside'].map(label =>
    stack.use(freshNamespace(label)),
  ) as [Namespace, Namespace, Namespace]
  connect(
    { namespace: host, name: 'uplink0', addresses: [`${HOST}/24`] },
    { namespace: outside, name: 'eth0', addresses: ['192.0.2.2/24'] },
  )
  forgetOtherHosts()
  const ipam = { type: 'host-local', ranges: [[{ subnet: '10.88.0.0/16' }]], routes: [{ dst: '0.0.0.0/0' }] }
  const { result } = add(host, { side, container }, { type: 'bridge', bridge: 'cni0', isGateway: true, ipam })
  const portMappings = Array.from({ length: count }, (_, index) => ({
    hostPort: FIRST_PORT + index,
    containerPort: index === count - 1 ? 80 : 1000 + index,
    protocol: 'tcp',
  }))
  const { milliseconds } = add(
    host,
    { side, container },
    { type: 'portmap', backend: side.backend, prevResult: result, runtimeConfig: { portMappings } },
  )
  const [address = ''] = result.ips[0]?.address.split('/') ?? []
  outside.run('ip', 'route', 'add', '10.88.0.0/16', 'via', HOST)
  const server = container.inside(() =>
    Bun.spawn([process.execPath, import.meta.path, 'serve'], { stdout: 'pipe' }),
  )
  stack.defer(() => server.kill())
  await server.stdout.getReader().read() // it listens
  const port = FIRST_PORT + count - 1
  await getHttp(outside, { address: HOST, port }, 1000)
  return { side, outside, add: milliseconds, address, port }
}

/** All hosts of this benchmark share the machine's folders of state, and none is to hear of another's ports. */
function forgetOtherHosts(): void {
  for (const folder of ['/run/catena', '/var/lib/cni/networks'])
    rmSync(folder, { recursive: true, force: true })
  mkdirSync('/var/lib/cni/networks', { recursive: true })
}

function serve(): void {
  Bun.listen({
    hostname: '0.0.0.0',
    port: 80,
    socket: {
      data: socket => void socket.end('HTTP/1.0 200 OK\r\n\r\nhere'),
      error: () => {}, // the client resets what it has connected
    },
  })
  console.log('listening')
}

/** struct sockaddr_in. */
function addressOf(address: string, port: number): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(16))
  bytes.setUint16(0, 2, true) // AF_INET
  bytes.setUint16(2, port)
  for (const [index, part] of address.split('.').entries()) bytes.setUint8(4 + index, Number(part))
  return new Uint8Array(bytes.buffer)
}

const [SOL_SOCKET, SO_LINGER] = [1, 13]
/** struct linger: a close resets the connection, so that no port waits for a minute until it can be used again. */
const resets = new Uint8Array(new Int32Array([1, 0]).buffer)

/** Connects and closes, one after the other; answers microseconds for each. */
function connectMany(from: Namespace, to: { address: string; port: number }): number {
  const target = addressOf(to.address, to.port)
  return from.inside(() => {
    const started = Bun.nanoseconds()
    for (let count = 0; count < BATCH; count++) {
      const descriptor = socket(2, SOCK_STREAM, 0) // AF_INET
      setSocketOption(descriptor, { level: SOL_SOCKET, option: SO_LINGER }, resets)
      connectSocket(descriptor, target)
      close(descriptor)
    }
    return (Bun.nanoseconds() - started) / 1000 / BATCH
  })
}

function shuffled<T>(values: readonly T[]): T[] {
  return values
    .map(value => ({ value, at: Math.random() }))
    .sort((one, other) => one.at - other.at)
    .map(({ value }) => value)
}

/** The lower quartile: what else the machine does only ever adds. */
const typical = (values: readonly number[]) => quantile(values, 0.25)

/** A row for a number of ports: all four in turn, round by round, and straight to the container beside them. */
async function measure(
  count: number,
  rounds: number,
): Promise<{ costs: number[]; straight: number; adds: number[] }> {
  await using stack = new AsyncDisposableStack()
  const scenes: Scene[] = []
  for (const side of sides) {
    console.error(`${count} published: ${side.title}`)
    scenes.push(await build(side, count, stack))
  }
  const walls = new Map(scenes.map(scene => [scene, [] as number[]]))
  const straight: number[] = []
  for (let round = -1; round < rounds; round++) {
    for (const scene of shuffled(scenes)) {
      const wall = connectMany(scene.outside, { address: HOST, port: scene.port })
      const plain = connectMany(scene.outside, { address: scene.address, port: 80 })
      if (round < 0) continue // the first round fills caches
      walls.get(scene)?.push(wall)
      straight.push(plain)
    }
  }
  return {
    costs: scenes.map(scene => typical(walls.get(scene) ?? [])),
    straight: typical(straight),
    adds: scenes.map(({ add }) => add),
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    args: process.argv.slice(2),
    options: {
      ports: { type: 'string', default: '1,100,2000' },
      rounds: { type: 'string', default: '40' },
    },
  })
  const head = ['published ports', 'straight', ...sides.map(({ title }) => title)]
  const tables = { costs: [] as string[], adds: [] as string[] }
  for (const count of values.ports.split(',').map(Number)) {
    const { costs, straight, adds } = await measure(count, Number(values.rounds))
    const cells = [count, straight.toFixed(0), ...costs.map(cost => cost.toFixed(0))]
    tables.costs.push(`| ${cells.join(' | ')} |`)
    tables.adds.push(`| ${[count, ...adds.map(cost => cost.toFixed(0))].join(' | ')} |`)
  }
  const load = loadavg()[0]?.toFixed(1)
  const machine = `${cpus().length} CPUs, load ${load}, kernel ${release()}, ${values.rounds} rounds of ${BATCH}`
  console.log(
    `Microseconds for a new TCP connection to the last published port, lower quartile (${machine}):\n`,
  )
  console.log(`| ${head.join(' | ')} |\n|${'--:|'.repeat(head.length)}\n${tables.costs.join('\n')}`)
  const addHead = head.filter(title => title !== 'straight')
  console.log('\nMilliseconds of the ADD that published them, once each:\n')
  console.log(`| ${addHead.join(' | ')} |\n|${'--:|'.repeat(addHead.length)}\n${tables.adds.join('\n')}`)
}

if (process.argv[2] === 'serve') serve()
else await main()
