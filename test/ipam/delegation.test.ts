/** IPAM in this process and as a process of its own: the same bytes, and an ADD that fails later gives the address back in both. */
import { expect, test } from 'bun:test'
import * as z from 'zod/mini'
import { definePlugin } from '../../chain/plugin/define.ts'
import { allocate } from '../../chain/plugin/delegate.ts'
import { hostLocal } from '../../ipam/host-local.ts'
import { staticAddresses } from '../../ipam/static.ts'
import { type Call, call, ours, peers } from '../fixtures/plugin.ts'
import { dataFolder, reservations, tree } from './host-local/fixture.ts'

/** A main plugin that takes addresses, and then succeeds or not. */
const taker = definePlugin({
  name: 'taker',
  config: z.object({ ipam: z.object({ type: z.string() }), fails: z.optional(z.boolean()) }),
  async add({ delegate, config, undo }) {
    const result = await allocate({ delegate, undo }, config.ipam.type)
    if (config.fails) throw new Error('the link was refused')
    return result
  },
  check() {},
  del: ({ delegate, config }) => delegate.del(config.ipam.type),
})

const places: [string, Call][] = [
  ['in this process', { delegates: [hostLocal, staticAddresses] }],
  ['as a process', { path: ours }],
  ['as the Go plugin', { path: peers }],
]

const addresses = [{ address: '10.1.0.5/16', gateway: '10.1.0.1' }]
const ranges = [[{ subnet: '10.1.2.0/24' }], [{ subnet: 'fd00::/64' }]]

test.each([
  ['host-local', { ranges, routes: [{ dst: '0.0.0.0/0' }] }],
  ['static', { addresses, dns: { nameservers: ['10.1.0.1'] } }],
])('%s gives the same bytes in this process, as a process, and as the Go plugin', async (type, ipam) => {
  const outputs: object[] = []
  for (const [, place] of places) {
    using folder = dataFolder()
    const config = { ipam: { type, dataDir: folder.path, ...ipam } }
    const { status, stdout } = await call(taker, 'ADD', { ...place, config, netns: '/run/netns/none' })
    outputs.push({ status, stdout, files: tree(folder.path) })
  }
  expect(outputs).toEqual([outputs[0], outputs[0], outputs[0]] as object[])
  expect(outputs[0]).toMatchObject({ status: 0 })
})

test.each(places)(
  'an ADD that fails after the address was taken gives it back: host-local %s',
  async (_, place) => {
    using folder = dataFolder()
    const config = { ipam: { type: 'host-local', dataDir: folder.path, ranges }, fails: true }
    const { status, json } = await call(taker, 'ADD', { ...place, config, netns: '/run/netns/none' })
    expect({ status, msg: json.msg }).toEqual({ status: 1, msg: 'the link was refused' })
    expect(reservations(folder.path)).toEqual({})
  },
)
