import { expect, test } from 'bun:test'
import { PENDING } from '../../chain/interface/create.ts'
import {
  close,
  control,
  O_RDWR,
  open,
  readInto,
  waitReadable,
  writeAll,
} from '../../chain/linux/libc/file.ts'
import { removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { createTap } from '../../chain/linux/tun.ts'
import { tap } from '../../main/tap.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { call, mustCall, mustExecute, peerExecutable } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'
import { callsWithHostLocal, dualStackPool } from './support.ts'

const callFor = callsWithHostLocal('tap')

const isLasting = (line: string) => !line.includes('/last_reserved_ip.')
const leftSince = (before: string[]) => difference(before.filter(isLasting), snapshot().filter(isLasting))
const linkNames = (container: Namespace) => container.links().map(({ name }) => name)

/** What ip(8) says of a device's kind: flags and owners. */
function tunData(container: Namespace, name = 'eth0') {
  const [link] = JSON.parse(container.run('ip', '-d', '-j', 'link', 'show', name))
  return link.linkinfo.info_data
}

/** The program at the other end: a virtual machine's network card, as frames. */
function attach(container: Namespace, flags = 0) {
  const descriptor = container.inside(() => open('/dev/net/tun', O_RDWR))
  const request = new Uint8Array(40)
  request.set(Buffer.from('eth0'))
  new DataView(request.buffer).setUint16(16, 0x1002 | flags, true) // IFF_TAP | IFF_NO_PI
  control(descriptor, { request: 0x400454ca, argument: request }, 'attach to eth0') // TUNSETIFF
  return {
    /** Sends a frame until one comes that is wanted: the kernel drops what it answers before it has seen the carrier. */
    ask(frame: Uint8Array, isWanted: (answer: Uint8Array) => boolean): Uint8Array {
      const buffer = new Uint8Array(2048)
      for (let attempt = 0; attempt < 50; attempt++) {
        writeAll(descriptor, frame)
        while (waitReadable(descriptor, 100)) {
          const answer = buffer.slice(0, readInto(descriptor, buffer))
          if (isWanted(answer)) return answer
        }
      }
      throw new Error('no such frame came')
    },
    [Symbol.dispose]: () => close(descriptor),
  }
}

const bytesOf = (mac: string) => Buffer.from(mac.replaceAll(':', ''), 'hex')
const ARP = Buffer.from('08060001080006040001', 'hex') // a request over Ethernet for IPv4
const isReply = (frame: Uint8Array) =>
  Buffer.from(frame.subarray(12, 22))
    .toString('hex')
    .endsWith('0604' + '0002')

test('a program at the other end of the device talks to the container', async () => {
  using container = freshNamespace()
  const result = await mustCall(tap, 'ADD', callFor(container, { dns: { domain: 'example.org' } }))
  const mac = container.link('eth0').address
  expect(result).toEqual({
    cniVersion: '1.1.0',
    interfaces: [{ name: 'eth0', mac, sandbox: container.path }],
    ips: [
      { address: '10.1.0.2/24', gateway: '10.1.0.1', interface: 0 },
      { address: 'fd00:1::2/64', gateway: 'fd00:1::1', interface: 0 },
    ],
    dns: { domain: 'example.org' },
  })
  using machine = attach(container)
  const own = bytesOf('02:00:00:00:00:09')
  const [sender, target] = [Buffer.from([10, 1, 0, 9]), Buffer.from([10, 1, 0, 2])]
  const everybody = Buffer.alloc(6, 0xff)
  const question = [everybody, own, ARP, own, sender, Buffer.alloc(6), target, Buffer.alloc(18)]
  const answer = machine.ask(Buffer.concat(question), isReply)
  expect(Buffer.from(answer.subarray(22, 32))).toEqual(Buffer.concat([bytesOf(mac), target]))
  await mustCall(tap, 'DEL', callFor(container))
})

const bothSet = { owner: 123456, group: 123457 }

test.each([
  { name: 'nothing is configured', config: {}, data: { multi_queue: false, vnet_hdr: false } },
  { name: 'multiQueue', config: { multiQueue: true }, data: { multi_queue: true, vnet_hdr: false } },
  { name: 'owner alone', config: { owner: 123456 }, data: { user: 123456, vnet_hdr: false } },
  { name: 'group alone', config: { group: 123457 }, data: { group: 123457, vnet_hdr: false } },
  { name: 'owner root', config: { owner: 0 }, data: { user: 'root', vnet_hdr: false } },
  { name: 'owner and group', config: bothSet, data: { user: 123456, group: 123457, vnet_hdr: true } },
  {
    name: 'owner, group and multiQueue',
    config: { ...bothSet, multiQueue: true },
    data: { user: 123456, group: 123457, vnet_hdr: true, multi_queue: true },
  },
])('the device is what the configuration says: $name', async ({ config, data }) => {
  using container = freshNamespace()
  const whole = { ...config, ipam: undefined, mtu: 1400, mac: '02:00:00:00:00:42' }
  const result = await mustCall(tap, 'ADD', callFor(container, whole))
  expect(result.interfaces).toEqual([{ name: 'eth0', mac: '02:00:00:00:00:42', sandbox: container.path }])
  expect(tunData(container)).toMatchObject({ type: 'tap', pi: false, persist: true, ...data })
  expect(container.link('eth0')).toMatchObject({
    up: true,
    mtu: 1400,
    address: '02:00:00:00:00:42',
    group: 0,
  })
})

test.each([
  { place: 'mac', args: '', runtime: undefined, expected: '02:00:00:00:00:01' },
  { place: 'CNI_ARGS', args: 'MAC=02:00:00:00:00:02', runtime: undefined, expected: '02:00:00:00:00:02' },
  {
    place: 'runtimeConfig.mac',
    args: 'MAC=02:00:00:00:00:02',
    runtime: { mac: '02:00:00:00:00:03' },
    expected: '02:00:00:00:00:03',
  },
])('the hardware address is that of $place', async ({ args, runtime, expected }) => {
  using container = freshNamespace()
  const config = { ipam: undefined, mac: '02:00:00:00:00:01', runtimeConfig: runtime }
  await mustCall(tap, 'ADD', callFor(container, config, { args }))
  expect(container.link('eth0').address).toBe(expected)
})

test('the device is put on a bridge of the container', async () => {
  using container = freshNamespace()
  const bridge = container.createLink({ name: 'br0', kind: { type: 'bridge' } })
  await mustCall(tap, 'ADD', callFor(container, { ipam: undefined, bridge: 'br0' }))
  expect(container.link('eth0').master).toBe(bridge.index)
})

test.each([
  {
    name: 'a bridge that is not there',
    config: { bridge: 'br0' },
    msg: 'bridge: failed to get bridge br0: Link not found: the container has no bridge of that name',
  },
  {
    name: 'a bridge that is none',
    config: { bridge: 'lo' },
    msg: 'bridge: failed to get bridge lo: Link not found: the container has no bridge of that name',
  },
  { name: 'a negative owner', config: { owner: -1 }, msg: /^owner: / },
  {
    name: 'a hardware address that is none',
    config: { mac: 'xx' },
    msg: /^mac: invalid args xx for MAC addr: address xx: invalid MAC address/,
  },
  {
    name: 'a label without SELinux',
    config: { selinuxContext: 'nonsense' },
    msg: 'selinuxContext: could not be taken on: got "nonsense"',
  },
])('$name is refused by its key, and nothing is left', async ({ config, msg }) => {
  using container = freshNamespace()
  const before = snapshot()
  const { json } = await call(tap, 'ADD', callFor(container, config))
  expect(json).toMatchObject({ code: 7, msg: typeof msg === 'string' ? msg : expect.stringMatching(msg) })
  expect(linkNames(container)).toEqual(['lo'])
  expect(leftSince(before)).toEqual({ added: [], gone: [] })
})

test.each([
  { name: 'an MTU that the kernel refuses', config: { mtu: 20 } },
  { name: 'a hardware address that the kernel refuses', config: { mac: '01:00:00:00:00:01' } },
  {
    name: 'a route',
    config: { ipam: { ...dualStackPool, routes: [{ dst: '10.9.0.0/16', gw: '10.77.0.1' }] } },
  },
  { name: 'an IPAM plugin that is not there', config: { ipam: { type: 'absent' } } },
])('an ADD that fails with $name leaves nothing', async ({ config }) => {
  using container = freshNamespace()
  const before = snapshot()
  const { status, json } = await call(tap, 'ADD', callFor(container, config))
  expect(status).toBe(1)
  expect(json.details ?? '').not.toContain('could not')
  expect(linkNames(container)).toEqual(['lo'])
  expect(leftSince(before)).toEqual({ added: [], gone: [] })
})

test('a second ADD is refused and leaves the live attachment alone', async () => {
  using container = freshNamespace()
  const prevResult = await mustCall(tap, 'ADD', callFor(container))
  const { json } = await call(tap, 'ADD', callFor(container))
  expect(json.msg).toBe(`interface eth0 already exists in ${container.path}`)
  expect(linkNames(container)).toEqual(['lo', 'eth0'])
  await mustCall(tap, 'CHECK', callFor(container, { prevResult }))
  await mustCall(tap, 'DEL', callFor(container))
})

test('what a killed ADD left is cleared away by the next one', async () => {
  using container = freshNamespace()
  container.inside(() =>
    createTap({ name: 'eth0', multiQueue: true, virtioHeader: false }, () =>
      setLink(container.route, 'eth0', { group: PENDING }),
    ),
  )
  await mustCall(tap, 'ADD', callFor(container))
  expect(tunData(container).multi_queue).toBe(false)
  await mustCall(tap, 'DEL', callFor(container))
})

test.each<{ name: string; config?: object; break: (container: Namespace) => void; msg: RegExp }>([
  {
    name: 'an address is gone',
    break: container => container.run('ip', 'address', 'delete', '10.1.0.2/24', 'dev', 'eth0'),
    msg: /Failed to match addr 10.1.0.2\/24 on interface eth0/,
  },
  {
    name: 'the link is down',
    break: ({ route }) => setLink(route, 'eth0', { up: false }),
    msg: /Interface eth0 is down|on interface eth0/,
  },
  { name: 'the link is gone', break: ({ route }) => void removeLink(route, 'eth0'), msg: /eth0 is not in/ },
  {
    name: 'the hardware address is another',
    break: ({ route }) => setLink(route, 'eth0', { address: '02:00:00:00:00:77' }),
    msg: /doesn't match container Mac: 02:00:00:00:00:77/,
  },
  {
    name: 'the MTU is another',
    config: { mtu: 1400 },
    break: ({ route }) => setLink(route, 'eth0', { mtu: 1399 }),
    msg: /MTU 1399, not 1400/,
  },
  {
    name: 'the link is of another kind',
    break: container => {
      const { address } = container.link('eth0')
      removeLink(container.route, 'eth0')
      container.createLink({ name: 'eth0', kind: { type: 'bridge' }, address })
    },
    msg: /not of type tun: it is a bridge/,
  },
  {
    name: 'the bridge has lost it',
    config: { bridge: 'br0' },
    break: ({ route }) => setLink(route, 'eth0', { master: 0 }),
    msg: /eth0 is not on bridge br0/,
  },
])('CHECK agrees with ADD, and not when $name', async ({ config, break: breakIt, msg }) => {
  using container = freshNamespace()
  container.createLink({ name: 'br0', kind: { type: 'bridge' } })
  const prevResult = await mustCall(tap, 'ADD', callFor(container, config))
  await mustCall(tap, 'CHECK', callFor(container, { ...config, prevResult }))
  breakIt(container)
  const { json } = await call(tap, 'CHECK', callFor(container, { ...config, prevResult }))
  expect(json.msg).toMatch(msg)
  await mustCall(tap, 'DEL', callFor(container))
})

test('DEL leaves nothing, can be repeated, and needs no netns', async () => {
  using container = freshNamespace()
  const before = snapshot()
  await mustCall(tap, 'DEL', callFor(container))
  for (const netns of [container, undefined, '/run/netns/gone']) {
    await mustCall(tap, 'ADD', callFor(container))
    await mustCall(tap, 'DEL', callFor(container, {}, { netns }))
    await mustCall(tap, 'DEL', callFor(container, {}, { netns }))
    expect(leftSince(before)).toEqual({ added: [], gone: [] })
    if (netns !== container) removeLink(container.route, 'eth0')
    expect(linkNames(container)).toEqual(['lo'])
  }
})

test('STATUS is success where the kernel has the device, and the IPAM plugin’s', async () => {
  using container = freshNamespace()
  expect(await call(tap, 'STATUS', callFor(container, { ipam: undefined }))).toMatchObject({ status: 0 })
  const absent = await call(tap, 'STATUS', callFor(container, { ipam: { type: 'absent' } }))
  expect(absent.json.msg).toContain('absent')
})

test('what the Go plugin has made is checked and deleted by ours, and the other way round', async () => {
  using container = freshNamespace()
  const go = peerExecutable('tap')
  const config = { ...bothSet, ipam: undefined }
  const theirs = mustExecute(go, 'ADD', callFor(container, config))
  await mustCall(tap, 'CHECK', callFor(container, { ...config, prevResult: theirs }))
  const data = tunData(container)
  await mustCall(tap, 'DEL', callFor(container, config))
  const ours = await mustCall(tap, 'ADD', callFor(container, config))
  expect(tunData(container)).toEqual({ ...data, pi: false }) // theirs asks for packet information: no emulator does
  mustExecute(go, 'CHECK', callFor(container, { ...config, prevResult: ours }))
  mustExecute(go, 'DEL', callFor(container, config))
  expect(linkNames(container)).toEqual(['lo'])
})
