/** Who waits for whom: operations on one container, GC of a network, and who gives up waiting. */
import { afterEach, expect, test } from 'bun:test'
import { readdirSync } from 'node:fs'
import {
  addNetworkList,
  checkNetworkList,
  delNetworkList,
  gcNetworkList,
} from '../../chain/runtime/network.ts'
import { type FakePlugins, fakePlugins } from '../fixtures/fake.ts'
import { attachment, listOf, openPipes, runtime } from '../fixtures/runtime.ts'

const { release, close: closePipes } = openPipes()
afterEach(closePipes)

/** Notes its beginning and its end; in between other processes get their chance. */
const NOTED =
  'echo "begin $CNI_CONTAINERID" >>"$home/notes"; for i in 1 2 3 4 5; do /bin/true; done; echo "end $CNI_CONTAINERID" >>"$home/notes"'

function alternate(notes: string[]): boolean {
  return notes.every((line, index) => line.startsWith(index % 2 === 0 ? 'begin' : 'end'))
}

test('operations on one container run one at a time', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  plugins.behave('one', 'DEL', NOTED)
  const names = ['eth0', 'eth1', 'eth2', 'eth3']
  await Promise.all(names.map(ifname => delNetworkList(listOf(['one']), { ...attachment, ifname }, options)))
  expect(plugins.notes()).toHaveLength(8)
  expect(alternate(plugins.notes())).toBe(true)
})

test('operations on one container run one at a time among processes too, and leave no lock behind', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  plugins.behave('one', 'DEL', NOTED)
  const list = listOf(['one'])
  const script = `
    const { delNetworkList } = await import('${import.meta.dir}/../../chain/runtime/network.ts')
    for (let round = 0; round < 3; round++) await delNetworkList(${JSON.stringify(list)}, ${JSON.stringify(attachment)}, ${JSON.stringify(options)})`
  const others = [1, 2, 3].map(() => Bun.spawn(['bun', '-e', script], { stderr: 'inherit' }))
  await delNetworkList(list, attachment, options)
  expect(await Promise.all(others.map(({ exited }) => exited))).toEqual([0, 0, 0])
  expect(plugins.notes()).toHaveLength(20)
  expect(alternate(plugins.notes())).toBe(true)
  expect(readdirSync(options.lockFolder).sort()).toEqual(['lock'])
})

test('operations on different containers run beside one another', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  await Bun.$`mkfifo ${plugins.path}/meeting`
  // each waits for the other: one after the other would never end
  plugins.behave(
    'one',
    'DEL',
    '[ $CNI_CONTAINERID = a ] && echo here >"$home/meeting" || read <"$home/meeting"',
  )
  await Promise.all(
    ['a', 'b'].map(containerId => delNetworkList(listOf(['one']), { ...attachment, containerId }, options)),
  )
  expect(plugins.order()).toEqual(['one DEL', 'one DEL'])
})

test('who waits for another operation can give up, and the next in line is not let in early', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  await Bun.$`mkfifo ${plugins.path}/begun ${plugins.path}/go`
  plugins.behave('one', 'DEL', `echo >"$home/begun"; read <"$home/go"; ${NOTED}`)
  const first = delNetworkList(listOf(['one']), attachment, options)
  await Bun.file(`${plugins.path}/begun`).text()
  const controller = new AbortController()
  const second = delNetworkList(listOf(['one']), attachment, { ...options, signal: controller.signal })
  const third = checkNetworkList(listOf(['one']), attachment, options)
  controller.abort(new Error('enough'))
  await expect(second).rejects.toThrow('enough')
  expect(plugins.order()).toEqual(['one DEL'])
  release(`${plugins.path}/go`)
  await Promise.all([first, third])
  expect(plugins.order()).toEqual(['one DEL', 'one CHECK'])
})

/** A plugin that says when it begins a verb, and goes on when it may. */
function stopAt(plugins: FakePlugins, verb: string) {
  plugins.behave(
    'one',
    verb,
    'echo >"$home/begun"; read <"$home/go"; echo "$CNI_COMMAND ends" >>"$home/notes"',
  )
  return {
    begun: () => Bun.file(`${plugins.path}/begun`).text(),
    proceed: () => release(`${plugins.path}/go`),
  }
}

test('ADD and DEL wait for GC on their network; other networks do not', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  await Bun.$`mkfifo ${plugins.path}/begun ${plugins.path}/go`
  const list = listOf(['one'])
  const { begun, proceed } = stopAt(plugins, 'GC')
  const collecting = gcNetworkList(list, [], options)
  await begun()
  const adding = addNetworkList(list, attachment, options)
  const deleting = delNetworkList(list, { ...attachment, containerId: 'container-2' }, options)
  await addNetworkList({ ...list, name: 'other' }, { ...attachment, containerId: 'container-3' }, options)
  expect(plugins.calls().map(({ verb, stdin }) => `${verb} ${stdin.name}`)).toEqual(['GC net', 'ADD other'])
  proceed()
  await Promise.all([collecting, adding, deleting])
  expect(plugins.order()).toHaveLength(4)
})

test('GC waits for an ADD in progress, and those that come after wait for GC', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  await Bun.$`mkfifo ${plugins.path}/begun ${plugins.path}/go`
  const list = listOf(['one'])
  const { begun, proceed } = stopAt(plugins, 'DEL')
  plugins.behave('one', 'GC', 'echo "GC ends" >>"$home/notes"')
  const deleting = delNetworkList(list, attachment, options)
  await begun()
  const collecting = gcNetworkList(list, [], options)
  const adding = addNetworkList(list, { ...attachment, containerId: 'container-2' }, options)
  await addNetworkList({ ...list, name: 'other' }, { ...attachment, containerId: 'container-3' }, options)
  expect(plugins.order()).toEqual(['one DEL', 'one ADD'])
  proceed()
  await Promise.all([deleting, collecting, adding])
  expect(plugins.order()).toEqual(['one DEL', 'one ADD', 'one GC', 'one ADD'])
  expect(plugins.notes()).toEqual(['DEL ends', 'GC ends'])
})

test('who waits for GC can give up', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  await Bun.$`mkfifo ${plugins.path}/begun ${plugins.path}/go`
  const { begun, proceed } = stopAt(plugins, 'GC')
  const collecting = gcNetworkList(listOf(['one']), [], options)
  await begun()
  const controller = new AbortController()
  const adding = addNetworkList(listOf(['one']), attachment, { ...options, signal: controller.signal })
  controller.abort(new Error('enough'))
  await expect(adding).rejects.toThrow('enough')
  proceed()
  await collecting
  expect(plugins.order()).toEqual(['one GC'])
})
