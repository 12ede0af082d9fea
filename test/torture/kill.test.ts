/** A plugin is killed at one system call after the other; the DEL that follows must leave nothing. */
import { afterAll, expect, test } from 'bun:test'
import { removeBridges } from '../fixtures/bridge.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { mustExecute, ourExecutable, ours } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'

const ipam = { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd00:1::/64' }]] }
const bridge = {
  cniVersion: '1.1.0',
  name: 'kill-net',
  type: 'bridge',
  bridge: 'kill0',
  isGateway: true,
  ipMasq: true,
  macspoofchk: true,
  ipam,
}
const portmap = {
  cniVersion: '1.1.0',
  name: 'kill-net',
  type: 'portmap',
  runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] },
}

/** Every call that changes something, or that stands between two that do. */
const CALLS = 'sendto,open,openat,link,rename,unlink,write,setns,fsync,mkdir,flock,fcntl,close'

afterAll(removeBridges)

interface Killed {
  type: string
  verb: 'ADD' | 'DEL'
  config: object
  container: Namespace
  containerId: string
}

/** Runs a plugin that gets SIGKILL at its nth call; answers whether it got that far. */
function killedAt(point: number, { type, verb, config, container, containerId }: Killed): boolean {
  const command = [
    'strace',
    '-f',
    '-o',
    '/dev/null',
    '-e',
    `trace=${CALLS}`,
    '-e',
    `inject=${CALLS}:signal=SIGKILL:when=${point}`,
  ]
  const { exitCode } = Bun.spawnSync([...command, ourExecutable(type)], {
    env: {
      PATH: process.env.PATH,
      CNI_COMMAND: verb,
      CNI_CONTAINERID: containerId,
      CNI_NETNS: container.path,
      CNI_IFNAME: 'eth0',
      CNI_PATH: ours,
    },
    stdin: Buffer.from(JSON.stringify(config)),
  })
  return exitCode !== 0
}

/** What belongs to a container: round robin's memory, the bridge and the guard of its loopback addresses stay. */
function leftOf(before: string[]): string[] {
  const isNetworks =
    /last_reserved_ip|"name":"route_localnet"|\/run\/catena\/localnet\/|^(link|address|route|qdisc).*kill0|^(address|route|qdisc) /
  return difference(before, snapshot()).added.filter(line => !isNetworks.test(line))
}

/** Kills at the first, second, … call until the plugin comes to its end; answers how many kills there were. */
function everyPoint(attempt: (point: number) => boolean): number {
  for (let point = 1; ; point++) if (!attempt(point)) return point - 1
}

test('bridge with host-local: killed at any call of ADD, nothing is left after DEL', () => {
  using container = freshNamespace()
  const before = snapshot()
  const kills = everyPoint(point => {
    const given = { type: 'bridge', config: bridge, container, containerId: `killed-${point}` }
    const killed = killedAt(point, { ...given, verb: 'ADD' })
    mustExecute(ourExecutable('bridge'), 'DEL', { ...given, netns: container })
    expect({ point, left: leftOf(before), inside: container.links().length }).toEqual({
      point,
      left: [],
      inside: 1,
    })
    return killed
  })
  expect(kills).toBeGreaterThan(30)
}, 120_000)

test('bridge with host-local: killed at any call of DEL, the next DEL finishes it', () => {
  using container = freshNamespace()
  const before = snapshot()
  const kills = everyPoint(point => {
    const given = { type: 'bridge', config: bridge, container, containerId: `killed-${point}` }
    mustExecute(ourExecutable('bridge'), 'ADD', { ...given, netns: container })
    const killed = killedAt(point, { ...given, verb: 'DEL' })
    mustExecute(ourExecutable('bridge'), 'DEL', { ...given, netns: container })
    expect({ point, left: leftOf(before), inside: container.links().length }).toEqual({
      point,
      left: [],
      inside: 1,
    })
    return killed
  })
  expect(kills).toBeGreaterThan(15)
}, 120_000)

test('portmap: killed at any call of ADD, nothing is left after DEL, and the port is free for the next', () => {
  using container = freshNamespace()
  const empty = snapshot()
  const given = { type: 'portmap', container, containerId: 'bridged' }
  const prevResult = mustExecute(ourExecutable('bridge'), 'ADD', {
    config: bridge,
    netns: container,
    containerId: 'bridged',
  })
  const before = snapshot()
  const kills = everyPoint(point => {
    const each = { ...given, config: { ...portmap, prevResult }, containerId: `killed-${point}` }
    const killed = killedAt(point, { ...each, verb: 'ADD' })
    mustExecute(ourExecutable('portmap'), 'DEL', { ...each, netns: container })
    // Hairpin mode stays on the port, which goes with bridge's DEL, and the bridge open to 127.0.0.1, which is noted.
    const left = leftOf(before).filter(line => !/^(link veth|file \/run\/catena\/localnet\/kill0)/.test(line))
    expect({ point, left }).toEqual({ point, left: [] })
    return killed
  })
  expect(kills).toBeGreaterThan(15)
  mustExecute(ourExecutable('bridge'), 'DEL', { config: bridge, netns: container, containerId: 'bridged' })
  expect(leftOf(empty)).toEqual([])
}, 120_000)
