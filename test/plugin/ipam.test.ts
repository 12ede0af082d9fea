/** The plugin that gives addresses, as the one that makes the interface sees it. */
import { expect, test } from 'bun:test'
import { delegateFor } from '../../chain/plugin/delegate.ts'
import { ipamOf, missingIpam, noIpam } from '../../chain/plugin/ipam.ts'
import { allOrNothing } from '../../chain/plugin/undo.ts'
import { type FakePlugins, fakePlugins } from '../fixtures/fake.ts'
import { silentIo } from '../fixtures/io.ts'

function delegateOf({ path }: FakePlugins) {
  return delegateFor({
    io: silentIo({ PATH: process.env.PATH }),
    path: [path],
    stdin: '{}',
    cniVersion: '1.1.0',
  })
}

const config = { ipam: { type: 'pool' } }

test.each([undefined, {}, { ipam: {} }, { ipam: { type: '' } }])(
  'a configuration that is %j asks no plugin, and gets no addresses',
  async silent => {
    using plugins = fakePlugins('pool')
    const ipam = ipamOf(silent, delegateOf(plugins))
    expect(ipam).toBe(noIpam)
    expect(await allOrNothing(undo => ipam.add(undo))).toEqual({
      interfaces: [],
      ips: [],
      routes: [],
      dns: {},
    })
    for (const verb of ['check', 'remove', 'status', 'gc'] as const) await ipam[verb]()
    expect(plugins.order()).toEqual([])
  },
)

test('each verb is the plugin’s verb of that meaning', async () => {
  using plugins = fakePlugins('pool')
  const ipam = ipamOf(config, delegateOf(plugins))
  expect(ipam.type).toBe('pool')
  for (const verb of ['check', 'remove', 'status', 'gc'] as const) await ipam[verb]()
  expect(plugins.order()).toEqual(['pool CHECK', 'pool DEL', 'pool STATUS', 'pool GC'])
})

test('addresses are given back by an ADD that fails later, and kept by one that does not', async () => {
  using plugins = fakePlugins('pool')
  const ipam = ipamOf(config, delegateOf(plugins))
  expect(await allOrNothing(undo => ipam.add(undo))).toMatchObject({ ips: [{ address: '10.1.0.2/16' }] })
  const failing = allOrNothing(async undo => {
    await ipam.add(undo)
    throw new Error('the link was refused')
  })
  await expect(failing).rejects.toThrow('the link was refused')
  expect(plugins.order()).toEqual(['pool ADD', 'pool ADD', 'pool DEL'])
})

test('what was taken without an address that could be used is given back', async () => {
  using plugins = fakePlugins('pool')
  plugins.answer('pool', 'ADD', { cniVersion: '1.1.0', routes: [{ dst: '0.0.0.0/0' }] })
  const failing = allOrNothing(undo => ipamOf(config, delegateOf(plugins)).add(undo))
  await expect(failing).rejects.toMatchObject({
    code: 999,
    message: 'IPAM plugin returned missing IP config',
    details: 'ipam.type: pool',
  })
  expect(plugins.order()).toEqual(['pool ADD', 'pool DEL'])
})

test('that it cannot be given back stands beside the reason, and does not hide it', async () => {
  using plugins = fakePlugins('pool')
  plugins.behave('pool', 'ADD', 'kill -KILL $$')
  plugins.answer('pool', 'DEL', { code: 999, msg: 'the disk is full' }, 1)
  await expect(allOrNothing(undo => ipamOf(config, delegateOf(plugins)).add(undo))).rejects.toMatchObject({
    message: 'plugin pool: netplugin failed with no error message: signal: SIGKILL',
    details: 'could not release the addresses: the disk is full',
  })
})

test('who needs addresses and is given no plugin says which key is missing', () => {
  expect(missingIpam('macvlan')).toMatchObject({
    code: 7,
    message: 'ipam.type: no plugin name provided: macvlan interface requires an IPAM configuration',
  })
})
