/** Damage made by hand, each kind of it found, explained and mended; and a healthy node, of which nothing is said. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  watch,
  writeFileSync,
} from 'node:fs'
import { examineState, repair, undoRepair } from '../../chain/cli/doctor/state.ts'
import type { Finding } from '../../chain/cli/finding.ts'
import { removeLink } from '../../chain/linux/netlink/link.ts'
import { createNamespace, removeNamespace } from '../../chain/linux/netns.ts'
import { hostNamespace } from '../fixtures/namespace.ts'
import { type Added, bridgeChain, freshNode, type TestNode } from '../fixtures/node.ts'
import { ourExecutable, ours, peers } from '../fixtures/plugin.ts'

setDefaultTimeout(60_000)

const ports = (hostPort: number) => ({
  capabilityArgs: { portMappings: [{ hostPort, containerPort: 80, protocol: 'tcp' }] },
})
const UUID = '01234567-89ab-cdef-0123-456789abcdef'

let node: TestNode
let web: Added
let client: Added
let db: Added
let installation: string

beforeAll(async () => {
  node = await freshNode()
  installation = mkdtempSync('/run/installation-')
  node.network('ours', '10.31.0.0/24')
  node.network('theirs', '10.32.0.0/24')
  node.network('nft', '10.33.0.0/24', [
    ...bridgeChain('nft', '10.33.0.0/24', { ipMasqBackend: 'nftables' }).slice(0, 1),
    { type: 'portmap', backend: 'nftables', capabilities: { portMappings: true } },
  ])
  node.network('walled', '10.34.0.0/24', [
    ...bridgeChain('walled', '10.34.0.0/24').slice(0, 1),
    { type: 'firewall', backend: 'nftables' },
  ])
  web = await node.add('ours', 'web', ports(8080))
  client = await node.add('ours', 'client')
  db = await node.add('theirs', 'db', { by: 'go', ...ports(5432) })
})
afterAll(async () => {
  await node[Symbol.asyncDispose]()
  rmSync(installation, { recursive: true })
  rmSync('/var/lib/cni/catena-undo', { recursive: true, force: true })
})

const examine = () =>
  examineState({ node: { into: installation, root: '' }, names: ['bridge'] }, { grace: 0 })

function sh(command: string): void {
  const { exitCode, stderr } = Bun.spawnSync(['sh', '-c', command], {
    env: {
      ...process.env,
      PATH: `${ours}:${process.env.PATH}`,
      CNI_PATH: command.includes(' theirs ') ? peers : ours,
    },
  })
  if (exitCode !== 0) throw new Error(`${command}: ${stderr}`)
}

/** The container's namespace goes, as with a node that is switched off, and no DEL comes. */
function kill({ netns, result }: Added, { cache = true } = {}): void {
  removeNamespace(netns)
  using host = hostNamespace()
  for (const { name } of result.interfaces) if (name.startsWith('veth')) removeLink(host.route, name)
  if (!cache) return
  for (const name of readdirSync('/var/lib/cni/results'))
    if (name.includes(netns.slice(netns.lastIndexOf('/') + 1))) rmSync(`/var/lib/cni/results/${name}`)
}

/** Tells of changes in a folder, so that none is missed and none is waited for. */
function watchFolder(path: string) {
  mkdirSync(path, { recursive: true })
  let told = Promise.withResolvers<void>()
  const watcher = watch(path, () => told.resolve())
  return {
    async until(isSo: () => boolean): Promise<void> {
      while (!isSo()) {
        await told.promise
        told = Promise.withResolvers<void>()
      }
    },
    [Symbol.dispose]: () => watcher.close(),
  }
}

const hostEnd = ({ result }: Added): string =>
  result.interfaces.find(({ name }: { name: string }) => name.startsWith('veth')).name
const addressOf = ({ result }: Added): string => result.ips[0].address
const reservation = (network: string, address: string) =>
  `/var/lib/cni/networks/${network}/${address.split('/')[0]}`

let ghosts = 0

/** A container that is gone, and all that it had but for its cache. */
async function ghost(network: string, by: 'catena' | 'go'): Promise<void> {
  const number = ++ghosts
  kill(await node.add(network, `ghost${number}`, { by, ...ports(9000 + number) }))
}

/** Something wrong that is made by hand, which kind of finding it is, and what is left to be done after its commands. */
interface Damage {
  kind: string
  name: string
  make(): void | Promise<void>
  /** What else is found, since it comes of it. */
  also?: string[]
  /** In the place of its commands, where this host cannot carry them out. */
  mend?(): void | Promise<void>
  /** It cannot be taken back: what it led to is gone. */
  isFinal?: boolean
  /** What it takes to be as before. */
  tidy?(): void
}

const leftovers: Damage[] = [
  {
    kind: 'leaked-address',
    name: 'an address that is kept for a container which is gone',
    make: () => writeFileSync(reservation('ours', '10.31.0.99'), 'ghost\r\neth0'),
  },
  {
    kind: 'torn-reservation',
    name: 'an address whose file is empty, as after a power cut',
    make: () => writeFileSync(reservation('ours', '10.31.0.98'), ''),
  },
  {
    kind: 'orphan-interface',
    name: 'the host end of a pair whose other end came back to the host',
    make: () =>
      sh('ip link add veth0badcafe type veth peer name left0 && ip link set veth0badcafe master br-ours up'),
  },
  {
    kind: 'orphan-ifb',
    name: 'an IFB that no packets are sent to',
    make: () => sh('ip link add bwp0123456789ab type ifb'),
  },
  {
    kind: 'broken-redirection',
    name: 'packets of a container that are sent to an IFB which is gone',
    make: () =>
      sh(
        `ip link add ifb9 type ifb && tc qdisc add dev ${hostEnd(web)} ingress && tc filter add dev ${hostEnd(web)} parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev ifb9 && ip link delete ifb9`,
      ),
    isFinal: true,
  },
  {
    kind: 'orphan-rules',
    name: 'elements of ours for a container that is gone',
    make: () => ghost('ours', 'catena'),
    also: ['leaked-address', 'stale-record'],
  },
  {
    kind: 'orphan-rules',
    name: 'elements of the plugin firewall for a container that is gone',
    make: () => ghost('walled', 'catena'),
    also: ['leaked-address', 'stale-record'],
  },
  {
    kind: 'orphan-rules',
    name: "rules of the Go plugins' nftables for a container that is gone",
    make: () => ghost('nft', 'go'),
    also: ['leaked-address'],
  },
  {
    kind: 'orphan-chain',
    name: "chains of the Go plugins' iptables for a container that is gone",
    make: () => ghost('theirs', 'go'),
    also: ['leaked-address'],
  },
  {
    kind: 'orphan-namespace',
    name: "a runtime's namespace with no process inside",
    make: () => createNamespace(`/run/netns/cni-${UUID}`),
  },
  {
    kind: 'dead-mount',
    name: 'the file that a namespace was mounted on',
    make: () => writeFileSync(`/run/netns/cni-${UUID}`, ''),
  },
  {
    kind: 'stale-cache',
    name: 'a result of a container whose namespace is gone',
    async make() {
      const late = await node.add('ours', 'late')
      kill(late, { cache: false })
      for (const file of [reservation('ours', addressOf(late))]) rmSync(file)
    },
    also: ['orphan-rules', 'stale-record'],
  },
  {
    kind: 'broken-cache',
    name: 'a result of which a power cut has left nothing',
    make: () => writeFileSync('/var/lib/cni/results/ours-ghost-eth0', ''),
  },
  {
    kind: 'stale-record',
    name: 'a record of an owner who is gone',
    make() {
      mkdirSync('/run/catena/firewall', { recursive: true })
      writeFileSync(
        '/run/catena/firewall/0123456789abcdef-0123456789abcdef.json',
        '{"addresses":["10.31.0.97"]}',
      )
    },
  },
]

const second = { isDefaultGateway: false, isGateway: true }
let daemon: Bun.Subprocess | undefined

const troubles: Damage[] = [
  {
    kind: 'missing-interface',
    name: 'an interface that somebody has deleted in the container',
    make: () => sh(`nsenter --net=${client.netns} ip link delete eth0`),
    also: ['orphan-rules', 'leaked-address'],
  },
  {
    kind: 'interface-down',
    name: 'a host end that is down',
    make: () => sh(`ip link set ${hostEnd(web)} down`),
  },
  {
    kind: 'unplugged-port',
    name: 'a port that was taken from its bridge',
    make: () => sh(`ip link set ${hostEnd(web)} nomaster`),
  },
  {
    kind: 'missing-address',
    name: "a container's address that somebody has deleted",
    make: () => sh(`nsenter --net=${web.netns} ip address flush dev eth0`),
    also: ['missing-route'],
  },
  {
    kind: 'missing-route',
    name: "a container's default route that is gone",
    make: () => sh(`nsenter --net=${web.netns} ip route delete default`),
  },
  {
    kind: 'mtu-mismatch',
    name: 'two ends of a pair of different MTU',
    make: () => sh(`nsenter --net=${db.netns} ip link set eth0 mtu 9000`),
  },
  {
    kind: 'address-twice',
    name: 'an address on two containers',
    make: () =>
      sh(
        `nsenter --net=${db.netns} true; nsenter --net=${client.netns} ip address add ${addressOf(web)} dev eth0`,
      ),
  },
  {
    kind: 'missing-gateway',
    name: "a bridge without its containers' gateway",
    make: () => sh('ip address delete 10.31.0.1/24 dev br-ours'),
  },
  {
    kind: 'stray-address',
    name: 'a bridge with an address of another network',
    make: () => sh('ip address add 10.32.0.77/24 dev br-ours'),
  },
  {
    kind: 'missing-reservation',
    name: 'an address that nothing keeps',
    make: () => rmSync(reservation('ours', addressOf(web))),
  },
  {
    kind: 'forwarding-off',
    name: 'a host that forwards nothing',
    make: () => sh('sysctl -qw net.ipv4.ip_forward=0'),
  },
  {
    kind: 'forward-drop',
    name: 'a firewall of iptables whose FORWARD drops',
    make: () => sh('iptables-nft -P FORWARD DROP'),
    also: ['bridge-filtered'],
    tidy: () => sh('iptables-nft -P FORWARD ACCEPT && iptables-nft -F FORWARD'),
  },
  {
    kind: 'forward-drop',
    name: 'a firewall of the older iptables whose FORWARD drops',
    make: () => sh('iptables-legacy -P FORWARD DROP'),
    also: ['bridge-filtered'],
    tidy: () => sh('iptables-legacy -P FORWARD ACCEPT && iptables-legacy -F FORWARD'),
  },
  {
    kind: 'bridge-filtered',
    name: 'a firewall of nftables that br_netfilter shows bridged packets to',
    make: () =>
      sh(
        'sysctl -qw net.bridge.bridge-nf-call-iptables=1; nft "add table inet wall { chain forward { type filter hook forward priority 5; meta l4proto tcp drop; }; }"',
      ),
    also: ['forward-drop'],
    tidy: () => sh('nft delete table inet wall'),
  },
  {
    kind: 'mtu-too-large',
    name: 'an uplink that takes less than containers send',
    make: () =>
      sh(
        'ip link add up0 mtu 1400 type veth peer name up1; ip address add 192.0.2.1/24 dev up0; ip link set up0 up; ip link set up1 up; ip route add default via 192.0.2.2',
      ),
    tidy: () => sh('ip link delete up0'),
  },
  {
    kind: 'reverse-path',
    name: 'rp_filter where a container has two networks',
    async make() {
      sh('sysctl -qw net.ipv4.conf.br-ours.rp_filter=1')
      node.network('second', '10.36.0.0/24', bridgeChain('second', '10.36.0.0/24', second))
      await node.add('second', 'both', { containerId: 'client', netns: client.netns, ifname: 'eth1' })
    },
  },
  {
    kind: 'dhcp-daemon',
    name: 'a network that wants DHCP without its daemon',
    make() {
      node.network('leased', '', [{ type: 'macvlan', master: 'br-ours', ipam: { type: 'dhcp' } }])
    },
    async mend() {
      using appeared = watchFolder('/run/cni')
      daemon = Bun.spawn([ourExecutable('dhcp'), 'daemon'])
      await appeared.until(() => existsSync('/run/cni/dhcp.sock'))
    },
    tidy() {
      daemon?.kill()
      rmSync('/etc/cni/net.d/leased.conflist')
    },
  },
  {
    kind: 'range-nearly-full',
    name: 'a range that leaks have nearly filled',
    make() {
      node.network('small', '10.35.0.0/29')
      mkdirSync('/var/lib/cni/networks/small', { recursive: true })
      for (const last of [2, 3, 4, 5, 6])
        writeFileSync(reservation('small', `10.35.0.${last}`), 'ghost\r\neth0')
    },
    also: ['leaked-address'],
    mend: async () => void (await repair(examine(), new Date())),
  },
  {
    kind: 'port-twice',
    name: 'a host port that two containers publish',
    make: async () => void (await node.add('theirs', 'db2', { by: 'go', ...ports(5432) })),
  },
  {
    kind: 'port-shadowed',
    name: 'a process of the host on a published port',
    async make() {
      const serve =
        'Bun.listen({ hostname: "0.0.0.0", port: 8080, socket: { data() {} } }); console.log("there")'
      const child = Bun.spawn([process.execPath, '-e', serve], { stdout: 'pipe' })
      await child.stdout.getReader().read()
    },
  },
  {
    kind: 'mixed-versions',
    name: 'a plugin of another version in the folder',
    make() {
      writeFileSync(`${installation}/catena`, '')
      truncateSync(`${installation}/catena`, 100_000_000)
      linkSync(`${installation}/catena`, `${installation}/portmap`)
      writeFileSync(`${installation}/bridge`, '')
      truncateSync(`${installation}/bridge`, 90_000_000)
    },
  },
]

/** A finding says all that it takes to understand and to mend it. */
function expectExplained({ says, why = '', evidence = [], commands = [] }: Finding): void {
  expect(says.length).toBeGreaterThan(10)
  expect(why.length).toBeGreaterThan(20)
  expect(evidence.length).toBeGreaterThan(0)
  expect(commands.length).toBeGreaterThan(0)
}

const kindsOf = (findings: readonly Finding[]) =>
  [...new Set(findings.map(({ kind }) => kind ?? ''))].toSorted()

describe('found, explained, taken away and taken back:', () => {
  test.each(leftovers)('$name', async ({ kind, make, isFinal = false, also = [] }) => {
    expect(examine()).toEqual([])
    await make()
    const findings = examine()
    expect(kindsOf(findings)).toEqual(expect.arrayContaining([kind]))
    expect(kindsOf(findings).filter(one => one !== kind && !also.includes(one))).toEqual([])
    for (const finding of findings) {
      expectExplained(finding)
      expect(finding.evidence?.length).toBeGreaterThan(1) // two signs
    }
    const { repaired } = await repair(findings, new Date())
    expect(repaired.flatMap(({ steps }) => steps).filter(({ outcome }) => outcome === 'failed')).toEqual([])
    expect(examine()).toEqual([])
    const { done } = await undoRepair()
    if (isFinal) return void expect(done).toEqual([expect.stringContaining('not taken back')])
    expect(kindsOf(examine())).toContain(kind)
    await repair(examine(), new Date())
    expect(examine()).toEqual([])
  })
})

describe('found, explained, and mended by its command:', () => {
  test.each(troubles)('$name', async ({ kind, make, mend, also = [], tidy = () => {} }) => {
    expect(examine()).toEqual([])
    await make()
    const findings = examine()
    expect(kindsOf(findings)).toContain(kind)
    expect(kindsOf(findings).filter(one => one !== kind && !also.includes(one))).toEqual([])
    for (const finding of findings) expectExplained(finding)
    const commands = findings
      .filter(finding => finding.kind === kind)
      .flatMap(finding => finding.commands ?? [])
    if (mend) await mend()
    else
      for (const command of commands)
        sh(command.startsWith('catena install') ? `${command} --plugins catena,bridge,portmap` : command)
    for (const { kind: other, commands: more = [] } of examine())
      if (also.includes(other ?? '')) more.forEach(sh)
    expect(examine()).toEqual([])
    tidy()
  })
})

test('the command says what it found, takes it away when told to, and back again', () => {
  const catena = (...words: string[]) => {
    const { exitCode, stdout } = Bun.spawnSync(
      [ourExecutable('catena'), 'doctor', '--into', installation, ...words],
      { env: { PATH: process.env.PATH } },
    )
    return { status: exitCode, json: JSON.parse(stdout.toString()) }
  }
  rmSync('/var/lib/cni/catena-undo', { recursive: true, force: true }) // what the tests before have mended
  const path = reservation('ours', '10.31.0.99')
  const find = ['--state', '--grace', '0']
  expect(catena(...find)).toEqual({ status: 0, json: { version: 1, findings: [] } })
  writeFileSync(path, 'ghost\r\neth0')
  const found = {
    kind: 'leaked-address',
    label: 'orphan',
    level: 'problem',
    isMendable: true,
    commands: [`rm ${path}`],
  }
  expect(catena(...find)).toMatchObject({ status: 1, json: { findings: [found] } })
  expect(catena('--repair', '--grace', '0')).toMatchObject({
    status: 1,
    json: { findings: [found], repaired: [] },
  })
  expect(existsSync(path)).toBe(true) // yes was not said
  expect(catena('--repair', '--yes').json.repaired).toEqual([]) // it is too young
  expect(catena('--repair', '--yes', '--grace', '0')).toMatchObject({
    status: 0,
    json: { repaired: [{ steps: [{ command: `rm ${path}`, outcome: 'done' }] }], left: [] },
  })
  expect(existsSync(path)).toBe(false)
  expect(catena('--undo')).toMatchObject({ status: 0, json: { done: [`taken back: rm ${path}`] } })
  expect(readFileSync(path, 'latin1')).toBe('ghost\r\neth0')
  rmSync(path)
  expect(catena('--undo')).toMatchObject({ status: 1, json: { msg: 'there is no repair to take back' } })
})

test('what has changed since it was looked at is left alone', async () => {
  const path = reservation('ours', '10.31.0.99')
  writeFileSync(path, 'ghost\r\neth0')
  const findings = examine()
  writeFileSync(path, 'late\r\neth0') // host-local has given it away meanwhile
  const { repaired } = await repair(findings, new Date())
  expect(repaired[0]?.steps).toMatchObject([{ outcome: 'changed' }])
  expect(existsSync(path)).toBe(true)
  rmSync(path)
})

test('a container whose cache is gone is alive: one sign is not enough', async () => {
  renameSync('/var/lib/cni/results', '/var/lib/cni/elsewhere')
  expect(examine().filter(({ repair: steps }) => steps)).toEqual([])
  renameSync('/var/lib/cni/elsewhere', '/var/lib/cni/results')
  expect(examine()).toEqual([])
})

test('rules that somebody has flushed are missed, of each container that had some', () => {
  sh('nft flush ruleset')
  const missing = examine().filter(({ kind }) => kind === 'missing-rules')
  expect(missing.map(({ says }) => says)).toEqual(
    expect.arrayContaining([
      'the rules of web for masquerade and published ports are gone',
      'the rules of db for masquerade and published ports are gone',
    ]),
  )
  for (const finding of missing) expectExplained(finding)
})
