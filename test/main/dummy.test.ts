import { expect, test } from 'bun:test'
import { removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { dummy } from '../../main/dummy.ts'
import { getHttp, serveHttp } from '../fixtures/http.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { call, mustCall } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'
import { testOn } from '../kernel/features.ts'
import { callsWithHostLocal, dualStackPool } from './support.ts'

const callFor = callsWithHostLocal('dummy')

const isLasting = (line: string) => !line.includes('/last_reserved_ip.')
const leftSince = (before: string[]) => difference(before.filter(isLasting), snapshot().filter(isLasting))

testOn(['dummy'], 'a container serves on the addresses of its dummy, over IPv4 and IPv6', async () => {
  using container = freshNamespace()
  const config = { dns: { domain: 'not.used' } }
  const result = await mustCall(dummy, 'ADD', callFor(container, config))
  const mac = container.link('eth0').address
  expect(result).toEqual({
    cniVersion: '1.1.0',
    interfaces: [{ name: 'eth0', mac, sandbox: container.path }],
    ips: [
      { address: '10.1.0.2/24', gateway: '10.1.0.1', interface: 0 },
      { address: 'fd00:1::2/64', gateway: 'fd00:1::1', interface: 0 },
    ],
  })
  expect(container.link('eth0')).toMatchObject({ kind: 'dummy', up: true, group: 0 })
  using _server = serveHttp(container, { port: 80 })
  for (const address of ['10.1.0.2', 'fd00:1::2']) {
    expect(await getHttp(container, { address, port: 80 })).toBe(address)
  }
  await mustCall(dummy, 'DEL', callFor(container))
})

testOn(['dummy'], 'DEL leaves nothing, can be repeated, and needs no netns', async () => {
  using container = freshNamespace()
  const before = snapshot()
  await mustCall(dummy, 'DEL', callFor(container))
  for (const netns of [container, undefined, '/run/netns/gone']) {
    await mustCall(dummy, 'ADD', callFor(container))
    await mustCall(dummy, 'DEL', callFor(container, {}, { netns }))
    await mustCall(dummy, 'DEL', callFor(container, {}, { netns }))
    expect(leftSince(before)).toEqual({ added: [], gone: [] })
    if (netns !== container) removeLink(container.route, 'eth0')
    expect(container.links().map(({ name }) => name)).toEqual(['lo'])
  }
})

testOn(['dummy'], 'CHECK agrees with ADD, and tells what was broken since', async () => {
  const breakages: [(container: Namespace) => void, RegExp][] = [
    [
      container => container.run('ip', 'address', 'delete', '10.1.0.2/24', 'dev', 'eth0'),
      /Failed to match addr 10.1.0.2\/24 on interface eth0/,
    ],
    [({ route }) => setLink(route, 'eth0', { up: false }), /Interface eth0 is down|on interface eth0/],
    [
      ({ route }) => setLink(route, 'eth0', { address: '02:00:00:00:00:77' }),
      /container Mac: 02:00:00:00:00:77/,
    ],
    [({ route }) => void removeLink(route, 'eth0'), /interface eth0 is not in/],
    [
      container => {
        const { address } = container.link('eth0')
        removeLink(container.route, 'eth0')
        container.createLink({ name: 'eth0', kind: { type: 'bridge' }, address })
      },
      /not of type dummy: it is a bridge/,
    ],
  ]
  for (const [breakIt, msg] of breakages) {
    using container = freshNamespace()
    const prevResult = await mustCall(dummy, 'ADD', callFor(container))
    await mustCall(dummy, 'CHECK', callFor(container, { prevResult }))
    breakIt(container)
    const { json } = await call(dummy, 'CHECK', callFor(container, { prevResult }))
    expect(json).toMatchObject({ code: 999, msg: expect.stringMatching(msg) })
    await mustCall(dummy, 'DEL', callFor(container))
  }
})

testOn(['dummy'], 'an ADD that fails with a route leaves neither interface nor address', async () => {
  using container = freshNamespace()
  const before = snapshot()
  const config = { ipam: { ...dualStackPool, routes: [{ dst: '10.9.0.0/16', gw: '10.77.0.1' }] } }
  const { json } = await call(dummy, 'ADD', callFor(container, config))
  expect(json.msg).toContain('10.9.0.0/16')
  expect(json.details ?? '').not.toContain('could not')
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
  expect(leftSince(before)).toEqual({ added: [], gone: [] })
})

testOn(['dummy'], 'a second ADD is refused and leaves the live attachment alone', async () => {
  using container = freshNamespace()
  const prevResult = await mustCall(dummy, 'ADD', callFor(container))
  const { json } = await call(dummy, 'ADD', callFor(container))
  expect(json.msg).toBe(`interface eth0 already exists in ${container.path}`)
  await mustCall(dummy, 'CHECK', callFor(container, { prevResult }))
  await mustCall(dummy, 'DEL', callFor(container))
})

testOn(['dummy'], 'STATUS is the IPAM plugin’s where the kernel has dummies', async () => {
  using container = freshNamespace()
  expect(await call(dummy, 'STATUS', callFor(container))).toMatchObject({ status: 0 })
})

test('without an IPAM plugin ADD and CHECK are refused by the key, and DEL is not', async () => {
  using container = freshNamespace()
  const config = { ipam: undefined }
  for (const verb of ['ADD', 'CHECK'] as const) {
    const { json } = await call(dummy, verb, callFor(container, { ...config, prevResult: {} }))
    expect(json).toMatchObject({
      code: 7,
      msg: 'ipam.type: no plugin name provided: dummy interface requires an IPAM configuration',
    })
  }
  await mustCall(dummy, 'DEL', callFor(container, config))
})
