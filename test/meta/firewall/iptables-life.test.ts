/** The rules of a firewall by iptables from ADD to DEL and GC: with several containers, after failures, with addresses that others have by now. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { firewall } from '../../../meta/firewall.ts'
import { clearRules, saved, variants } from '../../fixtures/iptables.ts'
import { freshNamespace } from '../../fixtures/namespace.ts'
import { call, mustCall, mustExecute, ourExecutable, peerExecutable, peers } from '../../fixtures/plugin.ts'
import { difference, snapshot } from '../../fixtures/snapshot.ts'
import { filters, iptables, run } from './iptables.ts'
import { addressesIn, detectDuplicates, firewalled, nft, removeBridges } from './place.ts'

beforeAll(() => detectDuplicates('0'))
afterAll(() => detectDuplicates('1'))

afterEach(() => {
  clearRules()
  for (const family of ['ip', 'ip6'] as const)
    for (const variant of variants) run(variant, family, '-P', 'FORWARD', 'ACCEPT')
  nft('flush', 'ruleset')
  removeBridges()
})

test('ADDs of several containers at once, on a host without chains, make every rule once', async () => {
  using places = new DisposableStack()
  const chains = Array.from({ length: 6 }, () => firewalled(places.use(freshNamespace()), { config: {} }))
  for (const chain of chains) await chain.add()
  const added = await Promise.all(
    chains.map(async (chain, at) => {
      const child = Bun.spawn([ourExecutable('firewall')], {
        stdin: Buffer.from(
          JSON.stringify({
            cniVersion: '1.1.0',
            name: 'net-1',
            ...iptables,
            ingressPolicy: 'isolated',
            prevResult: chain.result,
          }),
        ),
        env: {
          PATH: process.env.PATH,
          CNI_COMMAND: 'ADD',
          CNI_CONTAINERID: `other-${at}`,
          CNI_IFNAME: 'eth0',
          CNI_NETNS: '/run/none',
          CNI_PATH: peers,
        },
      })
      return (await child.exited) === 0 ? '' : await child.stdout.text()
    }),
  )
  expect(added.filter(Boolean)).toEqual([])
  for (const family of ['ip', 'ip6'] as const) {
    const lines = saved('nf_tables', family, 'filter')
    expect(new Set(lines).size).toBe(lines.length)
    expect(lines.filter(line => line.startsWith('-A CNI-FORWARD'))).toHaveLength(1 + 2 * chains.length)
    expect(lines.filter(line => line.startsWith('-A FORWARD'))).toHaveLength(2)
  }
  for (const at of chains.keys())
    await mustCall(firewall, 'DEL', { containerId: `other-${at}`, config: { name: 'net-1' } })
  expect(filters('nf_tables').filter(line => line.includes('ACCEPT'))).toEqual([])
  for (const chain of chains) await chain.del()
})

describe('a policy in iptables', () => {
  const stages = () =>
    filters('nf_tables').filter(line => line.startsWith('-A CNI-ISOLATION') && !line.includes('RETURN'))

  test('goes with the last container that asked for it, and stays for the others', async () => {
    using one = freshNamespace()
    using two = freshNamespace()
    using three = freshNamespace()
    const isolated = firewalled(one, { config: { ...iptables, ingressPolicy: 'isolated' } })
    const sameBridge = firewalled(two, { config: { ...iptables, ingressPolicy: 'same-bridge' } })
    const far = firewalled(three, { config: { ...iptables, ingressPolicy: 'same-bridge' }, number: 2 })
    for (const chain of [isolated, sameBridge, far]) await chain.add()
    expect(stages()).toHaveLength(2 * 6)
    await isolated.del()
    expect(stages().filter(line => line.includes('cni1'))).toHaveLength(2 * 2)
    expect(stages().some(line => line.includes(': isolated)'))).toBe(false)
    expect(await sameBridge.check()).toMatchObject({ status: 0 })
    await sameBridge.del()
    expect(stages().filter(line => line.includes('cni1'))).toEqual([])
    expect(await far.check()).toMatchObject({ status: 0 })
    await far.del()
    expect(stages()).toEqual([])
  })

  test('stays while the Go plugin has a container', async () => {
    using one = freshNamespace()
    using two = freshNamespace()
    const config = { ...iptables, ingressPolicy: 'isolated' }
    const own = firewalled(one, { config })
    const open = firewalled(two, { config: { backend: 'nftables' } })
    await own.add()
    await open.add()
    const request = {
      netns: two,
      containerId: 'go',
      config: { ...config, type: 'firewall', name: 'net-1', prevResult: open.result },
    }
    mustExecute(peerExecutable('firewall'), 'ADD', request)
    const before = stages()
    await own.del()
    expect(stages()).toEqual(before)
    mustExecute(peerExecutable('firewall'), 'DEL', request)
    await open.del()
  })

  test('is another one after an ADD with another one', async () => {
    using container = freshNamespace()
    const chain = firewalled(container, { config: { ...iptables, ingressPolicy: 'isolated' } })
    await chain.add()
    const config = { ...iptables, name: 'net-1', ingressPolicy: 'same-bridge', prevResult: chain.result }
    await mustCall(firewall, 'ADD', { netns: container, containerId: container.name, config })
    expect(stages().filter(line => line.includes(': isolated)'))).toEqual([])
    expect(stages()).toHaveLength(2 * 2)
    await chain.del()
    expect(stages()).toEqual([])
  })
})

const RECORDS = '/run/catena/firewall'

test.each([{ config: iptables }, { config: { ...iptables, ingressPolicy: 'isolated' } }, { config: {} }])(
  'a record of addresses and policy alone, as version 0.1.0 wrote it, is enough for CHECK and DEL: $config',
  async ({ config }) => {
    using container = freshNamespace()
    if (!('backend' in config)) run('nf_tables', 'ip', '-P', 'FORWARD', 'DROP')
    const before = filters('nf_tables')
    const chain = firewalled(container, { config })
    await chain.add()
    const files = readdirSync(RECORDS).filter(name => name.endsWith('.json'))
    expect(files).toHaveLength(1)
    for (const name of files) {
      const { addresses, ingress } = JSON.parse(readFileSync(`${RECORDS}/${name}`, 'utf8'))
      writeFileSync(`${RECORDS}/${name}`, JSON.stringify({ addresses, ingress }))
    }
    expect(await chain.check()).toMatchObject({ status: 0 })
    await chain.del()
    const left = filters('nf_tables').filter(line => !before.includes(line))
    expect(left.filter(line => line.includes('ACCEPT') || line.includes('DROP'))).toEqual([])
  },
)

describe('DEL', () => {
  test.each([
    { name: 'with everything', more: {} },
    { name: 'with nothing but the environment', more: { netns: undefined, config: { name: 'net-1' } } },
  ])('$name takes the rules away, twice', async ({ more }) => {
    using container = freshNamespace()
    const chain = firewalled(container, { config: iptables })
    await chain.add()
    const request = {
      netns: container,
      containerId: container.name,
      config: { ...iptables, name: 'net-1', prevResult: chain.result },
      ...more,
    }
    await mustCall(firewall, 'DEL', request)
    expect(filters('nf_tables').filter(line => line.includes('ACCEPT'))).toEqual([])
    expect(snapshot().filter(line => line.includes('/run/catena/firewall'))).toEqual([])
    await mustCall(firewall, 'DEL', request)
    await chain.del()
  })

  test('succeeds when somebody has flushed everything', async () => {
    using container = freshNamespace()
    const chain = firewalled(container, { config: iptables })
    await chain.add()
    nft('flush', 'ruleset')
    await chain.del()
  })

  test('that comes late leaves the rules of who has the address by now', async () => {
    using container = freshNamespace()
    const chain = firewalled(container, { config: iptables })
    await chain.add()
    const callFor = (containerId: string) => ({
      netns: container,
      containerId,
      config: { ...iptables, name: 'net-1', prevResult: chain.result },
    })
    await mustCall(firewall, 'ADD', callFor('successor'))
    await mustCall(firewall, 'DEL', callFor(container.name))
    expect(await call(firewall, 'CHECK', callFor('successor'))).toMatchObject({ status: 0 })
    await mustCall(firewall, 'DEL', callFor('successor'))
    expect(filters('nf_tables').filter(line => line.includes('ACCEPT'))).toEqual([])
    await chain.del()
  })

  test("nor are the successor's rules left behind when the predecessor was never deleted", async () => {
    using container = freshNamespace()
    const chain = firewalled(container, { config: iptables })
    await chain.add()
    const config = { ...iptables, name: 'net-1', prevResult: chain.result }
    await mustCall(firewall, 'ADD', { netns: container, containerId: 'successor', config })
    await mustCall(firewall, 'DEL', { containerId: 'successor', config: { name: 'net-1' } })
    expect(filters('nf_tables').filter(line => line.includes('ACCEPT'))).toEqual([])
    await chain.del()
  })
})

test('an ADD again, with other addresses, lets go of the earlier ones', async () => {
  using container = freshNamespace()
  const add = (address: string) =>
    mustCall(firewall, 'ADD', {
      netns: container,
      config: { ...iptables, prevResult: { ips: [{ address }] } },
    })
  await add('10.1.0.9/16')
  await add('10.1.0.10/16')
  const accepted = saved('nf_tables', 'ip', 'filter').filter(line => line.includes('ACCEPT'))
  expect(accepted).toEqual([
    '-A CNI-FORWARD -d 10.1.0.10/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    '-A CNI-FORWARD -s 10.1.0.10/32 -j ACCEPT',
  ])
  await mustCall(firewall, 'DEL', {})
})

test('GC takes the rules of addresses that no valid attachment has', async () => {
  using one = freshNamespace()
  using two = freshNamespace()
  const stale = firewalled(one, { config: iptables })
  const valid = firewalled(two, { config: iptables })
  await stale.add()
  await valid.add()
  await mustCall(firewall, 'GC', {
    config: {
      ...iptables,
      name: 'net-1',
      'cni.dev/valid-attachments': [{ containerID: two.name, ifname: 'eth0' }],
    },
  })
  const accepted = filters('nf_tables').filter(line => line.includes('ACCEPT'))
  expect(accepted.filter(line => line.includes(`${addressesIn(stale)[0]}/`))).toEqual([])
  expect(accepted).toHaveLength(4)
  expect(await valid.check()).toMatchObject({ status: 0 })
  await stale.del()
  await valid.del()
})

test('an ADD that fails in the second family takes back what it did in the first', async () => {
  using container = freshNamespace()
  const chain = firewalled(container, { config: { backend: 'nftables' } })
  await chain.add()
  await mustCall(firewall, 'DEL', { containerId: container.name, config: { name: 'net-1' } })
  nft('table ip6 filter { chain FORWARD { type filter hook input priority 7; }; }') // not as iptables makes it
  const before = snapshot()
  const outcome = await call(firewall, 'ADD', {
    netns: container,
    containerId: container.name,
    config: { ...iptables, name: 'net-1', ingressPolicy: 'isolated', prevResult: chain.result },
  })
  expect(outcome.json).toMatchObject({
    msg: expect.stringContaining('apply ip6tables rules to table filter'),
  })
  const { added } = difference(before, snapshot())
  expect(
    added.filter(line => /accept|catena|record/.test(line) && !line.includes('"policy":"accept"')),
  ).toEqual([])
  nft('delete', 'table', 'ip6', 'filter')
  await chain.del()
})
