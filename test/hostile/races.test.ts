/** Two operations on one container at once, as runtimes call them after a time-out: they come one after the other, in whichever order. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { removeLink } from '../../chain/linux/netlink/link.ts'
import { removeBridges } from '../fixtures/bridge.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import {
  type Call,
  execute,
  mustExecute,
  type Outcome,
  ourExecutable,
  ours,
  start,
  type Verb,
} from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'
import { traced } from './injected.ts'

const ROUNDS = process.env.CATENA_LONG === '1' ? 60 : 2

const LIMIT = 20_000 + 5_000 * ROUNDS // milliseconds

const MASTER = 'race-master'

const ipam = { type: 'host-local', ranges: [[{ subnet: '10.60.0.0/24' }], [{ subnet: 'fd00:60::/64' }]] }
const ports = { runtimeConfig: { portMappings: [{ hostPort: 8060, containerPort: 80, protocol: 'tcp' }] } }
const prevResult = {
  cniVersion: '1.1.0',
  interfaces: [{ name: 'eth0', sandbox: '/run/netns/x' }],
  ips: [{ address: '10.60.0.7/24', interface: 0 }],
}

interface Kind {
  name: string
  type: string
  config: object
  /** A second ADD is refused: the attachment is alive. The others do again what is done. */
  refuses: boolean
  /** It takes an address of host-local's. */
  reserves: boolean
}

const maker = { refuses: true, reserves: true }
const chained = { refuses: false, reserves: false }

const kinds: Kind[] = [
  {
    name: 'bridge',
    type: 'bridge',
    config: { bridge: 'race0', isGateway: true, ipMasq: true, macspoofchk: true, ipam },
    ...maker,
  },
  { name: 'ptp', type: 'ptp', config: { ipMasq: true, ipam }, ...maker },
  { name: 'macvlan', type: 'macvlan', config: { master: MASTER, mode: 'bridge', ipam }, ...maker },
  { name: 'host-local', type: 'host-local', config: { ipam }, ...maker },
  { name: 'portmap', type: 'portmap', config: { ...ports, prevResult }, ...chained },
  {
    name: 'portmap by iptables',
    type: 'portmap',
    config: { backend: 'iptables', ...ports, prevResult },
    ...chained,
  },
  { name: 'firewall', type: 'firewall', config: { prevResult }, ...chained },
  { name: 'firewall by iptables', type: 'firewall', config: { backend: 'iptables', prevResult }, ...chained },
]

let master: { [Symbol.dispose](): void }
beforeAll(() => {
  const host = hostNamespace()
  host.createLink({ name: MASTER, kind: { type: 'bridge' } })
  master = {
    [Symbol.dispose]: () => {
      removeLink(host.route, MASTER)
      host[Symbol.dispose]()
    },
  }
})
afterAll(() => {
  master[Symbol.dispose]()
  removeBridges()
})

/** What stays by intention: round robin's memory, the bridge with its gateway, chains that all share. */
const isNetworks =
  /last_reserved_ip|route_localnet|\/run\/catena\/(localnet|boot)|race0|^(address|route|qdisc) |CNI-|"name":"(nat|filter)"|"table":"(nat|filter)"|"oif":|\/host-local\//

const leftOf = (before: string[]) =>
  difference(before, snapshot()).added.filter(line => !isNetworks.test(line))

/** Addresses that host-local has reserved for a container. */
function reservedFor(network: string, containerId: string): string[] {
  const folder = `/var/lib/cni/networks/${network}`
  if (!existsSync(folder)) return []
  return readdirSync(folder)
    .filter(name => /[.:]/.test(name) && !name.startsWith('last_') && !name.startsWith('.'))
    .filter(name => readFileSync(`${folder}/${name}`, 'utf8').startsWith(`${containerId}\r\n`))
    .map(name => name)
    .sort()
}

const addressesIn = ({ json }: Outcome): string[] =>
  json.ips.map(({ address }: { address: string }) => address.replace(/\/.*/, '')).sort()

interface Round {
  containerId: string
  network: string
  call(verb: Verb, more?: object): Promise<Outcome>
}

/** Rounds of a race, each with a container of its own; afterwards nothing is left of any. */
async function race({ type, config }: Kind, round: (round: Round) => Promise<void>): Promise<void> {
  using container: Namespace = freshNamespace('race')
  const network = `race-${type}`
  const before = snapshot()
  const inside = snapshot(container)
  for (let number = 1; number <= ROUNDS; number++) {
    const containerId = `container-${number}`
    const options = (more: object): Call => ({
      netns: container,
      containerId,
      config: { name: network, type, ...config, ...more },
    })
    await round({
      containerId,
      network,
      call: (verb, more = {}) => start(ourExecutable(type), verb, options(more)).ended,
    })
    expect(execute(ourExecutable(type), 'DEL', options({}))).toMatchObject({ status: 0 })
    expect(reservedFor(network, containerId)).toEqual([])
    expect(difference(inside, snapshot(container)).added).toEqual([])
  }
  expect(leftOf(before)).toEqual([])
}

describe.each(kinds)('$name', kind => {
  const { refuses, reserves } = kind
  const resultOf = ({ json }: Outcome) => ({ prevResult: json })

  test(
    'of two ADDs one succeeds, with what it answers',
    () =>
      race(kind, async ({ containerId, network, call }) => {
        const both = await Promise.all([call('ADD'), call('ADD')])
        const [winner, ...others] = both.filter(({ status }) => status === 0)
        const loser = both.find(({ status }) => status !== 0)
        if (!winner) throw new Error(`both failed: ${JSON.stringify(both)}`)
        expect(others).toHaveLength(refuses ? 0 : 1)
        if (refuses)
          expect(loser?.json).toMatchObject({ code: 999, msg: expect.stringMatching(/already|duplicate/) })
        if (reserves) expect(reservedFor(network, containerId)).toEqual(addressesIn(winner))
        expect(await call('CHECK', resultOf(winner))).toMatchObject({ status: 0 })
      }),
    LIMIT,
  )

  test(
    'DEL beside ADD comes before it or after it',
    () =>
      race(kind, async ({ containerId, network, call }) => {
        const [add, del] = await Promise.all([call('ADD'), call('DEL')])
        expect([add, del]).toMatchObject([{ status: 0 }, { status: 0 }])
        const check = await call('CHECK', resultOf(add))
        if (reserves) {
          expect(reservedFor(network, containerId)).toEqual(check.status === 0 ? addressesIn(add) : [])
        }
      }),
    LIMIT,
  )

  test(
    'GC beside ADD leaves what is valid, and takes what is not as a whole',
    () =>
      race(kind, async ({ containerId, network, call }) => {
        const valid = [{ containerID: containerId, ifname: 'eth0' }]
        const [add, gc] = await Promise.all([call('ADD'), call('GC', { 'cni.dev/valid-attachments': valid })])
        expect([add, gc]).toMatchObject([{ status: 0 }, { status: 0 }])
        expect(await call('CHECK', resultOf(add))).toMatchObject({ status: 0 })
        await call('DEL')
        const again = await Promise.all([call('ADD'), call('GC', { 'cni.dev/valid-attachments': [] })])
        expect(again).toMatchObject([{ status: 0 }, { status: 0 }])
        const check = await call('CHECK', resultOf(again[0]))
        if (reserves) {
          expect(reservedFor(network, containerId)).toEqual(check.status === 0 ? addressesIn(again[0]) : [])
        }
      }),
    LIMIT,
  )
})

/** Requests by which a plugin that joins a bridge finds it, and goes on it: late with each of them in turn. */
const LATE_REQUESTS = 5

test.each(Array.from({ length: LATE_REQUESTS }, (_, number) => number + 1))(
  'an ADD that made a bridge and fails does not take it away from one that joins it, late with request %d',
  async late => {
    const path = mkdtempSync('/run/failing-ipam-')
    const script = `#!/bin/bash\n[ $CNI_COMMAND = ADD ] || exit 0\necho >${path}/begun\nread <${path}/end\nexit 1\n`
    writeFileSync(`${path}/failing`, script, { mode: 0o755 })
    Bun.spawnSync(['mkfifo', `${path}/begun`, `${path}/end`])
    using failing = freshNamespace('race')
    using joining = freshNamespace('race')
    using host = hostNamespace()
    const options = (container: Namespace, type: string): Call => ({
      netns: container,
      containerId: container.name,
      config: { type: 'bridge', bridge: 'race1', ipam: { ...ipam, type } },
      path: `${ours}:${path}`,
    })
    const maker = start(ourExecutable('bridge'), 'ADD', options(failing, 'failing'))
    await Bun.file(`${path}/begun`).text()
    const delay = `sendto:delay_enter=200000:when=${late}` // microseconds
    const joiner = start(traced(delay, ourExecutable('bridge')), 'ADD', options(joining, 'host-local'))
    await pause(150)
    Bun.spawnSync(['bash', '-c', `echo >${path}/end`])
    expect(await maker.ended).toMatchObject({ status: 1 })
    const joined = await joiner.ended
    expect(joined).toMatchObject({ status: 0 })
    const [, port] = joined.json.interfaces
    expect(host.link(port.name).master).toBe(host.link('race1').index)
    mustExecute(ourExecutable('bridge'), 'DEL', options(joining, 'host-local'))
    removeLink(host.route, 'race1')
    rmSync(path, { recursive: true })
  },
)
