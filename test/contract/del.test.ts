/**
 * DEL's contract, for every plugin: whatever became of the container, the node and the configuration since ADD, it succeeds,
 * again and again, gives the address back, leaves nothing on the host, and lets the neighbours be.
 */
import { expect, test } from 'bun:test'
import { existsSync } from 'node:fs'
import { plugins } from '../../chain/catena.ts'
import { removeLink } from '../../chain/linux/netlink/link.ts'
import { hostNamespace } from '../fixtures/namespace.ts'
import { difference } from '../fixtures/snapshot.ts'
import { testOn } from '../kernel/features.ts'
import { type Attachment, attach, type Deletion, detach, hostState } from './attachment.ts'
import { type Node, type Row, rows, type Step, titleOf } from './rows.ts'

interface Scene {
  row: Row
  node: Node
  attachment: Attachment
}

/** What happens between ADD and DEL. */
interface Condition {
  name: string
  /** Harms what ADD made. */
  harm?(scene: Scene): Promise<void> | void
  /** The harm takes the rules of everybody. */
  flushes?: true
  /** What DEL is given instead of what ADD was given. */
  given?(deletion: Deletion, scene: Scene): Partial<Deletion>
}

/** The plugin's own keys, others for those of its IPAM plugin, as somebody has changed them. */
function changing(keys: (row: Row) => object): NonNullable<Condition['given']> {
  return ({ steps }, { row }) => ({
    steps: steps.map(step => (isOf(row, step) ? { ...step, ...keys(row) } : step)),
  })
}

/** IPAM plugins are configured in the plugin that calls them: the first of the list. */
function isOf({ plugin }: Row, step: Step): boolean {
  const { ipam } = step as { ipam?: { type?: string } }
  return step.type === plugin || ipam?.type === plugin
}

const conditions: Condition[] = [
  { name: 'all is as ADD left it' },
  { name: 'the namespace is gone', harm: ({ attachment }) => attachment.container[Symbol.dispose]() },
  { name: 'no namespace is named', given: () => ({ netns: undefined }) },
  { name: 'the namespace named is empty', given: () => ({ netns: '' }) },
  {
    name: 'the link is gone',
    harm({ attachment: { container } }) {
      removeLink(container.route, 'eth0')
    },
  },
  { name: 'there is no prevResult', given: () => ({ prevResult: undefined }) },
  { name: 'prevResult is torn', given: () => ({ prevResult: { cniVersion: 7, ips: 'none' } }) },
  {
    name: 'there is no runtimeConfig',
    given: ({ steps }) => ({ steps: steps.map(step => ({ ...step, runtimeConfig: undefined })) }),
  },
  { name: 'the daemon is down', harm: ({ node }) => node.stopDaemon?.() },
  { name: 'the configuration was changed', given: changing(({ changed }) => changed) },
  { name: 'the configuration is one that the schema refuses', given: changing(({ refused }) => refused) },
  { name: 'somebody has flushed nftables', flushes: true, harm: () => onHost('nft', 'flush', 'ruleset') },
  { name: 'somebody has flushed iptables', flushes: true, harm: flushIptables },
  {
    name: 'all of that at once',
    flushes: true,
    async harm({ attachment, node }) {
      removeLink(attachment.container.route, 'eth0')
      attachment.container[Symbol.dispose]()
      await node.stopDaemon?.()
      onHost('nft', 'flush', 'ruleset')
    },
    given: (deletion, scene) => ({
      prevResult: undefined,
      netns: undefined,
      ...changing(({ changed, refused }) => ({ ...changed, ...refused, runtimeConfig: undefined }))(
        deletion,
        scene,
      ),
    }),
  },
]

/** Fails where the program or its tables are not there: then there was nothing to flush. */
function onHost(...command: string[]): void {
  using host = hostNamespace()
  host.inside(() => void Bun.spawnSync(command))
}

/** Rules and chains of all tables, as a firewall's reload does. */
function flushIptables(): void {
  for (const program of ['iptables', 'ip6tables']) {
    for (const table of ['nat', 'filter']) {
      onHost(program, '-t', table, '-F')
      onHost(program, '-t', table, '-X')
    }
  }
}

test('every plugin of the executable has a row', () => {
  expect([...new Set(rows.map(({ plugin }) => plugin))].sort()).toEqual(Object.keys(plugins).sort())
})

let networks = 0

async function keepsContract(row: Row, { harm, flushes, given = () => ({}) }: Condition): Promise<void> {
  const network = `contract-${process.pid}-${++networks}`
  await using node = await row.node()
  const neighbour = await attach(node, network)
  const before = hostState()
  const attachment = await attach(node, network)
  const { container, steps, result } = attachment
  const scene = { row, node, attachment }
  await harm?.(scene)
  const deletion = { network, steps, netns: container.path, prevResult: result }
  const changed = { ...deletion, ...given(deletion, scene) }
  expect(await detach(attachment, changed)).toEqual([])
  expect(await detach(attachment, changed)).toEqual([])
  await node.tidy?.(container)
  const { added, gone } = difference(before, hostState())
  const lost = gone.filter(line => !(flushes && line.startsWith('nft '))) // the flush took the neighbour's as well
  expect({ added, lost }).toEqual({ added: [], lost: [] })
  if (existsSync(container.path)) container[Symbol.dispose]()
  await endOf(neighbour, { node, network })
}

/** The neighbour goes the ordinary way. */
async function endOf(
  attachment: Attachment,
  { node, network }: { node: Node; network: string },
): Promise<void> {
  const { container, result: prevResult, steps } = attachment
  expect(await detach(attachment, { network, steps, netns: container.path, prevResult })).toEqual([])
  await node.tidy?.(container)
  container[Symbol.dispose]()
}

for (const row of rows) {
  for (const condition of conditions.filter(({ flushes }) => !flushes || !row.withoutRules)) {
    const title = `${titleOf(row)}: ${condition.name}`
    if (row.needs) testOn(row.needs, title, () => keepsContract(row, condition))
    else test(title, () => keepsContract(row, condition))
  }
}
