/**
 * What one container, its network or a hostile process in its namespace does leaves the neighbour's links, rules, queueing
 * disciplines, sysctls and files as they were, byte for byte: every plugin, by every doing.
 */
import { expect, test } from 'bun:test'
import { findLink, removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { ownerOf } from '../../chain/plugin/owner.ts'
import { type Attachment, attach, callStep, detach, hostState } from '../contract/attachment.ts'
import { type Node, type Row, rows, titleOf } from '../contract/rows.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { difference, type Snapshot, snapshot } from '../fixtures/snapshot.ts'
import { testOn } from '../kernel/features.ts'

interface Scene {
  node: Node
  network: string
  /** Whose things are to stay. */
  neighbour: Attachment
}

/** The neighbour's and the host's state in all places where it can be. */
function everything({ container }: Attachment): Snapshot {
  return [
    ...hostState(),
    ...filters(),
    ...iptables(),
    ...sysctls(),
    ...snapshot(container).map(inside),
  ].sort()
}

const inside = (line: string) => `in the neighbour: ${line}`

function linesOf(...command: string[]): string[] {
  using host = hostNamespace()
  const { success, stdout } = host.inside(() => Bun.spawnSync(command))
  return success ? stdout.toString().split('\n').filter(Boolean) : []
}

/** Queueing disciplines, and what belongs to those that somebody has set. */
function filters(): string[] {
  const disciplines = linesOf('tc', 'qdisc', 'show')
  const shaped = disciplines.flatMap(line => /^qdisc (?!noqueue)\S+ .* dev (\S+)/.exec(line)?.[1] ?? [])
  return [
    ...disciplines.map(line => `qdisc ${line}`),
    ...[...new Set(shaped)].flatMap(name =>
      [['filter', 'parent', 'ffff:'], ['filter'], ['class']].flatMap(([what = '', ...where], at) =>
        linesOf('tc', what, 'show', 'dev', name, ...where).map(line => `${what} ${at} ${name} ${line}`),
      ),
    ),
  ]
}

/** Rules in their order. */
function iptables(): string[] {
  return ['iptables-save', 'ip6tables-save'].flatMap(program =>
    linesOf(program)
      .filter(line => !line.startsWith('#'))
      .map(line => `${program} ${line.replace(/\[\d+:\d+\]/, '')}`),
  )
}

/** Of every link: what lets packets through that should not come, or keeps them from coming. */
function sysctls(): string[] {
  using host = hostNamespace()
  const keys = host
    .links()
    .flatMap(({ name }) => [
      ...['forwarding', 'route_localnet', 'rp_filter', 'proxy_arp'].map(
        key => `net/ipv4/conf/${name}/${key}`,
      ),
      ...['forwarding', 'accept_ra', 'disable_ipv6'].map(key => `net/ipv6/conf/${name}/${key}`),
    ])
  return ['net/ipv4/ip_forward', ...keys].map(key => `sysctl ${key} ${host.sysctl(key)}`)
}

const DEL = async ({ network }: Scene, attachment: Attachment, more: object = {}) => {
  const { container, steps, result } = attachment
  return detach(attachment, { network, steps, netns: container.path, prevResult: result, ...more })
}

/** Runs a body with an attachment beside the neighbour's, which is taken away at the end, whatever has become of it. */
async function withActor(
  scene: Scene,
  body: (actor: Attachment) => Promise<void> | void = () => {},
): Promise<void> {
  const actor = await attach(scene.node, scene.network)
  await body(actor)
  expect(await DEL(scene, actor)).toEqual([])
  await scene.node.tidy?.(actor.container)
  actor.container[Symbol.dispose]()
}

/** A namespace whose owner does in it what he likes, without any attachment of ours. */
async function withStranger({ node }: Scene, body: (container: Namespace) => Promise<void>): Promise<void> {
  const container = freshNamespace('stranger')
  await body(container)
  await node.tidy?.(container)
  container[Symbol.dispose]()
}

/** In place of the interface: a pair with the indexes that the neighbour's has. */
function forgeIndexes({ container }: Attachment, { container: neighbour }: Attachment): void {
  const own = findLink(neighbour.route, 'eth0')
  if (container.links().some(({ name }) => name === 'eth0')) {
    setLink(container.route, 'eth0', { up: false })
    setLink(container.route, container.link('eth0').index, { name: 'kept0' })
  }
  const index = own && !container.links().some(one => one.index === own.index) ? [own.index] : []
  const parent = own?.parent && own.parent !== own.index ? [own.parent] : []
  const numbered = (numbers: number[]) => numbers.flatMap(number => ['index', String(number)])
  const pair = ['type', 'veth', 'peer', 'name', 'x', ...numbered(parent)]
  container.run('ip', 'link', 'add', 'name', 'eth0', ...numbered(index), ...pair)
}

/** The interface says that it is the neighbour's. */
function forgeWords({ network, neighbour }: Scene, { container }: Attachment): void {
  const owner = ownerOf({ network, containerId: neighbour.container.name, ifname: 'eth0' })
  const address = findLink(neighbour.container.route, 'eth0')?.address
  if (!findLink(container.route, 'eth0')) return
  setLink(container.route, 'eth0', { up: false, alias: owner.comment })
  if (address) Bun.spawnSync(['ip', '-n', container.name, 'link', 'set', 'eth0', 'address', address])
}

const doings: Readonly<Record<string, (scene: Scene) => Promise<void>>> = {
  'ADD and DEL': scene => withActor(scene),
  'ADD, CHECK, ADD again and DEL twice': scene =>
    withActor(scene, async actor => {
      const { steps, container, result } = actor
      const [first, ...rest] = steps
      for (const step of steps)
        await callStep('CHECK', { ...step, prevResult: result }, { ...scene, container, netns: container })
      if (first) await callStep('ADD', first, { ...scene, container, netns: container })
      expect(await DEL(scene, actor)).toEqual([])
      expect(rest.length).toBeGreaterThanOrEqual(0)
    }),
  'an ADD that is refused, since the interface is there already, and its DEL': scene =>
    withStranger(scene, async container => {
      const steps = scene.node.steps(container)
      const [first] = steps
      container.createLink({ name: 'eth0', kind: { type: 'bridge' } })
      if (first) await callStep('ADD', first, { ...scene, container, netns: container })
      expect(await DEL(scene, { container, steps, result: undefined })).toEqual([])
    }),
  'DEL without ADD, with and without a namespace': scene =>
    withStranger(scene, async container => {
      const attachment = { container, steps: scene.node.steps(container), result: undefined }
      for (const netns of [container.path, undefined])
        expect(await DEL(scene, attachment, { netns })).toEqual([])
    }),
  'DEL and GC on another network, for the neighbour itself': async scene => {
    const { container, steps } = scene.neighbour
    const linked = steps.filter(({ type }) => type !== 'loopback') // lo is one for all networks, as in the Go plugin
    for (const own of [linked, scene.node.elsewhere(linked)]) {
      const network = `${scene.network}-other`
      for (const step of own.toReversed()) {
        const gc = { ...step, 'cni.dev/valid-attachments': [] }
        await callStep('GC', gc, { network })
        const { status, stdout } = await callStep('DEL', step, { network, container, netns: container })
        expect({ type: step.type, status, stdout }).toEqual({ type: step.type, status: 0, stdout: '' })
      }
    }
  },
  'GC that knows the neighbour': async scene => {
    const { container, steps } = scene.neighbour
    const valid = [{ containerID: container.name, ifname: 'eth0' }]
    for (const step of steps)
      await callStep('GC', { ...step, 'cni.dev/valid-attachments': valid }, { network: scene.network })
  },
  'a pair with the neighbour’s indexes, CHECK and DEL': scene =>
    withActor(scene, async actor => {
      const { steps, container, result } = actor
      forgeIndexes(actor, scene.neighbour)
      for (const step of steps)
        await callStep('CHECK', { ...step, prevResult: result }, { ...scene, container, netns: container })
      expect(await DEL(scene, actor)).toEqual([])
      removeLink(container.route, 'eth0')
      const kept = findLink(container.route, 'kept0')
      if (kept) setLink(container.route, kept.index, { name: 'eth0' })
    }),
  'the neighbour’s words and hardware address, CHECK and DEL': scene =>
    withActor(scene, async actor => {
      forgeWords(scene, actor)
      const { steps, container, result } = actor
      for (const step of steps)
        await callStep('CHECK', { ...step, prevResult: result }, { ...scene, container, netns: container })
    }),
}

let networks = 0

async function leavesTheNeighbour({ node: nodeOf }: Row): Promise<void> {
  const network = `neighbours-${process.pid}-${++networks}`
  await using node = await nodeOf()
  const neighbour = await attach(node, network)
  const scene = { node, network, neighbour }
  await withActor(scene) // what the first one brings for all, such as chains, is there from now on
  const before = everything(neighbour)
  for (const [doing, happen] of Object.entries(doings)) {
    await happen(scene)
    expect({ doing, ...difference(before, everything(neighbour)) }).toEqual({ doing, added: [], gone: [] })
  }
  const { container, result: prevResult, steps } = neighbour
  for (const step of steps) {
    const { status, stdout } = await callStep(
      'CHECK',
      { ...step, prevResult },
      { network, container, netns: container },
    )
    expect({ type: step.type, status, stdout }).toEqual({ type: step.type, status: 0, stdout: '' })
  }
  expect(await DEL(scene, neighbour)).toEqual([])
  await node.tidy?.(container)
  container[Symbol.dispose]()
}

/** A lease's daemon and server take seconds for each doing; whose a lease is, their own tests ask. */
for (const row of rows.filter(({ plugin }) => plugin !== 'dhcp')) {
  const title = `${titleOf(row)}: nothing that goes on beside it touches the neighbour`
  if (row.needs) testOn(row.needs, title, () => leavesTheNeighbour(row))
  else test(title, () => leavesTheNeighbour(row))
}
