/** `catena ipam` over networks of ours, of the Go plugins and of runtimes that are gone. */
import { describe, expect, test } from 'bun:test'
import { mkdirSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import { describeIpam } from '../../chain/cli/ipam/print.ts'
import { prometheusText } from '../../chain/cli/ipam/prometheus.ts'
import { type IpamReport, type NetworkReport, rateOf } from '../../chain/cli/ipam/report.ts'
import { styleFor } from '../../chain/cli/render.ts'
import { removeNamespace } from '../../chain/linux/netns.ts'
import { bridgeChain, CONFIGURATIONS, freshNode } from '../fixtures/node.ts'
import { ourExecutable } from '../fixtures/plugin.ts'

function catena(...words: string[]) {
  const { exitCode, stdout, stderr } = Bun.spawnSync([ourExecutable('catena'), 'ipam', ...words], {
    env: { PATH: process.env.PATH, NETCONFPATH: CONFIGURATIONS },
  })
  return { status: exitCode, stdout: `${stdout}`, stderr: `${stderr}` }
}

const report = (...words: string[]): IpamReport => JSON.parse(catena(...words).stdout)

const networkOf = (name: string, { networks }: IpamReport): NetworkReport => {
  const found = networks.filter(({ network }) => network === name)
  expect(found).toHaveLength(1)
  return found[0] as NetworkReport
}

const RESERVATIONS = '/var/lib/cni/networks'
const POD: [string, string][] = [
  ['IgnoreUnknown', '1'],
  ['K8S_POD_NAMESPACE', 'shop'],
  ['K8S_POD_NAME', 'web-0'],
]
const HOUR = 3_600_000

/** A reservation as host-local writes it, of a while ago. */
function reserve(folder: string, address: string, containerId: string, age = HOUR): void {
  mkdirSync(folder, { recursive: true })
  writeFileSync(`${folder}/${address}`, `${containerId}\r\neth0`)
  const then = (Date.now() - age) / 1000
  utimesSync(`${folder}/${address}`, then, then)
}

describe('a node', () => {
  test('live addresses of our plugins and of the Go plugins, leaked ones, and what is not given', async () => {
    await using node = await freshNode()
    node.network('ours', '10.31.0.0/28')
    node.network('theirs', '10.32.0.0/24')
    await node.add('ours', 'web', {
      args: POD,
    })
    const gone = await node.add('theirs', 'db', { by: 'go' })
    await node.add('theirs', 'api', { by: 'go' })
    removeNamespace(gone.netns)
    reserve(`${RESERVATIONS}/theirs`, '10.32.0.2', 'db', 2 * HOUR)
    rmSync('/var/lib/cni/results', { recursive: true })
    const all = report()
    expect(all.shape).toBe('catena-ipam-1')
    expect(networkOf('ours', all)).toMatchObject({
      folder: `${RESERVATIONS}/ours`,
      sources: [`${CONFIGURATIONS}/ours.conflist`],
      ranges: [
        {
          subnet: '10.31.0.0/28',
          first: '10.31.0.1',
          last: '10.31.0.14',
          gateway: '10.31.0.1',
          size: 13,
          used: 1,
          live: 1,
          leaked: 0,
          unknown: 0,
          free: 12,
          reserved: 3,
        },
      ],
      outside: 0,
      problems: [],
    })
    const theirs = networkOf('theirs', all)
    expect(theirs.ranges[0]).toMatchObject({ size: 253, used: 2, live: 1, leaked: 1, free: 251, reserved: 3 })
    expect(theirs.addresses.map(({ address, state, containerId }) => [address, state, containerId])).toEqual([
      ['10.32.0.2', 'leaked', 'db'],
      ['10.32.0.3', 'live', 'api'],
    ])
    expect(theirs.addresses[0]?.evidence).toEqual([
      'no cache knows container db',
      'no link of any namespace has it',
    ])
  })

  test('who has which, by the name that people know; and nothing of other networks', async () => {
    await using node = await freshNode()
    node.network('ours', '10.31.0.0/28')
    node.network('other', '10.33.0.0/28')
    await node.add('ours', 'web', {
      args: POD,
    })
    const { networks } = report('ours')
    expect(networks.map(({ network }) => network)).toEqual(['ours'])
    expect(networks[0]?.addresses).toMatchObject([
      { address: '10.31.0.2', name: 'shop/web-0', ifname: 'eth0' },
    ])
    const missing = catena('nosuch')
    expect(missing.status).toBe(1)
    expect(JSON.parse(missing.stdout)).toMatchObject({
      msg: 'host-local keeps no addresses of a network nosuch',
      details: 'it does for other, ours',
    })
  })

  test('a full range is exit status 1, and so is one that is as full as was asked', async () => {
    await using node = await freshNode()
    node.network('small', '10.31.0.0/29')
    for (const last of [2, 3, 4]) reserve(`${RESERVATIONS}/small`, `10.31.0.${last}`, `c${last}`)
    expect([catena().status, catena('--full', '61').status, catena('--full', '60').status]).toEqual([0, 0, 1])
    for (const last of [5, 6]) reserve(`${RESERVATIONS}/small`, `10.31.0.${last}`, `c${last}`)
    expect(catena().status).toBe(1)
    const [range] = networkOf('small', report()).ranges
    expect(range).toMatchObject({ used: 5, free: 0, fullAt: expect.any(String) })
  })

  test('two families, a folder of its own, a part of a subnet, and addresses in no range', async () => {
    await using node = await freshNode()
    const dataDir = '/run/ipam-test'
    const ipam = {
      type: 'host-local',
      dataDir,
      ranges: [
        [{ subnet: '10.31.0.0/24', rangeStart: '10.31.0.100', rangeEnd: '10.31.0.199' }],
        [{ subnet: 'fd00:31::/64' }],
      ],
    }
    node.network('dual', '', bridgeChain('dual', '', { ipam }))
    try {
      reserve(`${dataDir}/dual`, '10.31.0.100', 'a')
      reserve(`${dataDir}/dual`, '10.31.0.7', 'b')
      reserve(`${dataDir}/dual`, 'fd00:31::2', 'a')
      writeFileSync(`${dataDir}/dual/last_reserved_ip.0`, '10.31.0.100')
      writeFileSync(`${dataDir}/dual/lock`, '')
      const { ranges, outside, folder } = networkOf('dual', report())
      expect({ folder, outside }).toEqual({ folder: `${dataDir}/dual`, outside: 1 })
      expect(ranges).toMatchObject([
        { first: '10.31.0.100', last: '10.31.0.199', size: 100, used: 1, free: 99, reserved: 156 },
        { first: 'fd00:31::1', size: Number(2n ** 64n - 2n), used: 1, reserved: 2 },
      ])
    } finally {
      rmSync(dataDir, { recursive: true })
    }
  })

  test("a network whose file is gone, one of podman's or nerdctl's in another folder, and flannel's", async () => {
    await using node = await freshNode()
    node.network('kept', '10.31.0.0/24')
    await node.add('kept', 'web')
    rmSync(`${CONFIGURATIONS}/kept.conflist`)
    const other = '/run/ipam-podman'
    const subnetFile = '/run/ipam-subnet.env'
    node.network('cbr0', '', [{ type: 'flannel', subnetFile }])
    try {
      reserve(`${other}/podman`, '10.88.0.2', 'f'.repeat(64))
      writeFileSync(
        subnetFile,
        'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1450\n',
      )
      reserve(`${RESERVATIONS}/cbr0`, '10.244.3.2', 'pod')
      const all = report('--data-dir', `${other}/`)
      expect(networkOf('kept', all)).toMatchObject({
        sources: ['a cache'],
        ranges: [{ subnet: '10.31.0.0/24', used: 1 }],
      })
      expect(networkOf('podman', all)).toMatchObject({
        sources: [],
        ranges: [],
        outside: 1,
        addresses: [{ address: '10.88.0.2' }],
      })
      expect(networkOf('cbr0', all).ranges).toMatchObject([
        { subnet: '10.244.3.0/24', first: '10.244.3.1', last: '10.244.3.254', size: 253, used: 1 },
      ])
    } finally {
      rmSync(other, { recursive: true })
      rmSync(subnetFile)
    }
  })

  test('a configuration that cannot be read is told of; a torn reservation is unowned', async () => {
    await using node = await freshNode()
    node.network('broken', '10.31.0.1/24')
    reserve(`${RESERVATIONS}/broken`, '10.31.0.9', 'c')
    truncateSync(`${RESERVATIONS}/broken/10.31.0.9`)
    const old = (Date.now() - HOUR) / 1000
    utimesSync(`${RESERVATIONS}/broken/10.31.0.9`, old, old)
    const { problems, ranges, addresses } = networkOf('broken', report())
    expect(problems).toEqual([expect.stringContaining('Network has host bits set')])
    expect(ranges).toEqual([])
    expect(addresses).toMatchObject([{ address: '10.31.0.9', state: 'leaked', name: '' }])
  })
})

describe('how long they last', () => {
  test('by the shortest while in which enough was given', () => {
    const minutes = (...ages: number[]) => ages.map(age => age * 60_000)
    expect(rateOf(minutes(5, 20, 50))).toBe(3 / HOUR)
    expect(rateOf(minutes(5, 20, 90))).toBe(3 / (24 * HOUR))
    expect(rateOf(minutes(5, 20, 90, 60 * 24 * 9))).toBe(3 / (24 * HOUR))
    expect(rateOf(minutes(5, 20))).toBeUndefined()
    expect(rateOf(minutes(60 * 24 * 8, 60 * 24 * 9, 60 * 24 * 10))).toBeUndefined()
  })

  test('ten in an hour with 243 left: a day', async () => {
    await using node = await freshNode()
    node.network('busy', '10.31.0.0/24')
    for (let last = 2; last < 12; last++)
      reserve(`${RESERVATIONS}/busy`, `10.31.0.${last}`, `c${last}`, HOUR / 2)
    const all = report()
    const [range] = networkOf('busy', all).ranges
    expect(range).toMatchObject({ free: 243, perHour: 10 })
    const hours = (Date.parse(range?.fullAt ?? '') - Date.parse(all.at)) / HOUR
    expect(hours).toBeCloseTo(24.3, 1)
  })
})

const one: NetworkReport = {
  network: 'web',
  folder: '/var/lib/cni/networks/web',
  sources: ['/etc/cni/net.d/10-a-network-with-a-long-name.conflist'],
  ranges: [
    {
      subnet: 'fd00:1234:5678:9abc::/64',
      first: 'fd00:1234:5678:9abc::1',
      last: 'fd00:1234:5678:9abc:ffff:ffff:ffff:ffff',
      gateway: 'fd00:1234:5678:9abc::1',
      size: 2 ** 64,
      used: 2,
      live: 1,
      leaked: 1,
      unknown: 0,
      free: 2 ** 64,
      reserved: 2,
    },
  ],
  outside: 1,
  addresses: [
    {
      address: 'fd00:1234:5678:9abc::2',
      state: 'live',
      containerId: 'c1',
      ifname: 'eth0',
      name: 'a-namespace-of-some-team/a-pod-with-a-name-of-many-words-0',
      since: '2026-01-01T00:00:00.000Z',
      evidence: ['eth0 has it'],
    },
    {
      address: 'fd00:1234:5678:9abc::3',
      state: 'leaked',
      containerId: '\u001b[31mred',
      name: '\u001b[31mred',
      since: '2026-01-01T00:00:00.000Z',
      evidence: ['no cache knows it', 'no link of any namespace has it'],
    },
  ],
  problems: [],
}
const sample: IpamReport = {
  shape: 'catena-ipam-1',
  at: '2026-01-02T00:00:00.000Z',
  networks: [one],
  unreadable: [],
}

test.each([40, 80])('on %d columns no line is longer, and nothing of a container moves the cursor', width => {
  const shown = describeIpam(sample, { style: styleFor({ isTerminal: false }), width, isFull: true })
  expect(shown).not.toContain('\u001b')
  for (const line of shown.split('\n')) expect(Bun.stringWidth(line)).toBeLessThanOrEqual(width)
  expect(shown).toContain('1 leaked')
  expect(shown).toContain('24 h ago')
})

/** What promtool checks: every line of the grammar, HELP and TYPE once and before their samples, no series twice. */
function checkPrometheus(text: string): Map<string, number> {
  expect(text).toEndWith('\n')
  const series = new Map<string, number>()
  const typed = new Set<string>()
  for (const line of text.trimEnd().split('\n')) {
    const help = /^# HELP ([a-zA-Z_:][\w:]*) (\S.*)$/.exec(line)
    const type = /^# TYPE ([a-zA-Z_:][\w:]*) (gauge|counter)$/.exec(line)
    if (help) {
      expect(typed.has(help[1] ?? '')).toBe(false)
      continue
    }
    if (type) {
      expect(typed.has(type[1] ?? '')).toBe(false)
      typed.add(type[1] ?? '')
      continue
    }
    const sample =
      /^([a-zA-Z_:][\w:]*)(\{([a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)+\})? (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)$/.exec(
        line,
      )
    if (!sample) throw new Error(`no line of the format: ${line}`)
    const [, name = '', labels = '', , value] = sample
    expect(typed.has(name)).toBe(true)
    expect([...typed].at(-1)).toBe(name) // one metric's samples stand together
    expect(series.has(name + labels)).toBe(false)
    series.set(name + labels, Number(value))
  }
  return series
}

describe('metrics', () => {
  test('are of the text format, whatever a network is called', () => {
    const odd = { ...one, network: 'a"b\\c\nd' }
    const series = checkPrometheus(prometheusText({ ...sample, networks: [one, odd] }))
    const labels = (network: string) =>
      `{network="${network}",folder="/var/lib/cni/networks/web",subnet="fd00:1234:5678:9abc::/64",range="fd00:1234:5678:9abc::1-fd00:1234:5678:9abc:ffff:ffff:ffff:ffff"}`
    expect(series.get(`catena_ipam_addresses${labels('web')}`)).toBe(2 ** 64)
    expect(series.get(`catena_ipam_leaked_addresses${labels('a\\"b\\\\c\\nd')}`)).toBe(1)
    expect(series.get('catena_ipam_read_timestamp_seconds')).toBe(1767312000)
  })

  test('by the command', async () => {
    await using node = await freshNode()
    node.network('ours', '10.31.0.0/28')
    reserve(`${RESERVATIONS}/ours`, '10.31.0.2', 'c')
    const { status, stdout, stderr } = catena('--prometheus')
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    const series = checkPrometheus(stdout)
    const range =
      '{network="ours",folder="/var/lib/cni/networks/ours",subnet="10.31.0.0/28",range="10.31.0.1-10.31.0.14"}'
    expect(series.get(`catena_ipam_free_addresses${range}`)).toBe(12)
    expect(series.get(`catena_ipam_leaked_addresses${range}`)).toBe(1)
  })
})
