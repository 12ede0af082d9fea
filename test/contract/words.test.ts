/**
 * Words that people search for: where the Go plugin refuses with a phrase, ours refuses with the same phrase somewhere in its
 * sentence. Both are run; what the Go plugin of today does not say that way is marked.
 */
import { describe, expect, test } from 'bun:test'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { type Call, call, execute, peerExecutable } from '../fixtures/plugin.ts'
import { every } from './attachment.ts'
import { ofChained } from './words/chained.ts'
import { ofFilters } from './words/filters.ts'
import { ofIpam } from './words/ipam.ts'
import { ofMain } from './words/main.ts'
import { type Row, useHost } from './words/row.ts'
import { ofTheRun } from './words/run.ts'

useHost()

function callOf({ config = {}, args, netns, chained, previous, before }: Row, container: Namespace): Call {
  if (chained) {
    const address = typeof chained === 'string' ? [chained] : []
    container.createLink({ name: 'eth0', kind: { type: 'veth', peer: { name: 'eth1' } } }, ...address)
  }
  before?.(container)
  const told = { cniVersion: '1.1.0', interfaces: [{ name: 'eth0', sandbox: container.path }], ips: [] }
  const prevResult = previous?.(container) ?? (chained ? told : undefined)
  return {
    netns: netns ?? container,
    containerId: container.name,
    ...(args ? { args } : {}),
    config: typeof config === 'string' ? config : { ...(prevResult ? { prevResult } : {}), ...config },
  }
}

const titled = [...ofTheRun, ...ofIpam, ...ofMain, ...ofChained, ...ofFilters].map(
  row => [`${row.plugin}: ${row.says}`, row] as const,
)

describe('what the Go plugin says, ours says too', () => {
  test.each(titled)('%s', async (_, row) => {
    const { plugin, says, unasked } = row
    const verb = row.verb ?? 'ADD'
    if (!unasked) {
      using container = freshNamespace('words')
      const go = execute(peerExecutable(plugin), verb, callOf(row, container))
      expect(go.json.msg).toContain(says)
      execute(peerExecutable(plugin), 'DEL', {
        ...callOf({ plugin, says }, container),
        config: row.config ?? {},
      }) // what it leaves
    }
    using container = freshNamespace('words')
    const own = every[plugin]
    if (!own) throw new Error(`there is no plugin ${plugin}`)
    const us = await call(own, verb, { ...callOf(row, container), delegates: Object.values(every) })
    expect(us.json?.msg).toContain(says)
    await call(own, 'DEL', {
      ...callOf({ plugin, says }, container),
      config: row.config ?? {},
      delegates: Object.values(every),
    })
  })
})

test('no plugin with a counterpart in Go is left out', () => {
  const covered = new Set(titled.map(([, { plugin }]) => plugin))
  const elsewhere = ['flannel'] // is not among them
  expect(
    Object.keys(every)
      .filter(name => !covered.has(name))
      .sort(),
  ).toEqual(elsewhere.sort())
})
