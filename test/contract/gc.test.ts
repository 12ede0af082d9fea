/**
 * GC's contract, for every plugin: what is not among the valid attachments goes with all that it has on the host, although
 * no DEL was called, whether or not its namespace is gone; the living, and other networks, keep everything.
 */
import { expect, test } from 'bun:test'
import { difference } from '../fixtures/snapshot.ts'
import { testOn } from '../kernel/features.ts'
import { type Attachment, attach, callStep, detach, hostState } from './attachment.ts'
import { type Row, rows, type Step, titleOf } from './rows.ts'

/** GC over a list, from the first plugin to the last; answers what failed. */
async function collect(steps: Step[], network: string, valid?: Attachment[]): Promise<string[]> {
  const attachments = valid?.map(({ container }) => ({ containerID: container.name, ifname: 'eth0' }))
  const keys = attachments ? { 'cni.dev/valid-attachments': attachments } : {}
  const failures: string[] = []
  for (const step of steps) {
    const { status, stdout } = await callStep('GC', { ...step, ...keys }, { network })
    if (status !== 0) failures.push(`${step.type}: ${stdout}`)
  }
  return failures
}

async function check({ container, steps, result }: Attachment, network: string): Promise<string[]> {
  const failures: string[] = []
  for (const step of steps) {
    const config = { ...step, prevResult: result }
    const { status, stdout } = await callStep('CHECK', config, { network, container, netns: container })
    if (status !== 0) failures.push(`${step.type}: ${stdout}`)
  }
  return failures
}

let networks = 0

async function keepsContract(row: Row, { gone }: { gone: boolean }): Promise<void> {
  const network = `gc-${process.pid}-${++networks}`
  const other = `${network}-other`
  await using node = await row.node()
  const alive = await attach(node, network)
  const stranger = await attach({ steps: container => node.elsewhere(node.steps(container)) }, other)
  const before = hostState()
  const dead = await attach(node, network)
  const withDead = hostState()
  expect(await collect(dead.steps, network)).toEqual([]) // nothing is known to be dead
  expect(difference(withDead, hostState())).toEqual({ added: [], gone: [] })
  if (gone) dead.container[Symbol.dispose]()
  expect(await collect(dead.steps, network, [alive])).toEqual([])
  await node.tidy?.(dead.container)
  expect(difference(before, hostState())).toEqual({ added: [], gone: [] })
  if (!gone) dead.container[Symbol.dispose]()
  for (const [attachment, name] of [
    [alive, network],
    [stranger, other],
  ] as const) {
    expect(await check(attachment, name)).toEqual([])
    const { container, result: prevResult, steps } = attachment
    expect(await detach(attachment, { network: name, steps, netns: container.path, prevResult })).toEqual([])
    await node.tidy?.(container)
    container[Symbol.dispose]()
  }
}

for (const row of rows) {
  for (const gone of [true, false]) {
    const title = `${titleOf(row)}: GC takes the dead alone, ${gone ? 'their namespace gone' : 'their namespace left behind'}`
    if (row.needs) testOn(row.needs, title, () => keepsContract(row, { gone }))
    else test(title, () => keepsContract(row, { gone }))
  }
}

/** What a runtime in Go sends when nothing is alive, as CRI-O without pods after the machine has started. */
const noneValid = { 'cni.dev/valid-attachments': null, 'cni.dev/attachments': null }

const ownState = ['bridge', 'ptp', 'portmap', 'bandwidth', 'tuning', 'firewall', 'flannel']

test.each(
  rows
    .filter(({ plugin, needs }) => ownState.includes(plugin) && !needs)
    .map(row => [titleOf(row), row] as const),
)(
  '%s: GC with null in the place of the list takes all of the network, and nothing of others',
  async (_, row) => {
    const network = `gc-${process.pid}-${++networks}`
    const other = `${network}-other`
    await using node = await row.node()
    const stranger = await attach({ steps: container => node.elsewhere(node.steps(container)) }, other)
    // what the first one makes for all, and DEL leaves: a bridge, the tables
    const first = await attach(node, network)
    const { container: own, result: told, steps: list } = first
    await detach(first, { network, steps: list, netns: own.path, prevResult: told })
    await node.tidy?.(own)
    own[Symbol.dispose]()
    const before = hostState()
    const dead = await attach(node, network)
    dead.container[Symbol.dispose]()
    for (const step of dead.steps)
      expect((await callStep('GC', { ...step, ...noneValid }, { network })).stdout).toBe('')
    await node.tidy?.(dead.container)
    expect(difference(before, hostState())).toEqual({ added: [], gone: [] })
    expect(await check(stranger, other)).toEqual([])
    const { container, result: prevResult, steps } = stranger
    await detach(stranger, { network: other, steps, netns: container.path, prevResult })
    await node.tidy?.(container)
    container[Symbol.dispose]()
  },
)
