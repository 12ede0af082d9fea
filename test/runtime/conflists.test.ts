/**
 * The networks that distributions ship, through the runtime and the executables as they are installed: two containers that
 * reach each other, the outside and, where ports are published, are reached from there; then nothing is left.
 */
import { afterAll, afterEach, beforeAll, expect, test } from 'bun:test'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { addRoute } from '../../chain/linux/netlink/route.ts'
import {
  addNetworkList,
  checkNetworkList,
  delNetworkList,
  loadNetworkFile,
  type NetworkList,
  parseNetworkList,
  parseResult,
  type RuntimeAttachment,
} from '../../chain/runtime/network.ts'
import { elements, outsideHost, removeBridges, withoutMemory } from '../fixtures/bridge.ts'
import { getHttp, serveHttp } from '../fixtures/http.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { ours } from '../fixtures/plugin.ts'
import { difference, type Snapshot, snapshot } from '../fixtures/snapshot.ts'

const folder = `${import.meta.dir}/../fixtures/conflists`
const options = { path: [ours] }

/** What flanneld says, where it runs. */
const subnets = [
  'FLANNEL_NETWORK=10.42.0.0/16',
  'FLANNEL_SUBNET=10.42.0.1/24',
  'FLANNEL_IPV6_NETWORK=fd42::/56',
  'FLANNEL_IPV6_SUBNET=fd42::1/64',
  'FLANNEL_MTU=1450',
]

interface Shipped {
  name: string
  /** The list has what publishes ports. */
  publishes: boolean
  /** Containers are seen outside by the host's address; else by their own, since another program is to masquerade. */
  masquerades: boolean
  /** subnet.env, for flannel. */
  flanneld?: string[]
  /** The kubelet's chain is to mark connections, which iptables alone can; and its rules are a use of iptables. */
  needsKubelet?: true
  /** Another bridge's containers do not reach its own. */
  isolates?: true
}

const shipped: Shipped[] = [
  { name: 'k3s', publishes: true, masquerades: false, flanneld: [...subnets, 'FLANNEL_IPMASQ=true'] },
  { name: 'flannel', publishes: true, masquerades: true, flanneld: [...subnets, 'FLANNEL_IPMASQ=false'] },
  { name: 'podman', publishes: true, masquerades: true },
  { name: 'nerdctl', publishes: true, masquerades: true, isolates: true },
  { name: 'cri-o', publishes: false, masquerades: true },
  { name: 'containerd', publishes: true, masquerades: true, needsKubelet: true },
  { name: 'kind', publishes: true, masquerades: false },
]

type Backend = 'nftables' | 'iptables'
const backends: readonly Backend[] = ['nftables', 'iptables']

/** What shipped lists are silent about is nftables on a host that does not use iptables; there it has to be asked for. */
function listWith(name: string, backend: Backend): NetworkList {
  const list = loadNetworkFile(`${folder}/${name}.conflist`)
  if (backend === 'nftables') return list
  const plugins = list.plugins.map(({ raw }) => {
    if (raw.type === 'portmap' || raw.type === 'firewall') return { ...raw, backend }
    if (raw.type !== 'flannel') return { ...raw, ipMasqBackend: backend }
    return { ...raw, delegate: { ...(raw.delegate as object), ipMasqBackend: backend } }
  })
  return parseNetworkList(JSON.stringify({ cniVersion: list.cniVersion, name: list.name, plugins }))
}

let outside: Namespace
beforeAll(() => {
  outside = outsideHost()
})
afterEach(() => {
  removeBridges()
  flushIptables()
})
afterAll(() => {
  outside[Symbol.dispose]()
  flanneldWrites(undefined)
})

/** Limits as containerd hands them over, far above what this test sends. */
const bandwidth = { ingressRate: 1e9, ingressBurst: 4294967295, egressRate: 1e9, egressBurst: 4294967295 }

function attachmentOf(container: Namespace, hostPort?: number): RuntimeAttachment {
  const portMappings = hostPort ? [{ hostPort, containerPort: 80, protocol: 'tcp' }] : []
  return {
    containerId: container.name,
    netns: container.path,
    ifname: 'eth0',
    capabilityArgs: { portMappings, bandwidth },
  }
}

interface Member {
  container: Namespace
  attachment: RuntimeAttachment
  addresses: string[]
}

/** Containers on a network; those that a test has not taken away go at its end. */
function membersOf(list: NetworkList) {
  const present = new Set<Member>()
  const leave = async (member: Member) => {
    await delNetworkList(list, member.attachment, options)
    member.container[Symbol.dispose]()
    present.delete(member)
  }
  return {
    async join(hostPort?: number): Promise<Member> {
      const container = freshNamespace(list.name)
      const member: Member = { container, attachment: attachmentOf(container, hostPort), addresses: [] }
      present.add(member)
      const result = await addNetworkList(list, member.attachment, options)
      member.addresses = parseResult(result, list.cniVersion).ips.map(({ address }) =>
        address.replace(/\/.*/, ''),
      )
      return member
    },
    leave,
    async [Symbol.asyncDispose]() {
      for (const member of present) await leave(member)
    },
  }
}

const sixth = (address: string) => address.includes(':')
const outsideAddress = (like: string) => (sixth(like) ? '2001:db8::2' : '192.0.2.2')
const hostAddress = (like: string) => (sixth(like) ? '2001:db8::1' : '192.0.2.1')

/** Outside, the way back to containers that are not masqueraded. */
function routeBack(addresses: readonly string[]): void {
  for (const address of addresses) {
    const prefixLength = sixth(address) ? 128 : 32
    const gateway = hostAddress(address)
    addRoute(outside.route, { destination: address, prefixLength, gateway, link: outside.link('eth0').index })
  }
}

async function expectTraffic(
  web: Member,
  client: Member,
  { masquerades, publishes }: Shipped,
): Promise<void> {
  using _server = serveHttp(web.container, { port: 80, answer: 'web' })
  using visited = serveHttp(outside, { port: 80, answer: 'outside' })
  if (!masquerades) routeBack(web.addresses)
  for (const address of web.addresses) {
    expect(await getHttp(client.container, { address, port: 80 })).toBe('web')
    expect(await getHttp(web.container, { address: outsideAddress(address), port: 80 })).toBe('outside')
    expect(visited.clients.pop()).toBe(masquerades ? hostAddress(address) : address)
    if (!publishes) continue
    expect(await getHttp(outside, { address: hostAddress(address), port: 8080 })).toBe('web')
  }
}

/** From another network of the same kind, on a bridge of its own, nothing gets through. */
async function expectIsolation(list: NetworkList, web: Member): Promise<void> {
  const text = list.text.replace('"name": "bridge"', '"name": "other"').replace('nerdctl0', 'nerdctl1')
  const other = parseNetworkList(text.replaceAll('10.4.0.', '10.4.1.'))
  await using members = membersOf(other)
  const stranger = await members.join()
  using _server = serveHttp(web.container, { port: 80 })
  const [address = ''] = web.addresses
  await expect(getHttp(stranger.container, { address, port: 80 }, 500)).rejects.toThrow()
}

/** Who does the work: elements of containers in our tables, or chains of theirs. */
function workers(): { nftables: boolean; iptables: boolean } {
  const chains = snapshot().filter(line => /^nft .*"name":"CNI-(DN-)?[0-9a-f]{20}/.test(line))
  return { nftables: elements().length > 0, iptables: chains.length > 0 }
}

/** The host without what stays by intention. */
function hostState(): Snapshot {
  return withoutMemory(snapshot())
}

function flanneldWrites(lines: string[] | undefined): void {
  rmSync('/run/flannel', { recursive: true, force: true })
  if (!lines) return
  mkdirSync('/run/flannel')
  writeFileSync('/run/flannel/subnet.env', `${lines.join('\n')}\n`)
}

/** What the kubelet and kube-proxy make: a chain that marks connections, and one that masquerades those. */
function kubeletMakesChains(): void {
  for (const program of ['iptables', 'ip6tables']) {
    for (const words of [
      '-N KUBE-MARK-MASQ',
      '-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000',
      '-N KUBE-POSTROUTING',
      '-A KUBE-POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE',
      '-A POSTROUTING -j KUBE-POSTROUTING',
    ]) {
      const { success, stderr } = Bun.spawnSync([program, '-t', 'nat', ...words.split(' ')])
      if (!success) throw new Error(`${program} ${words}: ${stderr}`)
    }
  }
}

/** The next network finds a host without iptables. */
function flushIptables(): void {
  for (const family of ['ip', 'ip6']) {
    for (const table of ['nat', 'filter', 'mangle', 'raw'])
      Bun.spawnSync(['nft', 'delete', 'table', family, table])
  }
  rmSync('/run/catena/localnet', { recursive: true, force: true }) // notes of what iptables guarded
}

for (const one of shipped) {
  for (const backend of backends) {
    test(`${one.name}, ${backend}: ADD, CHECK, traffic, DEL, and nothing is left`, async () => {
      const list = listWith(one.name, backend)
      flanneldWrites(one.flanneld)
      if (one.needsKubelet) kubeletMakesChains()
      await using members = membersOf(list)
      const usesIptables = backend === 'iptables' || one.needsKubelet === true
      // what all containers of the host or of a bridge share stays, as the Go plugin's does: CNI-ADMIN in any case
      if (usesIptables || list.plugins.some(({ raw }) => raw.type === 'firewall')) {
        const first = await members.join(8080)
        if (one.isolates) await expectIsolation(list, first)
        await members.leave(first)
      }
      removeBridges()
      const before = hostState()
      const web = await members.join(8080)
      const client = await members.join()
      if (list.cniVersion !== '0.3.1') await checkNetworkList(list, web.attachment, options)
      await expectTraffic(web, client, one)
      if (one.isolates) await expectIsolation(list, web)
      expect(workers()).toEqual({ nftables: !usesIptables, iptables: usesIptables })
      await members.leave(client)
      await members.leave(web)
      removeBridges()
      expect(difference(before, hostState())).toEqual({ added: [], gone: [] })
    })
  }
}

test('loopback, beside every other network: lo is up, and down again', async () => {
  const list = loadNetworkFile(`${folder}/loopback.conflist`)
  using container = freshNamespace()
  container.run('ip', 'link', 'set', 'lo', 'down')
  const attachment = { ...attachmentOf(container), ifname: 'lo' }
  const before = hostState()
  await addNetworkList(list, attachment, options)
  await checkNetworkList(list, attachment, options)
  expect(container.link('lo').up).toBe(true)
  await delNetworkList(list, attachment, options)
  expect(container.link('lo').up).toBe(false)
  expect(difference(before, hostState())).toEqual({ added: [], gone: [] })
})
