/** What a configuration of macvlan makes of the link, and what is refused. */
import { expect, test } from 'bun:test'
import { setLink } from '../../../chain/linux/netlink/link.ts'
import { macvlan } from '../../../main/macvlan.ts'
import { freshNamespace } from '../../fixtures/namespace.ts'
import { call } from '../../fixtures/plugin.ts'
import { attach, callsOf, dualStack, ipamWith, nothing, watch, wiredHost } from '../support.ts'

const callFor = callsOf({ type: 'macvlan' })

const [inConfiguration, inArguments, inRuntime] = [
  '02:00:00:00:00:01',
  '02:00:00:00:00:02',
  '02:00:00:00:00:03',
]

test.each([
  { name: 'the configuration', config: { mac: inConfiguration }, args: undefined, mac: inConfiguration },
  {
    name: 'CNI_ARGS before it',
    config: { mac: inConfiguration },
    args: `MAC=${inArguments}`,
    mac: inArguments,
  },
  {
    name: 'the runtime before both',
    config: { mac: inConfiguration, runtimeConfig: { mac: inRuntime } },
    args: `IgnoreUnknown=1;K8S_POD_NAME=one;MAC=${inArguments}`,
    mac: inRuntime,
  },
])('the hardware address comes from $name', async ({ config, args, mac }) => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  const request = callFor(container, undefined, { master: wired.master, ...config }, args ? { args } : {})
  await using attachment = await attach(macvlan, request)
  expect([container.link('eth0').address, attachment.result.interfaces[0].mac]).toEqual([mac, mac])
})

test.each([
  { name: 'inherited from the master', mtu: 0, seen: 1400 },
  { name: 'below the master’s', mtu: 1300, seen: 1300 },
  { name: 'the master’s own', mtu: 1400, seen: 1400 },
])('an MTU $name', async ({ mtu, seen }) => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  setLink(wired.host.route, wired.master, { mtu: 1400 })
  await using _attachment = await attach(
    macvlan,
    callFor(container, undefined, { master: wired.master, mtu }),
  )
  expect(container.link('eth0').mtu).toBe(seen)
})

test.each([
  {
    name: 'a master that is not there',
    config: { master: 'none0' },
    code: 7,
    msg: 'master: failed to lookup master "none0": Link not found',
  },
  {
    name: 'no master and no default route',
    config: { master: undefined },
    code: 7,
    msg: 'master: no default route interface found',
  },
  {
    name: 'a master that is not in the container',
    config: { linkInContainer: true },
    code: 7,
    msg: 'master: failed to lookup master',
  },
  {
    name: 'an MTU above the master’s',
    config: { mtu: 1501 },
    code: 7,
    msg: 'mtu: invalid MTU 1501, must be [0, master MTU(1500)]',
  },
  {
    name: 'a negative MTU',
    config: { mtu: -1 },
    code: 7,
    msg: 'mtu: invalid MTU -1, must be [0, master MTU(1500)]',
  },
  { name: 'an unknown mode', config: { mode: 'l2' }, code: 7, msg: 'mode: unknown macvlan mode: "l2"' },
  {
    name: 'a mode that is a method of objects',
    config: { mode: 'toString' },
    code: 7,
    msg: 'mode: unknown macvlan mode: "toString"',
  },
  {
    name: 'a hardware address that is none',
    config: { mac: '02:00' },
    code: 7,
    msg: 'mac: invalid args 02:00 for MAC addr: address 02:00: invalid MAC address: must be a hardware address of six bytes',
  },
  {
    name: 'one that is none from the runtime',
    config: { runtimeConfig: { mac: 'x' } },
    code: 7,
    msg: 'runtimeConfig.mac: invalid args x for MAC addr',
  },
  {
    name: 'a hardware address that the kernel refuses',
    config: { mac: '01:00:00:00:00:01' },
    code: 999,
    msg: 'create macvlan eth0',
  },
  {
    name: 'a queue below 0',
    config: { bcqueuelen: -1 },
    code: 7,
    msg: 'bcqueuelen: must be at least 0: got -1',
  },
])('$name is refused by its key, and nothing is left', async ({ config, code, msg }) => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  const before = watch(container)
  const { json } = await call(macvlan, 'ADD', callFor(container, pool, { master: wired.master, ...config }))
  expect(json).toMatchObject({ code, msg: expect.stringContaining(msg) })
  expect({ ...before.left(), calls: pool.calls }).toEqual({ ...nothing, calls: [] })
})

test.each([
  { name: 'the IPAM plugin fails', pool: () => ipamWith(dualStack, ['ADD']), code: 50, msg: 'ADD refused' },
  {
    name: 'it gives no address',
    pool: () => ipamWith({}),
    code: 999,
    msg: 'IPAM plugin returned missing IP config',
  },
  {
    name: 'its route leads nowhere',
    pool: () => ipamWith({ ...dualStack, routes: [{ dst: '10.9.0.0/16', gw: '10.8.0.1' }] }),
    code: 999,
    msg: 'add route 10.9.0.0/16 via 10.8.0.1',
  },
])('$name: ADD fails and leaves nothing', async ({ pool: make, code, msg }) => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  const pool = make()
  const before = watch(container)
  const { json } = await call(macvlan, 'ADD', callFor(container, pool, { master: wired.master }))
  expect(json).toMatchObject({ code, msg: expect.stringContaining(msg) })
  expect({ ...before.left(), held: pool.held.size }).toEqual({ ...nothing, held: 0 })
})
