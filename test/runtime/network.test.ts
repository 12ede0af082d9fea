/** A list run forwards and backwards over an attachment: the specification's sections 3 and 4, and libcni's habits. */
import { afterEach, expect, test } from 'bun:test'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { close, O_RDWR, open, writeAll } from '../../chain/linux/libc/file.ts'
import type { Step } from '../../chain/runtime/attachment.ts'
import {
  addNetwork,
  addNetworkList,
  checkNetwork,
  checkNetworkList,
  delNetwork,
  delNetworkList,
  gcNetworkList,
  getCachedResult,
  getStatusNetworkList,
  listAttachments,
  parseNetwork,
  parseNetworkList,
  validateNetworkList,
} from '../../chain/runtime/network.ts'
import { type FakePlugins, fakePlugins } from '../fixtures/fake.ts'
import { freshNamespace } from '../fixtures/namespace.ts'

const attachment = { containerId: 'container-1', netns: '/run/netns/gone', ifname: 'eth0' }

/** A runtime of the test's own: cache and locks in a folder that goes with it. */
function runtime(plugins: FakePlugins) {
  const folder = mkdtempSync('/run/runtime-')
  return {
    path: [plugins.path],
    cacheFolder: `${folder}/cache`,
    lockFolder: `${folder}/locks`,
    [Symbol.dispose]: () => rmSync(folder, { recursive: true }),
  }
}

function listOf(plugins: readonly (string | object)[], more: object = {}) {
  const objects = plugins.map(each => (typeof each === 'string' ? { type: each } : each))
  return parseNetworkList(JSON.stringify({ cniVersion: '1.1.0', name: 'net', plugins: objects, ...more }))
}

test('ADD runs the plugins forwards, DEL backwards', async () => {
  using plugins = fakePlugins('one', 'two', 'three')
  using options = runtime(plugins)
  const list = listOf(['one', 'two', 'three'])
  await addNetworkList(list, attachment, options)
  await delNetworkList(list, attachment, options)
  const order = ['one ADD', 'two ADD', 'three ADD', 'three DEL', 'two DEL', 'one DEL']
  expect(plugins.order()).toEqual(order)
})

test('a plugin gets its own object with name, version, the result of the plugin before it, and its capabilities', async () => {
  using plugins = fakePlugins('one', 'two')
  using options = runtime(plugins)
  const second = { type: 'two', capabilities: { mac: true, ips: false }, mine: { deep: [1] } }
  const capabilityArgs = { mac: '02:00:00:00:00:01', ips: ['10.1.0.9'], portMappings: [] }
  await addNetworkList(listOf(['one', second]), { ...attachment, capabilityArgs }, options)
  expect(plugins.calls().map(({ stdin }) => stdin)).toEqual([
    { type: 'one', cniVersion: '1.1.0', name: 'net' },
    {
      ...second,
      cniVersion: '1.1.0',
      name: 'net',
      prevResult: { cniVersion: '1.1.0', ips: [{ address: '10.1.0.2/16' }], dns: { domain: 'one' } },
      runtimeConfig: { mac: '02:00:00:00:00:01' },
    },
  ])
})

test('a plugin inherits the environment, with the CNI variables of the call', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  const args = [
    ['IgnoreUnknown', '1'],
    ['K8S_POD_NAME', 'web'],
  ] as const
  const environment = { PATH: '/usr/bin:/bin', CNI_ARGS: 'left over', CNI_NETNS_OVERRIDE: '1' }
  await addNetworkList(listOf(['one']), { ...attachment, args }, { ...options, environment })
  expect(plugins.calls()[0]?.environment).toMatchObject({
    PATH: '/usr/bin:/bin',
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: 'container-1',
    CNI_NETNS: '/run/netns/gone',
    CNI_IFNAME: 'eth0',
    CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAME=web',
    CNI_PATH: plugins.path,
    CNI_NETNS_OVERRIDE: '1',
  })
})

test('CHECK and DEL get the result of the ADD, and arguments that are not repeated', async () => {
  using plugins = fakePlugins('one', 'two')
  using options = runtime(plugins)
  const list = listOf([{ type: 'one', capabilities: { mac: true } }, 'two'])
  const capabilityArgs = { mac: '02:00:00:00:00:01' }
  await addNetworkList(list, { ...attachment, args: [['A', 'b']], capabilityArgs }, options)
  await checkNetworkList(list, attachment, options)
  await delNetworkList(list, attachment, options)
  const later = plugins.calls().filter(({ plugin, verb }) => plugin === 'one' && verb !== 'ADD')
  expect(later.map(({ verb, stdin, environment }) => ({ verb, stdin, args: environment.CNI_ARGS }))).toEqual(
    ['CHECK', 'DEL'].map(verb => ({
      verb,
      args: 'A=b',
      stdin: {
        type: 'one',
        capabilities: { mac: true },
        cniVersion: '1.1.0',
        name: 'net',
        prevResult: { cniVersion: '1.1.0', dns: { domain: 'two' }, ips: [{ address: '10.1.0.2/16' }] },
        runtimeConfig: capabilityArgs,
      },
    })),
  )
})

test('a result without a version is of the version of the list', async () => {
  using plugins = fakePlugins('one', 'two')
  using options = runtime(plugins)
  plugins.answer('one', 'ADD', { ips: [{ version: '4', address: '10.1.0.2/16' }], dns: {} })
  plugins.answer('two', 'ADD', { cniVersion: '0.4.0', dns: {} })
  await addNetworkList(listOf(['one', 'two'], { cniVersion: '0.4.0' }), attachment, options)
  expect(plugins.calls()[1]?.stdin.prevResult.cniVersion).toBe('0.4.0')
})

test('a result of another version is converted to that of the list', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  plugins.answer('one', 'ADD', {
    cniVersion: '0.4.0',
    ips: [{ version: '4', address: '10.1.0.2/16' }],
    dns: {},
  })
  expect(await addNetworkList(listOf(['one']), attachment, options)).toEqual({
    cniVersion: '1.1.0',
    ips: [{ address: '10.1.0.2/16' }],
  })
})

test('before version 0.4.0 DEL gets no result', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  const list = listOf(['one'], { cniVersion: '0.3.1' })
  plugins.answer('one', 'ADD', { cniVersion: '0.3.1', ips: [{ version: '4', address: '10.1.0.2/16' }] })
  await addNetworkList(list, attachment, options)
  await delNetworkList(list, attachment, options)
  expect(plugins.calls()[1]?.stdin).toEqual({ type: 'one', cniVersion: '0.3.1', name: 'net' })
})

test.each([
  {
    name: 'an error that the plugin printed keeps its code',
    script: `echo '{"code": 11, "msg": "busy", "details": "later"}'; exit 1`,
    expected: { code: 11, message: 'plugin type="two" failed (add): busy', details: 'later' },
  },
  {
    name: 'what the plugin said on standard error',
    script: 'echo "no such thing" >&2; exit 3',
    expected: {
      code: 999,
      message: 'plugin type="two" failed (add): netplugin failed: "no such thing\\n": exit status 3',
    },
  },
  {
    name: 'nothing but an exit status',
    script: 'exit 4',
    expected: {
      code: 999,
      message: 'plugin type="two" failed (add): netplugin failed with no error message: exit status 4',
    },
  },
  {
    name: 'the signal that ended it',
    script: 'kill -9 $$',
    expected: {
      code: 999,
      message: 'plugin type="two" failed (add): netplugin failed with no error message: signal: SIGKILL',
    },
  },
  {
    name: 'an error that cannot be read is quoted',
    script: 'echo -n oops; exit 1',
    expected: {
      code: 999,
      message:
        'plugin type="two" failed (add): netplugin failed but error parsing its diagnostic message "oops": exit status 1',
    },
  },
  {
    name: 'a result that is no JSON',
    script: 'echo -n oops',
    expected: {
      code: 6,
      message: 'plugin type="two" failed (add): its result is not JSON',
      details: 'it printed "oops"',
    },
  },
  {
    name: 'a result that cannot be understood',
    script: `echo '{"cniVersion": "1.1.0", "ips": 5}'`,
    expected: {
      code: 6,
      message: 'plugin type="two" failed (add): could not parse result: ips: must be a list of objects',
    },
  },
  {
    name: 'no result',
    script: 'exit 0',
    expected: {
      code: 6,
      message: 'plugin type="two" failed (add): its result is not JSON',
      details: 'it printed nothing',
    },
  },
])('a failing plugin ends the ADD, and nothing is cached: $name', async ({ script, expected }) => {
  using plugins = fakePlugins('one', 'two', 'three')
  using options = runtime(plugins)
  plugins.behave('two', 'ADD', script)
  const adding = addNetworkList(listOf(['one', 'two', 'three']), attachment, options)
  expect(await adding.catch(thrown => thrown)).toMatchObject(expected)
  expect(plugins.order()).toEqual(['one ADD', 'two ADD'])
  expect(listAttachments({}, options)).toEqual([])
})

test('a plugin of a list that has a name of its own is named with it', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  plugins.answer('one', 'ADD', { code: 7, msg: 'no' }, 1)
  const adding = addNetworkList(listOf([{ type: 'one', name: 'first' }]), attachment, options)
  expect(adding).rejects.toThrow('plugin type="one" name="first" failed (add): no')
  await adding.catch(() => {})
})

test('a plugin that is not installed is found missing before the first one is run', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  const adding = addNetworkList(listOf(['one', 'missing']), attachment, options)
  const thrown = await adding.catch(thrown => thrown)
  const words = `failed to find plugin "missing" in path [${plugins.path}]`
  expect(thrown).toMatchObject({ code: 999, message: `plugin type="missing" failed (add): ${words}` })
  expect(plugins.order()).toEqual([])
})

test('with undo a failed ADD is followed by DEL over the whole list, with the last result there was', async () => {
  using plugins = fakePlugins('one', 'two', 'three')
  using options = runtime(plugins)
  plugins.answer('two', 'ADD', { code: 7, msg: 'no' }, 1)
  plugins.answer('one', 'DEL', { code: 11, msg: 'one stays' }, 1)
  const adding = addNetworkList(listOf(['one', 'two', 'three']), attachment, { ...options, undo: true })
  expect(await adding.catch(thrown => thrown)).toMatchObject({
    code: 7,
    message: 'plugin type="two" failed (add): no',
    details: 'could not take back what was added: plugin type="one" failed (delete): one stays',
  })
  expect(plugins.order()).toEqual(['one ADD', 'two ADD', 'three DEL', 'two DEL', 'one DEL'])
  expect(plugins.calls()[2]?.stdin.prevResult).toMatchObject({ dns: { domain: 'one' } })
})

test('undo goes on after a plugin whose DEL fails, and tells', async () => {
  using plugins = fakePlugins('one', 'two', 'three')
  using options = runtime(plugins)
  plugins.answer('three', 'ADD', { code: 11, msg: 'later', details: 'full' }, 1)
  plugins.answer('two', 'DEL', { code: 5, msg: 'no disk' }, 1)
  const adding = addNetworkList(listOf(['one', 'two', 'three']), attachment, { ...options, undo: true })
  expect(await adding.catch(thrown => thrown)).toMatchObject({
    code: 11,
    message: 'plugin type="three" failed (add): later',
    details: 'full; could not take back what was added: plugin type="two" failed (delete): no disk',
  })
  expect(plugins.order().slice(3)).toEqual(['three DEL', 'two DEL', 'one DEL'])
})

test('undo leaves an interface alone which was there before the ADD', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  using container = freshNamespace()
  container.createLink({ name: 'eth0', kind: { type: 'bridge' } })
  plugins.answer('one', 'ADD', { code: 7, msg: 'eth0 exists' }, 1)
  const adding = addNetworkList(
    listOf(['one']),
    { ...attachment, netns: container.path },
    { ...options, undo: true },
  )
  await adding.catch(() => {})
  expect(plugins.order()).toEqual(['one ADD'])
})

test('DEL stops at the first failure and keeps the result for the next DEL', async () => {
  using plugins = fakePlugins('one', 'two')
  using options = runtime(plugins)
  const list = listOf(['one', 'two'])
  await addNetworkList(list, attachment, options)
  plugins.answer('two', 'DEL', { code: 11, msg: 'not now' }, 1)
  const deleting = delNetworkList(list, attachment, options)
  expect(await deleting.catch(thrown => thrown)).toMatchObject({
    code: 11,
    message: 'plugin type="two" failed (delete): not now',
  })
  expect(plugins.order()).toEqual(['one ADD', 'two ADD', 'two DEL'])
  plugins.behave('two', 'DEL', 'exit 0')
  await delNetworkList(list, attachment, options)
  expect(plugins.calls().at(-1)?.stdin.prevResult).toMatchObject({ dns: { domain: 'two' } })
  expect(listAttachments({}, options)).toEqual([])
})

test('DEL of what was never added succeeds, as does DEL without a namespace', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  await delNetworkList(listOf(['one']), { containerId: 'container-1', ifname: 'eth0' }, options)
  expect(plugins.calls()[0]).toMatchObject({ verb: 'DEL', environment: { CNI_NETNS: '' } })
  expect(plugins.calls()[0]?.stdin).not.toHaveProperty('prevResult')
})

test('CHECK stops at the first failure, whose error comes out as it is', async () => {
  using plugins = fakePlugins('one', 'two')
  using options = runtime(plugins)
  plugins.answer('one', 'CHECK', { code: 123, msg: 'eth0 is down' }, 1)
  const checking = checkNetworkList(listOf(['one', 'two']), attachment, options)
  expect(await checking.catch(thrown => thrown)).toMatchObject({ code: 123, message: 'eth0 is down' })
  expect(plugins.order()).toEqual(['one CHECK'])
})

test('CHECK is refused before version 0.4.0', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  const checking = checkNetworkList(listOf(['one'], { cniVersion: '0.3.1' }), attachment, options)
  expect(await checking.catch(thrown => thrown)).toMatchObject({
    code: 1,
    message: 'configuration version "0.3.1" does not support the CHECK command',
  })
})

test('disableCheck makes CHECK succeed without a call', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  plugins.answer('one', 'CHECK', { code: 123, msg: 'eth0 is down' }, 1)
  await checkNetworkList(listOf(['one'], { disableCheck: true }), attachment, options)
  expect(plugins.order()).toEqual([])
})

test.each([
  {
    name: 'container ID',
    change: { containerId: '../../etc' },
    code: 4,
    message: 'invalid characters in containerID',
  },
  { name: 'empty container ID', change: { containerId: '' }, code: 3, message: 'missing containerID' },
  {
    name: 'interface name',
    change: { ifname: 'a/b' },
    code: 4,
    message: 'interface name contains / or : or whitespace characters',
  },
])('a bad $name is refused before any plugin runs', async ({ change, code, message }) => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  for (const operation of [addNetworkList, checkNetworkList, delNetworkList]) {
    const running: Promise<unknown> = operation(listOf(['one']), { ...attachment, ...change }, options)
    expect(await running.catch(thrown => thrown)).toMatchObject({ code, message })
  }
  expect(plugins.order()).toEqual([])
})

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

test('a single network is added, checked and deleted as a list of one, and its text is cached', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  const network = parseNetwork('{"cniVersion": "1.1.0",  "name": "net", "type": "one"}')
  const result = await addNetwork(network, attachment, options)
  expect(getCachedResult(network, attachment, options)).toEqual(result)
  expect(listAttachments({}, options)[0]?.configuration).toBe(network.text)
  await checkNetwork(network, attachment, options)
  await delNetwork(network, attachment, options)
  expect(plugins.order()).toEqual(['one ADD', 'one CHECK', 'one DEL'])
  expect(getCachedResult(network, attachment, options)).toBeUndefined()
})

test('each step is told when it has ended, with what the plugin wrote to standard error', async () => {
  using plugins = fakePlugins('one', 'two')
  using options = runtime(plugins)
  plugins.behave('one', 'ADD', `echo hm >&2; echo '{"cniVersion": "1.1.0"}'`)
  plugins.answer('two', 'ADD', { code: 7, msg: 'no' }, 1)
  const steps: Step[] = []
  const adding = addNetworkList(listOf(['one', 'two']), attachment, {
    ...options,
    onStep: step => steps.push(step),
  })
  await adding.catch(() => {})
  expect(steps).toEqual([
    { verb: 'ADD', plugin: 'one', stderr: 'hm\n', milliseconds: expect.any(Number) },
    {
      verb: 'ADD',
      plugin: 'two',
      stderr: '',
      milliseconds: expect.any(Number),
      error: expect.objectContaining({ code: 7, message: 'no' }),
    },
  ])
})

/** Starts a child of its own, notes both process IDs, and never ends. */
/** Lets go who reads a line from a pipe, now or when he comes to it: the line stays while somebody has the pipe open. */
function release(pipe: string): void {
  const descriptor = open(pipe, O_RDWR) // for writing alone it would be refused before he reads
  writeAll(descriptor, Buffer.from('\n'), pipe)
  pipes.push(descriptor)
}
const pipes: number[] = []
afterEach(() => {
  for (const descriptor of pipes.splice(0)) close(descriptor)
})

const HANGS = 'mkfifo "$home/never"; cat "$home/never" & echo "$$ $!" >>"$home/notes"; BEGUN wait'

function areGone(plugins: FakePlugins): boolean {
  const processes = plugins.notes().flatMap(line => line.split(' '))
  return processes.length === 2 && processes.every(id => !existsSync(`/proc/${id}/root/`))
}

test('a plugin that takes longer than its time is ended with all that it started', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  plugins.behave('one', 'ADD', HANGS.replace('BEGUN', ''))
  const adding = addNetworkList(listOf(['one']), attachment, { ...options, timeout: 300, undo: true })
  expect(await adding.catch(thrown => thrown)).toMatchObject({
    code: 999,
    message: 'plugin type="one" failed (add): netplugin did not end in time',
    details: '300 ms were over; it was killed with all that it had started',
  })
  expect(areGone(plugins)).toBe(true)
  expect(plugins.order()).toEqual(['one ADD', 'one DEL'])
})

test('a plugin whose child has left its process group and holds the pipes is not waited for', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  plugins.behave(
    'one',
    'ADD',
    'mkfifo "$home/never"; setsid bash -c \'read <"$0"\' "$home/never" & echo hm >&2; wait',
  )
  const adding = addNetworkList(listOf(['one']), attachment, { ...options, timeout: 300 })
  expect(await adding.catch(thrown => thrown)).toMatchObject({
    details: '300 ms were over; it was killed with all that it had started; it had said: hm',
  })
  release(`${plugins.path}/never`)
})

test("an aborted ADD ends the plugin with all that it started, takes back, and throws the caller's reason", async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  plugins.behave('one', 'ADD', HANGS.replace('BEGUN', 'echo >"$home/begun";'))
  await Bun.$`mkfifo ${plugins.path}/begun`
  const controller = new AbortController()
  const adding = addNetworkList(listOf(['one']), attachment, {
    ...options,
    signal: controller.signal,
    undo: true,
  })
  await Bun.file(`${plugins.path}/begun`).text()
  const reason = new Error('the pod is gone')
  controller.abort(reason)
  expect(await adding.catch(thrown => thrown)).toBe(reason)
  expect(areGone(plugins)).toBe(true)
  expect(plugins.order()).toEqual(['one ADD', 'one DEL'])
})

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
    letGo: () => release(`${plugins.path}/go`),
  }
}

test('ADD and DEL wait for GC on their network; other networks do not', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  await Bun.$`mkfifo ${plugins.path}/begun ${plugins.path}/go`
  const list = listOf(['one'])
  const { begun, letGo } = stopAt(plugins, 'GC')
  const collecting = gcNetworkList(list, [], options)
  await begun()
  const adding = addNetworkList(list, attachment, options)
  const deleting = delNetworkList(list, { ...attachment, containerId: 'container-2' }, options)
  await addNetworkList({ ...list, name: 'other' }, { ...attachment, containerId: 'container-3' }, options)
  expect(plugins.calls().map(({ verb, stdin }) => `${verb} ${stdin.name}`)).toEqual(['GC net', 'ADD other'])
  letGo()
  await Promise.all([collecting, adding, deleting])
  expect(plugins.order()).toHaveLength(4)
})

test('GC waits for an ADD in progress, and those that come after wait for GC', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  await Bun.$`mkfifo ${plugins.path}/begun ${plugins.path}/go`
  const list = listOf(['one'])
  const { begun, letGo } = stopAt(plugins, 'DEL')
  plugins.behave('one', 'GC', 'echo "GC ends" >>"$home/notes"')
  const deleting = delNetworkList(list, attachment, options)
  await begun()
  const collecting = gcNetworkList(list, [], options)
  const adding = addNetworkList(list, { ...attachment, containerId: 'container-2' }, options)
  await addNetworkList({ ...list, name: 'other' }, { ...attachment, containerId: 'container-3' }, options)
  expect(plugins.order()).toEqual(['one DEL', 'one ADD'])
  letGo()
  await Promise.all([deleting, collecting, adding])
  expect(plugins.order()).toEqual(['one DEL', 'one ADD', 'one GC', 'one ADD'])
  expect(plugins.notes()).toEqual(['DEL ends', 'GC ends'])
})

test('who waits for GC can give up', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  await Bun.$`mkfifo ${plugins.path}/begun ${plugins.path}/go`
  const { begun, letGo } = stopAt(plugins, 'GC')
  const collecting = gcNetworkList(listOf(['one']), [], options)
  await begun()
  const controller = new AbortController()
  const adding = addNetworkList(listOf(['one']), attachment, { ...options, signal: controller.signal })
  controller.abort(new Error('enough'))
  await expect(adding).rejects.toThrow('enough')
  letGo()
  await collecting
  expect(plugins.order()).toEqual(['one GC'])
})
