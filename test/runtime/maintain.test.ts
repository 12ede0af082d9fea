/** GC, STATUS and validation of a list: the specification's section 4, and libcni's habits. */
import { expect, test } from 'bun:test'
import {
  addNetworkList,
  gcNetworkList,
  getStatusNetworkList,
  listAttachments,
  validateNetworkList,
} from '../../chain/runtime/network.ts'
import { fakePlugins } from '../fixtures/fake.ts'
import { freshNamespace } from '../fixtures/namespace.ts'
import { attachment, listOf, runtime } from '../fixtures/runtime.ts'

test('a second ADD of an attachment that is alive is refused in words', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  using container = freshNamespace()
  const live = { ...attachment, netns: container.path }
  plugins.answer('one', 'ADD', { cniVersion: '1.1.0' })
  await addNetworkList(listOf(['one']), live, options)
  container.createLink({ name: 'eth0', kind: { type: 'bridge' } })
  const again = addNetworkList(listOf(['one']), live, options)
  expect(await again.catch(thrown => thrown)).toMatchObject({
    message: 'container container-1 is attached to network net by eth0 already',
    details: `eth0 exists in ${container.path}; run DEL before another ADD`,
  })
  expect(plugins.order()).toEqual(['one ADD'])
})

test.each([
  { name: 'its namespace is gone', mac: undefined, link: false },
  { name: 'its interface is another one by now', mac: '02:00:00:00:00:99', link: true },
])('an ADD goes on where the cache knows the attachment, but $name', async ({ mac, link }) => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  using container = freshNamespace()
  const netns = link ? container.path : '/run/netns/gone'
  const interfaces = [{ name: 'eth0', sandbox: netns, ...(mac ? { mac } : {}) }]
  plugins.answer('one', 'ADD', { cniVersion: '1.1.0', interfaces })
  await addNetworkList(listOf(['one']), { ...attachment, netns }, options)
  if (link) container.createLink({ name: 'eth0', kind: { type: 'bridge' } })
  await addNetworkList(listOf(['one']), { ...attachment, netns: container.path }, options)
  expect(plugins.order()).toEqual(['one ADD', 'one ADD'])
})

const live = { containerId: 'live', ifname: 'eth0' }

test('GC deletes what is cached and not alive, then tells every plugin what is alive', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  const list = listOf(['one'])
  const stale = { ...attachment, args: [['A', 'b']] as const }
  await addNetworkList(list, stale, options)
  await addNetworkList(list, { ...live, netns: '/run/netns/live' }, options)
  await addNetworkList({ ...list, name: 'other' }, attachment, options)
  await gcNetworkList(list, [live], options)
  expect(plugins.order().slice(3)).toEqual(['one DEL', 'one GC'])
  expect(plugins.calls()[3]?.environment).toMatchObject({
    CNI_CONTAINERID: 'container-1',
    CNI_NETNS: '/run/netns/gone',
    CNI_IFNAME: 'eth0',
    CNI_ARGS: 'A=b',
  })
  const alive = [{ containerID: 'live', ifname: 'eth0' }]
  expect(plugins.calls()[4]?.stdin).toEqual({
    type: 'one',
    cniVersion: '1.1.0',
    name: 'net',
    'cni.dev/valid-attachments': alive,
    'cni.dev/attachments': alive,
  })
  const left = listAttachments({}, options).map(({ network, containerId }) => `${network} ${containerId}`)
  expect(left).toEqual(['net live', 'other container-1'])
})

test('GC without a list of the living deletes every cached attachment of the network', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  await addNetworkList(listOf(['one']), attachment, options)
  await gcNetworkList(listOf(['one']), undefined, options)
  expect(plugins.order()).toEqual(['one ADD', 'one DEL', 'one GC'])
  expect(plugins.calls()[2]?.stdin).toEqual({ type: 'one', cniVersion: '1.1.0', name: 'net' })
})

test('GC with null in the place of the list: nothing is alive, and plugins are told so', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  await addNetworkList(listOf(['one']), attachment, options)
  await gcNetworkList(listOf(['one']), null, options)
  expect(plugins.order()).toEqual(['one ADD', 'one DEL', 'one GC'])
  expect(plugins.calls()[2]?.stdin).toMatchObject({
    'cni.dev/valid-attachments': [],
    'cni.dev/attachments': [],
  })
})

test('GC goes on after failures and tells all of them', async () => {
  using plugins = fakePlugins('one', 'two')
  using options = runtime(plugins)
  await addNetworkList(listOf(['one', 'two']), attachment, options)
  plugins.answer('two', 'DEL', { code: 11, msg: 'not now' }, 1)
  plugins.answer('one', 'GC', { code: 5, msg: 'no disk' }, 1)
  const collecting = gcNetworkList(listOf(['one', 'two']), [], options)
  expect(await collecting.catch(thrown => thrown)).toMatchObject({
    code: 11,
    message: [
      'failed to delete stale attachment container-1 eth0: plugin type="two" failed (delete): not now',
      'plugin type="one" failed (gc): no disk',
    ].join('\n'),
  })
  expect(plugins.order().slice(2)).toEqual(['two DEL', 'one GC', 'two GC'])
})

test('before version 1.1.0 GC deletes stale attachments, but plugins are not told', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  const list = listOf(['one'], { cniVersion: '1.0.0' })
  await addNetworkList(list, attachment, options)
  await gcNetworkList(list, [], options)
  expect(plugins.order()).toEqual(['one ADD', 'one DEL'])
})

test('disableGC makes GC do nothing', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  const list = listOf(['one'], { disableGC: true })
  await addNetworkList(list, attachment, options)
  await gcNetworkList(list, [], options)
  expect(plugins.order()).toEqual(['one ADD'])
})

test('STATUS asks the plugins in order and throws the first failure with its code', async () => {
  using plugins = fakePlugins('one', 'two', 'three')
  using options = runtime(plugins)
  plugins.answer('two', 'STATUS', { code: 50, msg: 'daemon is down' }, 1)
  const asking = getStatusNetworkList(listOf(['one', 'two', 'three']), options)
  expect(await asking.catch(thrown => thrown)).toMatchObject({ code: 50, message: 'daemon is down' })
  expect(plugins.order()).toEqual(['one STATUS', 'two STATUS'])
})

test('before version 1.1.0 every network is ready', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  await getStatusNetworkList(listOf(['one'], { cniVersion: '1.0.0' }), options)
  expect(plugins.order()).toEqual([])
})

test('validating answers the capabilities of all plugins', async () => {
  using plugins = fakePlugins('one', 'two')
  using options = runtime(plugins)
  for (const name of ['one', 'two']) {
    plugins.answer(name, 'VERSION', { cniVersion: '1.1.0', supportedVersions: ['1.0.0', '1.1.0'] })
  }
  const list = listOf([
    { type: 'one', capabilities: { mac: true, ips: false } },
    { type: 'two', capabilities: { mac: true, portMappings: true } },
  ])
  expect(await validateNetworkList(list, options)).toEqual(['mac', 'portMappings'])
})

test.each([
  {
    name: 'one that supports others only',
    reply: { cniVersion: '1.0.0', supportedVersions: ['1.0.0'] },
    status: 0,
    message: 'plugin one does not support config version "1.1.0"',
  },
  {
    name: 'one of 0.2.0 that does not list its versions',
    reply: { cniVersion: '0.2.0' },
    status: 0,
    message: 'plugin one does not support config version "1.1.0"',
  },
  {
    name: 'one that does not know VERSION',
    reply: { code: 4, msg: 'unknown CNI_COMMAND: VERSION' },
    status: 1,
    message: 'plugin one does not support config version "1.1.0"',
  },
  {
    name: 'one that answers nonsense',
    reply: {},
    status: 0,
    message: 'plugin one answers VERSION in no known form',
  },
])('validating refuses a plugin: $name', async ({ reply, status, message }) => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  plugins.answer('one', 'VERSION', reply, status)
  expect(await validateNetworkList(listOf(['one']), options).catch(thrown => thrown)).toMatchObject({
    message,
  })
})

test('validating tells of all plugins that are missing', async () => {
  using plugins = fakePlugins()
  using options = runtime(plugins)
  const thrown = await validateNetworkList(listOf(['one', 'two']), options).catch(thrown => thrown)
  expect(thrown.message.split('\n')).toEqual([
    `failed to find plugin "one" in path [${plugins.path}]`,
    `failed to find plugin "two" in path [${plugins.path}]`,
  ])
})
