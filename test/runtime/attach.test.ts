/** A list run forwards and backwards over an attachment: the specification's section 3, and libcni's habits. */
import { expect, test } from 'bun:test'
import {
  addNetworkList,
  checkNetworkList,
  delNetworkList,
  listAttachments,
} from '../../chain/runtime/network.ts'
import { fakePlugins } from '../fixtures/fake.ts'
import { freshNamespace } from '../fixtures/namespace.ts'
import { attachment, listOf, runtime } from '../fixtures/runtime.ts'

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
