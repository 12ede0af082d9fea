import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { difference } from '../fixtures/snapshot.ts'
import { testOn } from '../kernel/features.ts'
import { callStep, hostState } from './attachment.ts'
import { forSecondInterface, MASTER, otherLists, usualLists } from './lists.ts'
import type { Step } from './rows.ts'

/*
 * Whatever configuration ADD accepts, CHECK has nothing to say about right afterwards, and DEL leaves nothing of. Which
 * configurations these are is not listed: they are generated, and ADD decides. Another seed: CATENA_SEED.
 */

const RUNS = process.env.CATENA_LONG ? 1000 : 60
const SEED = Number(process.env.CATENA_SEED ?? 3)

interface Attached {
  network: string
  interface: string
  steps: Step[]
  prevResult: unknown
}

/** ADD of a list; without prevResult when a plugin refuses it. */
async function add(container: Namespace, asked: Omit<Attached, 'prevResult'>): Promise<Attached> {
  let prevResult: unknown
  for (const step of asked.steps) {
    const request = { ...step, ...(prevResult === undefined ? {} : { prevResult }) }
    const { status, json } = await callStep('ADD', request, { ...asked, container, netns: container })
    if (status !== 0) return { ...asked, prevResult: undefined }
    prevResult = json
  }
  return { ...asked, prevResult }
}

/** What the plugins of a list say against a verb. */
async function complaints(
  verb: 'CHECK' | 'DEL',
  container: Namespace,
  attached: Attached,
): Promise<string[]> {
  const { steps, prevResult, ...more } = attached
  const said: string[] = []
  for (const step of verb === 'DEL' ? steps.toReversed() : steps) {
    const { status, json } = await callStep(
      verb,
      { ...step, prevResult },
      { ...more, container, netns: container },
    )
    if (status !== 0) said.push(`${verb} ${step.type}: ${json.msg} (${json.details})`)
  }
  return said
}

/** A host with a master and without bridges of these tests. */
function freshHost() {
  const host = hostNamespace()
  const links = ['check0', 'check1', MASTER]
  for (const link of links) removeLink(host.route, link)
  host.createLink({ name: MASTER, kind: { type: 'veth', peer: { name: `${MASTER}-peer` } } })
  setLink(host.route, `${MASTER}-peer`, { up: true })
  return {
    [Symbol.dispose]() {
      for (const link of links) removeLink(host.route, link)
      host[Symbol.dispose]()
    },
  }
}

/** Attaches a container by one list or two, and takes it away again; answers how many were accepted. */
async function liveThrough(one: Step[], other?: Step[]): Promise<number> {
  const before = hostState()
  let accepted = 0
  {
    using _host = freshHost()
    using container = freshNamespace('check')
    const lists = [
      { network: 'check-net', interface: 'eth0', steps: one },
      ...(other ? [{ network: 'other-net', interface: 'net1', steps: other }] : []),
    ]
    const attached: Attached[] = []
    for (const each of lists) attached.push(await add(container, each))
    const said: string[] = []
    for (const each of attached.filter(({ prevResult }) => prevResult !== undefined)) {
      accepted++
      said.push(...(await complaints('CHECK', container, each)))
    }
    for (const each of attached) said.push(...(await complaints('DEL', container, each)))
    expect(said).toEqual([])
  }
  expect(difference(before, hostState())).toEqual({ added: [], gone: [] })
  return accepted
}

async function liveThroughMany(lists: fc.Arbitrary<Step[]>): Promise<void> {
  let accepted = 0
  const second = fc.option(forSecondInterface(lists), { nil: undefined, freq: 1 })
  const property = fc.asyncProperty(lists, second, async (one, other) => {
    accepted += await liveThrough(one, other)
  })
  await fc.assert(property, { numRuns: RUNS, seed: SEED })
  expect(accepted).toBeGreaterThan(RUNS / 3)
}

const sentence =
  'CHECK has nothing to say after an ADD that succeeded, and DEL leaves nothing, whatever the configuration'

test(sentence, () => liveThroughMany(usualLists), 600_000)

testOn(['vlan', 'ipvlan', 'dummy', 'vrf'], sentence, () => liveThroughMany(otherLists), 600_000)

const both = { type: 'host-local', ranges: [[{ subnet: '10.60.1.0/24' }], [{ subnet: 'fd00:60:1::/64' }]] }
const assigned = (address: string, more: object = {}) => ({
  type: 'bridge',
  bridge: 'check0',
  ipam: { type: 'static', addresses: [{ address, ...more }] },
})
const routed = (...routes: object[]) => ({
  type: 'bridge',
  bridge: 'check0',
  isGateway: true,
  ipam: { ...both, routes },
})

test.each<{ what: string; one: Step[]; other?: Step[] }>([
  {
    what: 'two default gateways of both families in one container',
    one: [{ type: 'bridge', bridge: 'check0', isDefaultGateway: true, ipam: both }],
    other: [
      {
        type: 'bridge',
        bridge: 'check1',
        isDefaultGateway: true,
        ipam: { type: 'host-local', ranges: [[{ subnet: '10.70.1.0/24' }], [{ subnet: 'fd00:70:1::/64' }]] },
      },
    ],
  },
  {
    what: 'several gateways for one destination',
    one: [
      routed(
        ...['10.60.1.8', '10.60.1.9'].map(gw => ({ dst: '10.99.0.0/16', gw })),
        ...['fd00:60:1::8', 'fd00:60:1::9'].map(gw => ({ dst: '2001:db8:99::/48', gw })),
      ),
    ],
  },
  {
    what: 'routes whose gateway is 0.0.0.0 or ::',
    one: [routed({ dst: '10.99.0.0/16', gw: '0.0.0.0' }, { dst: '2001:db8:99::/48', gw: '::' })],
  },
  {
    what: 'an address whose gateway is 0.0.0.0',
    one: [{ ...assigned('10.60.1.5/24', { gateway: '0.0.0.0' }), isDefaultGateway: true }],
  },
  { what: 'sbr after a /32 without gateway', one: [assigned('10.60.1.5/32'), { type: 'sbr' }] },
  {
    what: 'sbr after ptp, which has routes of its own',
    one: [
      { type: 'ptp', ipam: { ...both, routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }] } },
      { type: 'sbr' },
    ],
  },
  {
    what: 'another hardware address behind a guard against false ones',
    one: [
      { type: 'bridge', bridge: 'check0', macspoofchk: true, ipam: both },
      { type: 'tuning', mac: '02:00:00:00:07:02' },
    ],
  },
  {
    what: 'one IPv6 gateway of two networks',
    one: [
      {
        type: 'bridge',
        bridge: 'check0',
        isGateway: true,
        ipam: {
          type: 'static',
          addresses: [
            { address: 'fd00:60:2::4/127', gateway: 'fd00:60:1::1' },
            { address: 'fd00:60:1::5/64', gateway: 'fd00:60:1::1' },
          ],
        },
      },
    ],
  },
  { what: 'bandwidth without limits', one: [routed(), { type: 'bandwidth' }] },
])('CHECK has nothing to say after ADD: $what', async ({ one, other }) => {
  expect(await liveThrough(one, other)).toBe(other ? 2 : 1)
})
