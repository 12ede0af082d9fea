import { expect, test } from 'bun:test'
import { mkdirSync, symlinkSync } from 'node:fs'
import { removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { listRoutes, removeRoute } from '../../chain/linux/netlink/route.ts'
import { hostLocal } from '../../ipam/host-local.ts'
import { isSelectedElsewhere, selectionOf } from '../../main/host-device/device.ts'
import { hostDevice } from '../../main/host-device.ts'
import { getHttp, serveHttp } from '../fixtures/http.ts'
import { connect, freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { type Call, call, mustCall, mustExecute, peerExecutable } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'

const ipam = {
  type: 'host-local',
  ranges: [[{ subnet: '10.1.0.0/24', rangeStart: '10.1.0.5' }], [{ subnet: 'fd00:1::/64' }]],
  routes: [{ dst: '0.0.0.0/0' }],
}

const nothingSelected = { device: '', hwaddr: '', kernelpath: '', pciBusID: '', DPDKMode: false }

let devices = 0

/** A device of the host, with a neighbour at the other end of its cable, and a container that is to have it. */
function wired() {
  const host = hostNamespace()
  const container = freshNamespace('container')
  const neighbour = freshNamespace('neighbour')
  const device = `nic${++devices}`
  const name = `net-${process.pid}-${device}`
  connect(
    { namespace: host, name: device },
    { namespace: neighbour, name: 'eth0', addresses: ['10.1.0.1/24', 'fd00:1::1/64'] },
  )
  const callFor = (config: object = {}, more: Partial<Call> = {}): Call => ({
    netns: container,
    delegates: [hostLocal],
    containerId: container.name,
    ...more,
    config: { name, type: 'host-device', device, ipam, ...config },
  })
  return {
    host,
    container,
    neighbour,
    device,
    callFor,
    add: (config?: object) => mustCall(hostDevice, 'ADD', callFor(config)),
    /** CHECK with the result of ADD. */
    check: (prevResult: object, config: object = {}) =>
      call(hostDevice, 'CHECK', callFor({ ...config, prevResult })),
    del: (config?: object, more?: Partial<Call>) => mustCall(hostDevice, 'DEL', callFor(config, more)),
    [Symbol.dispose]() {
      neighbour.inside(() => removeLink(neighbour.route, 'eth0'))
      for (const each of [host, container, neighbour]) each[Symbol.dispose]()
    },
  }
}

/** What is left of an attachment, but for host-local's memory of the last address. */
function leftSince(before: string[]) {
  const isLasting = (line: string) =>
    !line.includes('/last_reserved_ip.') && !line.startsWith('qdisc noqueue') // goes with the state up
  return difference(before.filter(isLasting), snapshot().filter(isLasting))
}

test('a container talks to the neighbours of the device, over IPv4 and IPv6', async () => {
  using net = wired()
  const mac = net.host.link(net.device).address
  const result = await net.add({ dns: { nameservers: ['10.1.0.53'] } })
  expect(result).toEqual({
    cniVersion: '1.1.0',
    interfaces: [{ name: 'eth0', mac, sandbox: net.container.path }],
    ips: [
      { address: '10.1.0.5/24', gateway: '10.1.0.1', interface: 0 },
      { address: 'fd00:1::2/64', gateway: 'fd00:1::1', interface: 0 },
    ],
    routes: [{ dst: '0.0.0.0/0' }],
    dns: { nameservers: ['10.1.0.53'] },
  })
  using _server = serveHttp(net.neighbour, { port: 80 })
  expect(await getHttp(net.container, { address: '10.1.0.1', port: 80 })).toBe('10.1.0.5')
  expect(await getHttp(net.container, { address: 'fd00:1::1', port: 80 })).toBe('fd00:1::2')
  await net.del()
})

test('after DEL the device is on the host again, under its name, down, without alias, and nothing is left', async () => {
  using net = wired()
  setLink(net.host.route, net.device, { up: false })
  const before = snapshot()
  await net.add()
  expect(net.host.links().some(({ name }) => name === net.device)).toBe(false)
  expect(net.container.link('eth0').alias).toBe(net.device)
  await net.del()
  expect(leftSince(before)).toEqual({ added: [], gone: [] })
  expect(net.host.link(net.device)).toMatchObject({ up: false })
  expect(net.container.links().map(({ name }) => name)).toEqual(['lo'])
})

test('a host that has a link of the container’s name is no obstacle, neither there nor back', async () => {
  using net = wired()
  net.host.createLink({ name: 'eth0', kind: { type: 'bridge' } })
  try {
    await net.add()
    expect(net.container.link('eth0').alias).toBe(net.device)
    await net.del()
    expect(net.host.link(net.device).kind).toBe('veth')
    expect(net.host.link('eth0').kind).toBe('bridge')
  } finally {
    removeLink(net.host.route, 'eth0')
  }
})

test('a container that has a link of the device’s name is no obstacle', async () => {
  using net = wired()
  net.container.createLink({ name: net.device, kind: { type: 'bridge' } })
  await net.add()
  expect(net.container.link('eth0').kind).toBe('veth')
  await net.del()
  expect(net.host.link(net.device).kind).toBe('veth')
  expect(net.container.link(net.device).kind).toBe('bridge')
})

test('without IPAM the device comes up without addresses, and the result has nothing else', async () => {
  using net = wired()
  const result = await net.add({ ipam: undefined, dns: { domain: 'example.org' } })
  expect(result).toEqual({
    cniVersion: '1.1.0',
    interfaces: [{ name: 'eth0', mac: expect.any(String), sandbox: net.container.path }],
  })
  expect(net.container.link('eth0').up).toBe(true)
  await net.del({ ipam: undefined })
})

test('a device is selected by its hardware address, in any spelling', async () => {
  using net = wired()
  const hwaddr = net.host.link(net.device).address.toUpperCase().replaceAll(':', '-')
  await net.add({ device: undefined, hwaddr })
  expect(net.container.link('eth0').alias).toBe(net.device)
  await net.del({ device: undefined, hwaddr })
  expect(net.host.link(net.device).name).toBe(net.device)
})

/** No kernel makes such a link without the hardware: Infiniband has addresses of 20 bytes, IEEE 802.15.4 and Firewire of 8. */
test.each([
  { hwaddr: '80-00-02-08-FE-80-00-00-00-00-00-00-00-02-C9-03-00-1A-2B-3C', bytes: 20 },
  { hwaddr: '8000.0208.fe80.0000.0000.0000.0002.c903.001a.2b3c', bytes: 20 },
  { hwaddr: '02:00:5E:10:00:00:00:01', bytes: 8 },
])('a device with an address of $bytes bytes is selected by it: $hwaddr', ({ hwaddr }) => {
  const selection = selectionOf({ ...nothingSelected, hwaddr })
  const canonical = hwaddr.toLowerCase().replaceAll(/[-.:]/g, '').match(/../g)?.join(':') ?? ''
  using host = hostNamespace()
  const { permanentAddress: _, ...lo } = host.link('lo')
  const link = { ...lo, name: 'ib0', address: canonical }
  expect(isSelectedElsewhere(selection, link)).toBe(true)
  expect(isSelectedElsewhere(selection, { ...link, address: canonical.replace(/..$/, 'ff') })).toBe(false)
})

test('a device is selected by its path in the kernel’s tree', async () => {
  using net = wired()
  const { device, host } = net
  const kernelpath = '/sys/devices/virtual/mem/card'
  host.run('mount', '-t', 'tmpfs', 'devices', '/sys/devices/virtual/mem')
  try {
    mkdirSync(`${kernelpath}/net/${device}`, { recursive: true })
    await net.add({ device: undefined, kernelpath })
    expect(net.container.link('eth0').alias).toBe(device)
    await net.del({ device: undefined, kernelpath })
    expect(host.link(device).name).toBe(device)
  } finally {
    host.run('umount', '/sys/devices/virtual/mem')
  }
})

test('device counts more than the other selectors', async () => {
  using net = wired()
  const others = { hwaddr: '02:00:00:00:00:99', kernelpath: '/sys/devices/nowhere' }
  await net.add(others)
  expect(net.container.link('eth0').alias).toBe(net.device)
  await net.del(others)
})

test.each([
  {
    name: 'no selector',
    config: { device: undefined },
    msg: 'device: specify either "device", "hwaddr", "kernelpath" or "pciBusID"',
  },
  {
    name: 'a device that is not there',
    config: { device: 'nic99' },
    msg: 'device: failed to find host device: Link not found: got "nic99"',
  },
  {
    name: 'no hardware address',
    config: { device: undefined, hwaddr: 'xx' },
    msg: 'hwaddr: failed to find host device: failed to parse MAC address "xx": address xx: invalid MAC address: must be a hardware address of 6, 8 or 20 bytes',
  },
  {
    name: 'a hardware address that no device has',
    config: { device: undefined, hwaddr: '02:00:00:00:00:99' },
    msg: 'hwaddr: failed to find host device: failed to find physical interface with that address: got "02:00:00:00:00:99"',
  },
  {
    name: 'a path outside the tree of devices',
    config: { device: undefined, kernelpath: '/sys/class/net' },
    msg: 'kernelpath: failed to find host device: kernel device path "/sys/class/net" must be absolute and begin with /sys/devices/, without ".."',
  },
  {
    name: 'a PCI device that is not there',
    config: { device: undefined, pciBusID: '0000:ff:1f.7' },
    msg: 'pciBusID: error with host device: 0000:ff:1f.7',
  },
  {
    name: 'a device of the runtime that is not there',
    config: { runtimeConfig: { deviceID: '0000:ff:1f.7' } },
    msg: 'runtimeConfig.deviceID: runtime config DeviceID 0000:ff:1f.7 not found or unsupported',
  },
  {
    name: 'a PCI device by its path',
    config: { pciBusID: '../pci' },
    msg: 'pciBusID: must be the name of a PCI device, such as 0000:00:1f.6: got "../pci"',
  },
])(
  '$name is refused by its key, and nothing is left, nor anything in the way of DEL',
  async ({ config, msg }) => {
    using net = wired()
    const before = snapshot()
    const { json } = await call(hostDevice, 'ADD', net.callFor(config))
    expect({ code: json.code, msg: json.msg }).toEqual({ code: 7, msg })
    await net.del(config)
    expect(leftSince(before)).toEqual({ added: [], gone: [] })
  },
)

test.each<{ name: string; break: (container: Namespace) => void; msg: RegExp }>([
  {
    name: 'the address is gone',
    break: container => container.run('ip', 'address', 'delete', '10.1.0.5/24', 'dev', 'eth0'),
    msg: /Failed to match addr 10.1.0.5\/24 on interface eth0/,
  },
  {
    name: 'the route is gone',
    break: ({ route }) => {
      for (const found of listRoutes(route, { table: 254 })) {
        if (found.prefixLength === 0) removeRoute(route, found)
      }
    },
    msg: /Expected Route 0.0.0.0\/0 not found in routing table/,
  },
  {
    name: 'the link is down',
    break: ({ route }) => setLink(route, 'eth0', { up: false }),
    msg: /Interface eth0 is down|Expected Route/,
  },
  {
    name: 'the hardware address is another',
    break: ({ route }) => setLink(route, 'eth0', { address: '02:00:00:00:00:77' }),
    msg: /doesn't match container Mac: 02:00:00:00:00:77/,
  },
  {
    name: 'the link is gone',
    break: ({ route, link }) => setLink(route, link('eth0').index, { up: false, name: 'eth7' }),
    msg: /interface eth0 is not in/,
  },
  {
    name: 'the alias is gone',
    break: ({ route }) => setLink(route, 'eth0', { alias: '' }),
    msg: /its alias is ""/,
  },
])('CHECK agrees with ADD, and not when $name', async ({ break: breakIt, msg }) => {
  using net = wired()
  const result = await net.add()
  expect(await net.check(result)).toMatchObject({ status: 0 })
  breakIt(net.container)
  expect((await net.check(result)).json).toMatchObject({ code: 999, msg: expect.stringMatching(msg) })
})

test('a refused address takes the device back: nothing is left, and it is up again', async () => {
  using net = wired()
  const before = snapshot()
  const config = { ipam: { ...ipam, routes: [{ dst: '10.9.0.0/16', gw: '10.77.0.1' }] } }
  const { json } = await call(hostDevice, 'ADD', net.callFor(config))
  expect(json.msg).toContain('10.9.0.0/16')
  expect(json.details ?? '').not.toContain('could not')
  expect(leftSince(before)).toEqual({ added: [], gone: [] })
  expect(net.host.link(net.device).up).toBe(true)
})

test('a device that the kernel does not let go stays as it was', async () => {
  using net = wired()
  net.host.createLink({ name: 'fixed0', kind: { type: 'bridge' } })
  try {
    const before = snapshot()
    const { status, json } = await call(hostDevice, 'ADD', net.callFor({ device: 'fixed0' }))
    expect(status).toBe(1)
    expect(json.msg).toContain('namespace')
    expect(json.details ?? '').not.toContain('could not')
    expect(leftSince(before)).toEqual({ added: [], gone: [] })
  } finally {
    removeLink(net.host.route, 'fixed0')
  }
})

test('a second ADD is refused and leaves the live attachment alone', async () => {
  using net = wired()
  using other = wired()
  const result = await net.add()
  const again = await call(hostDevice, 'ADD', net.callFor({ device: other.device }))
  expect(again.json.msg).toBe(`interface eth0 already exists in ${net.container.path}`)
  expect(net.container.link('eth0').alias).toBe(net.device)
  expect(other.host.link(other.device)).toMatchObject({ up: true })
  expect(other.host.link(other.device).alias).toBeUndefined()
  expect(await net.check(result)).toMatchObject({ status: 0 })
})

test('DEL can be repeated, and be for a container that never had the device', async () => {
  using net = wired()
  await net.del()
  await net.add()
  await net.del()
  await net.del()
  expect(net.host.link(net.device).name).toBe(net.device)
})

test.each([
  ['no netns', undefined],
  ['a netns that has gone', '/run/netns/gone'],
])('DEL with %s releases the address', async (_, netns) => {
  using net = wired()
  const before = snapshot()
  await net.add()
  await net.del({}, { netns })
  expect(leftSince(before).added).toEqual([])
})

test.each(['eth0', 'dev17'])(
  'a device that the kernel sent home as %s gets its name back',
  async returned => {
    using net = wired()
    await net.add()
    // what the kernel does with hardware when its namespace ends; what is virtual it deletes
    const home = hostNamespace()
    net.container.run('ip', 'link', 'set', 'eth0', 'netns', '1', 'name', returned)
    expect(home.link(returned).alias).toBe(net.device)
    await net.del({}, { netns: '/run/netns/gone' })
    expect(home.link(net.device).name).toBe(net.device)
    expect(home.link(net.device).alias).toBeUndefined()
  },
)

test('DEL leaves an interface alone that is not a device of the host', async () => {
  using net = wired()
  net.container.createLink({ name: 'eth0', kind: { type: 'bridge' } })
  await net.del()
  expect(net.container.link('eth0').kind).toBe('bridge')
})

test('where the host has another link of the device’s name by now, DEL says so, and succeeds once it has gone', async () => {
  using net = wired()
  await net.add()
  net.host.createLink({ name: net.device, kind: { type: 'bridge' } })
  const { json } = await call(hostDevice, 'DEL', net.callFor())
  expect(json.msg).toContain(`cannot come back as ${net.device}: the host has another link of that name`)
  expect(net.container.link('eth0').alias).toBe(net.device)
  removeLink(net.host.route, net.device)
  await net.del()
  expect(net.host.link(net.device).kind).toBe('veth')
})

/** Devices as sysfs shows them, laid over the empty folders of this host. */
function pciDevice(id: string, { driver, link }: { driver: string; link?: string }): string {
  const host = hostNamespace()
  host.run('mount', '-t', 'tmpfs', 'devices', '/sys/bus/pci/devices')
  const folder = `/sys/bus/pci/devices/${id}`
  mkdirSync(folder)
  symlinkSync(`/sys/bus/pci/drivers/${driver}`, `${folder}/driver`)
  if (link) mkdirSync(`${folder}/virtio3/net/${link}`, { recursive: true })
  return folder
}

test.each(['pciBusID', 'deviceID'])('a PCI device is selected by %s, a virtio one too', async key => {
  using net = wired()
  const id = '0000:00:03.0'
  const config = {
    device: undefined,
    ...(key === 'pciBusID' ? { [key]: id } : { runtimeConfig: { [key]: id } }),
  }
  pciDevice(id, { driver: 'virtio-pci', link: net.device })
  try {
    await net.add(config)
    expect(net.container.link('eth0').alias).toBe(net.device)
    await net.del(config)
    expect(net.host.link(net.device).name).toBe(net.device)
  } finally {
    net.host.run('umount', '/sys/bus/pci/devices')
  }
})

test('a device that a program in user space drives stays where it is: addresses only', async () => {
  using net = wired()
  const id = '0000:00:04.0'
  const config = { device: undefined, runtimeConfig: { deviceID: id } }
  pciDevice(id, { driver: 'vfio-pci' })
  try {
    const before = snapshot()
    const result = await net.add(config)
    expect(result.interfaces).toEqual([{ name: 'eth0', sandbox: net.container.path }])
    expect(result.ips).toHaveLength(2)
    expect(net.container.links().map(({ name }) => name)).toEqual(['lo'])
    expect(await net.check(result, config)).toMatchObject({ status: 0 })
    await net.del(config)
    expect(leftSince(before)).toEqual({ added: [], gone: [] })
  } finally {
    net.host.run('umount', '/sys/bus/pci/devices')
  }
})

test('STATUS is the IPAM plugin’s, and success without one', async () => {
  using net = wired()
  expect(await call(hostDevice, 'STATUS', net.callFor({ ipam: undefined }))).toMatchObject({ status: 0 })
  expect(await call(hostDevice, 'STATUS', net.callFor())).toMatchObject({ status: 0 })
  const absent = await call(hostDevice, 'STATUS', net.callFor({ ipam: { type: 'absent' } }))
  expect(absent.json.msg).toContain('absent')
})

const withoutIpam = { ipam: undefined }

test('a device that the Go plugin has moved is checked and brought back by ours', async () => {
  using net = wired()
  const prevResult = mustExecute(peerExecutable('host-device'), 'ADD', net.callFor(withoutIpam))
  expect(await net.check(prevResult, withoutIpam)).toMatchObject({ status: 0 })
  await net.del(withoutIpam)
  expect(net.host.link(net.device).alias).toBeUndefined()
})

test('a device that ours has moved is checked and brought back by the Go plugin', async () => {
  using net = wired()
  const prevResult = await net.add(withoutIpam)
  const go = peerExecutable('host-device')
  mustExecute(go, 'CHECK', net.callFor({ ...withoutIpam, prevResult }))
  mustExecute(go, 'DEL', net.callFor(withoutIpam))
  expect(net.host.link(net.device).name).toBe(net.device)
})
