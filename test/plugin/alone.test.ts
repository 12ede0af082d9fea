/** Whose turn it is: who waits for whom, and who goes on where none can be kept off. */
import { expect, test } from 'bun:test'
import { readdirSync, rmSync } from 'node:fs'
import { waitForTurn } from '../../chain/plugin/alone.ts'
import type { Verb } from '../../chain/protocol/environment.ts'
import { hostNamespace } from '../fixtures/namespace.ts'

const attachment = { network: 'net', containerId: 'one', ifname: 'eth0' }
const bridge = { name: 'bridge' }

interface Operation {
  verb: Verb
  plugin?: { name: string; stateless?: boolean; ownLock?: boolean }
  network?: string
  containerId?: string
  ifname?: string
}

const turnOf = ({ verb, plugin = bridge, ...other }: Operation) =>
  waitForTurn(plugin, verb, { ...attachment, ...other })

/** Whether the second has to wait while the first is at work; it has its turn in the end. */
async function waits(first: Operation, second: Operation): Promise<boolean> {
  const atWork = await turnOf(first)
  const next = turnOf(second)
  atWork?.[Symbol.dispose]()
  const turn = await next
  turn?.[Symbol.dispose]()
  return next instanceof Promise
}

const add: Operation = { verb: 'ADD' }

test.each<[string, Operation, Operation, boolean]>([
  ['a second ADD of an attachment', add, add, true],
  ['its DEL', add, { verb: 'DEL' }, true],
  ['its CHECK', add, { verb: 'CHECK' }, true],
  ['a DEL during CHECK', { verb: 'CHECK' }, { verb: 'DEL' }, true],
  ['a CHECK during CHECK', { verb: 'CHECK' }, { verb: 'CHECK' }, false],
  ['another network that wants the same interface', add, { ...add, network: 'other' }, true],
  ['another interface of the container', add, { ...add, ifname: 'eth1' }, false],
  ['another container', add, { ...add, containerId: 'two' }, false],
  [
    'another plugin, which may run on behalf of the first',
    add,
    { ...add, plugin: { name: 'portmap' } },
    false,
  ],
  ['GC, for whoever of the network is at work', add, { verb: 'GC', containerId: '', ifname: '' }, true],
  ['GC of another network', add, { verb: 'GC', network: 'other' }, false],
  ['an ADD during GC', { verb: 'GC', containerId: '', ifname: '' }, add, true],
  ['a CHECK during GC', { verb: 'GC', containerId: '', ifname: '' }, { verb: 'CHECK' }, true],
  ['STATUS', add, { verb: 'STATUS' }, false],
  ['a plugin that keeps nothing', add, { ...add, plugin: { name: 'bridge', stateless: true } }, false],
])('%s has to wait', async (_, first, second, expected) => {
  expect(await waits(first, second)).toBe(expected)
})

test('names do not run into one another: an interface and a container that together read the same', async () => {
  const one = { ...add, ifname: 'a of container b', containerId: 'c' }
  const other = { ...add, ifname: 'a', containerId: 'b of container c' }
  // such names never come this far (checkInterfaceName): if they did, one would wait, and nothing worse
  expect(await waits(one, other)).toBe(true)
})

test('a turn that was never used up goes on with what else is named', async () => {
  using turn = await turnOf(add)
  using other = await turnOf({ ...add, containerId: 'two' })
  expect(turn?.tryHold('a table')).toBe(true)
  expect(other?.tryHold('a table')).toBe(false)
  turn?.release('a table')
  expect(other?.tryHold('a table')).toBe(true)
})

/** As on a node whose /run is mounted read-only. */
function withoutRun(): Disposable {
  const host = hostNamespace()
  rmSync('/run/catena', { recursive: true, force: true })
  host.run('mount', '-o', 'remount,ro', '/run')
  return { [Symbol.dispose]: () => void host.run('mount', '-o', 'remount,rw', '/run') }
}

test('where the lock cannot be made, who adds is told why, and what takes away goes on', () => {
  using _readOnly = withoutRun()
  expect(() => turnOf(add)).toThrow(
    expect.objectContaining({
      code: 5,
      message: 'bridge: cannot keep other operations off the container',
      details: expect.stringMatching(/EROFS.*: is \/run full, or mounted read-only\?$/),
    }),
  )
  for (const verb of ['DEL', 'CHECK', 'GC'] as const) expect(turnOf({ verb })).toBeUndefined()
  expect(turnOf({ ...add, plugin: { name: 'host-local', ownLock: true } })).toBeUndefined()
})

test('who has nobody left to answer to when he would have to wait does not, and keeps nothing locked', async () => {
  const atWork = await turnOf(add)
  const abandoned = {
    ...attachment,
    isAbandoned: () => true,
    untilAbandoned: <T>(body: (signal: AbortSignal) => Promise<T>) => body(AbortSignal.timeout(60_000)),
  }
  const before = readdirSync('/proc/self/fd').length
  expect(() => waitForTurn(bridge, 'DEL', abandoned)).toThrow(expect.objectContaining({ code: 11 }))
  expect(readdirSync('/proc/self/fd')).toHaveLength(before)
  atWork?.[Symbol.dispose]()
  const free = await waitForTurn(bridge, 'DEL', abandoned) // without a wait he goes on, and takes away what there is
  expect(free).toBeDefined()
  free?.[Symbol.dispose]()
})
