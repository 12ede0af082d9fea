/** What a killed ADD had in packet filters goes with its interface: its address may be another container's by the next day. */
import { afterAll, expect, test } from 'bun:test'
import { PENDING } from '../../chain/interface/create.ts'
import { setLink } from '../../chain/linux/netlink/link.ts'
import { bridge } from '../../main/bridge.ts'
import { ptp } from '../../main/ptp.ts'
import { elements, removeBridges } from '../fixtures/bridge.ts'
import { freshNamespace, hostNamespace } from '../fixtures/namespace.ts'
import { mustCall } from '../fixtures/plugin.ts'
import { ipam, ipamWith } from './support.ts'

afterAll(removeBridges)

const addressed = (last: number) =>
  ipamWith({ ips: [{ address: `10.1.0.${last}/24`, gateway: '10.1.0.1' }], routes: [{ dst: '0.0.0.0/0' }] })
    .plugin

test.each([
  { plugin: bridge, name: 'bridge', hostEnd: 1, config: { bridge: 'killed0' } },
  { plugin: ptp, name: 'ptp', hostEnd: 0, config: {} },
])('$name: who gets the address of a killed ADD takes nothing away from its retry', async row => {
  const { plugin, hostEnd } = row
  using host = hostNamespace()
  using container = freshNamespace()
  using neighbour = freshNamespace()
  const config = { ...row.config, ipMasq: true, ipMasqBackend: 'nftables', ipam }
  const callWith = (last: number, netns = container) => ({
    netns,
    containerId: netns.name,
    delegates: [addressed(last)],
    config,
  })
  const killed = await mustCall(plugin, 'ADD', callWith(2))
  setLink(host.route, killed.interfaces[hostEnd].name, { alias: '', group: PENDING }) // as it is until the last step
  const prevResult = await mustCall(plugin, 'ADD', callWith(3))
  expect(elements().filter(element => element.includes('10.1.0.2'))).toEqual([])
  await mustCall(plugin, 'ADD', callWith(2, neighbour))
  await mustCall(plugin, 'CHECK', { ...callWith(3), config: { ...config, prevResult } })
  for (const each of [container, neighbour]) await mustCall(plugin, 'DEL', callWith(3, each))
  expect(elements()).toEqual([])
})
