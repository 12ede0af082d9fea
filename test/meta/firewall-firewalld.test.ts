import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { firewall } from '../../meta/firewall.ts'
import { startBus, startFirewalld } from '../fixtures/dbus.ts'
import { clearRules } from '../fixtures/iptables.ts'
import { freshNamespace, hostNamespace } from '../fixtures/namespace.ts'
import { call, mustCall, mustExecute, peerExecutable } from '../fixtures/plugin.ts'
import { snapshot } from '../fixtures/snapshot.ts'
import {
  addressesIn,
  detectDuplicates,
  elements,
  expectReached,
  firewalled,
  nft,
  OUTSIDE,
  outsideHost,
  removeBridges,
  serveAll,
} from './firewall/place.ts'

let firewalld: Awaited<ReturnType<typeof startFirewalld>>

beforeAll(async () => {
  detectDuplicates('0')
  firewalld = await startFirewalld()
})
afterAll(async () => {
  detectDuplicates('1')
  await firewalld[Symbol.asyncDispose]()
  nft('flush', 'ruleset')
})
afterEach(removeBridges)

const environment = () => ({ DBUS_SYSTEM_BUS_ADDRESS: firewalld.address })
const cidrs = ([four, six]: readonly [string, string]) => [`${four}/32`, `${six}/128`]

async function sourcesOf(addresses: readonly [string, string], zone?: string): Promise<boolean[]> {
  return Promise.all(cidrs(addresses).map(cidr => firewalld.hasSource(cidr, zone)))
}

describe.each([
  { name: 'silent', config: {} },
  { name: 'for firewalld', config: { backend: 'firewalld' } },
])('a configuration that is $name', ({ config }) => {
  test('lets packets through firewalld, until DEL that has nothing but the environment', async () => {
    using outside = outsideHost()
    using container = freshNamespace()
    const chain = firewalled(container, { config, environment: environment() })
    await chain.add()
    using _servers = serveAll(outside)
    expect(await sourcesOf(addressesIn(chain))).toEqual([true, true])
    expect(elements()).toEqual([])
    await expectReached(container, OUTSIDE, 'both')
    expect(await chain.check()).toMatchObject({ status: 0 })
    const request = { containerId: container.name, config: { name: 'net-1' }, environment: environment() }
    await mustCall(firewall, 'DEL', request)
    expect(await sourcesOf(addressesIn(chain))).toEqual([false, false])
    await expectReached(container, OUTSIDE, 'none')
    expect(snapshot().filter(line => line.includes('/run/catena/firewall'))).toEqual([])
    await mustCall(firewall, 'DEL', request)
    await chain.del()
  })
})

test('a source that is there already is fine; each that is gone, and a reload, CHECK notices', async () => {
  using container = freshNamespace()
  const chain = firewalled(container, { environment: environment() })
  await chain.add()
  const again = () =>
    mustCall(firewall, 'ADD', {
      netns: container,
      containerId: container.name,
      config: { name: 'net-1', prevResult: chain.result },
      environment: environment(),
    })
  await again()
  for (const cidr of cidrs(addressesIn(chain))) {
    await firewalld.removeSource(cidr)
    expect((await chain.check()).json).toMatchObject({
      msg: `firewalld's zone trusted has no source ${cidr}`,
    })
    await again()
    expect(await chain.check()).toMatchObject({ status: 0 })
  }
  await firewalld.reload()
  expect((await chain.check()).json).toMatchObject({ msg: expect.stringContaining('has no source') })
  await chain.del()
})

test('another zone is taken, and one that firewalld does not know is refused, leaving nothing', async () => {
  using container = freshNamespace()
  const chain = firewalled(container, { config: { firewalldZone: 'work' }, environment: environment() })
  await chain.add()
  expect(await sourcesOf(addressesIn(chain), 'work')).toEqual([true, true])
  expect(await sourcesOf(addressesIn(chain))).toEqual([false, false])
  await chain.del()
  expect(await sourcesOf(addressesIn(chain), 'work')).toEqual([false, false])
  const outcome = await call(firewall, 'ADD', {
    netns: container,
    config: { firewalldZone: 'nowhere', prevResult: chain.result, ingressPolicy: 'same-bridge' },
    environment: environment(),
  })
  expect(outcome.json).toMatchObject({
    msg: expect.stringMatching(/^firewalld refuses addSource .* in zone nowhere: .*INVALID_ZONE/),
  })
  expect(elements()).toEqual([])
  expect(snapshot().filter(line => line.includes('/run/catena/firewall'))).toEqual([])
})

test('policies are kept by nftables beside it', async () => {
  using one = freshNamespace()
  using sibling = freshNamespace()
  using other = freshNamespace()
  const options = { config: { ingressPolicy: 'isolated' }, environment: environment() }
  const chains = [
    firewalled(one, options),
    firewalled(sibling, options),
    firewalled(other, { ...options, number: 2 }),
  ]
  for (const chain of chains) await chain.add()
  const [first] = chains
  if (!first) throw new Error('unreachable')
  using _servers = serveAll(one)
  await expectReached(hostNamespace(), addressesIn(first), 'both')
  await expectReached(sibling, addressesIn(first), 'none')
  await expectReached(other, addressesIn(first), 'none')
  expect(await first.check()).toMatchObject({ status: 0 })
  for (const chain of chains) await chain.del()
  expect(elements()).toEqual([])
})

test('an iptables FORWARD that drops is seen to as well', async () => {
  using outside = outsideHost()
  using container = freshNamespace()
  using host = hostNamespace()
  for (const tool of ['iptables', 'ip6tables']) host.run(tool, '-w', '-P', 'FORWARD', 'DROP')
  const chain = firewalled(container, { environment: environment() })
  await chain.add()
  using _servers = serveAll(outside)
  await expectReached(container, OUTSIDE, 'both')
  expect(await chain.check()).toMatchObject({ status: 0 })
  await chain.del()
  for (const tool of ['iptables', 'ip6tables']) host.run(tool, '-w', '-P', 'FORWARD', 'ACCEPT')
  clearRules()
})

test("the Go plugin's DEL takes our sources, and ours takes its", async () => {
  using container = freshNamespace()
  const config = { type: 'firewall', name: 'net-1' }
  const chain = firewalled(container, { environment: environment() })
  await chain.add()
  const request = {
    netns: container,
    containerId: container.name,
    config: { ...config, prevResult: chain.result },
    environment: environment(),
  }
  const go = peerExecutable('firewall')
  mustExecute(go, 'CHECK', request)
  mustExecute(go, 'DEL', request)
  expect(await sourcesOf(addressesIn(chain))).toEqual([false, false])
  await mustCall(firewall, 'DEL', request)
  mustExecute(go, 'ADD', request)
  expect(await sourcesOf(addressesIn(chain))).toEqual([true, true])
  expect(await call(firewall, 'CHECK', request)).toMatchObject({ status: 0 })
  await mustCall(firewall, 'DEL', request)
  expect(await sourcesOf(addressesIn(chain))).toEqual([false, false])
  await chain.del()
})

test('GC takes the sources that no valid attachment has', async () => {
  using one = freshNamespace()
  using two = freshNamespace()
  const stale = firewalled(one, { environment: environment() })
  const valid = firewalled(two, { environment: environment() })
  await stale.add()
  await valid.add()
  await mustCall(firewall, 'GC', {
    config: { name: 'net-1', 'cni.dev/valid-attachments': [{ containerID: two.name, ifname: 'eth0' }] },
    environment: environment(),
  })
  expect(await sourcesOf(addressesIn(stale))).toEqual([false, false])
  expect(await sourcesOf(addressesIn(valid))).toEqual([true, true])
  await stale.del()
  await valid.del()
})

test('STATUS is fine where firewalld runs', async () => {
  const config = { backend: 'firewalld' }
  expect(await call(firewall, 'STATUS', { config, environment: environment() })).toMatchObject({ status: 0 })
})

describe('without firewalld', () => {
  test.each(['a bus', 'a socket without a bus', 'no socket'])(
    'on a host with %s, a silent configuration means nftables, and one for firewalld fails in words',
    async host => {
      await using bus = await startBus()
      const address =
        host === 'a bus' ? bus.address : `unix:path=/run/${host === 'no socket' ? 'none' : 'netns'}`
      const environment = { DBUS_SYSTEM_BUS_ADDRESS: address }
      using container = freshNamespace()
      const chain = firewalled(container, { environment })
      await chain.add()
      expect(elements()).toContain(`ip forwarded ${addressesIn(chain)[0]}`)
      const config = { name: 'net-1', backend: 'firewalld', prevResult: chain.result }
      const add = await call(firewall, 'ADD', { netns: container, config, environment })
      expect(add.json).toMatchObject({ msg: 'firewalld is not running' })
      const status = await call(firewall, 'STATUS', { config, environment })
      expect(status.json).toMatchObject({ code: 50, msg: 'firewalld is not running' })
      await mustCall(firewall, 'DEL', { config, environment })
      await chain.del()
      expect(elements()).toEqual([])
    },
  )

  test('that has ended since, CHECK says so and DEL succeeds', async () => {
    await using another = await startFirewalld()
    const environment = { DBUS_SYSTEM_BUS_ADDRESS: another.address }
    using container = freshNamespace()
    const chain = firewalled(container, { config: { backend: 'firewalld' }, environment })
    await chain.add()
    await another.stop()
    expect((await chain.check()).json).toMatchObject({ msg: 'firewalld is not running' })
    await chain.del()
    expect(snapshot().filter(line => line.includes('/run/catena/firewall'))).toEqual([])
  })
})
