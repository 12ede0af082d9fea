/** Beside the Go plugin: the same calls on two folders give the same bytes, answers and files; on one folder, one model holds. */
import { expect, test } from 'bun:test'
import { hostLocal } from '../../../ipam/host-local.ts'
import { type Call, call, execute, type Outcome, peerExecutable, type Verb } from '../../fixtures/plugin.ts'
import { dataFolder, reservations, tree } from './fixture.ts'

/** The same numbers for the same seed, so that a failure can be repeated (mulberry32). */
function numbersFrom(seed: number): (below: number) => number {
  let state = seed
  return below => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

type Random = ReturnType<typeof numbersFrom>

const pick = <T>(random: Random, list: readonly T[]): T => list[random(list.length)] as T

/** A range in the network of that number, with whatever may be left out left out now and then. */
function anyRange(random: Random, number: number, six: boolean): Record<string, string> {
  const prefix = six ? 124 + random(3) : 27 + random(4)
  const hosts = 2 ** ((six ? 128 : 32) - prefix)
  const at = (offset: number) => (six ? `fd00:${number}::${offset.toString(16)}` : `10.1.${number}.${offset}`)
  const [start = 0, end = 0] = [random(hosts), random(hosts)].toSorted((one, other) => one - other)
  return {
    subnet: `${at(0)}/${prefix}`,
    ...(random(3) === 0 ? { rangeStart: at(Math.min(start, hosts - 2)) } : {}),
    ...(random(3) === 0 ? { rangeEnd: at(Math.max(end, 1)) } : {}),
    ...(random(3) === 0 ? { gateway: at(random(hosts)) } : {}),
  }
}

function anyConfiguration(random: Random, cniVersion: string) {
  const old = cniVersion < '0.3'
  const sets = 1 + random(old ? 2 : 3)
  const families = old ? [false, true] : [random(2) === 0, random(2) === 0, true]
  let number = 0
  const ranges = Array.from({ length: sets }, (_, index) =>
    Array.from({ length: 1 + random(3) }, () => anyRange(random, ++number, families[index] ?? false)),
  )
  const routes = [
    { dst: '0.0.0.0/0' },
    { dst: '10.9.8.7/16', gw: '10.1.1.1' },
    { dst: 'FD00:0:0::/48', mtu: 1400, advmss: 0, priority: 5, table: 0, scope: 253 },
    { dst: '::/0', gw: 'FE80::0:1' },
  ].filter(() => random(3) === 0)
  return {
    ranges,
    ...(random(4) === 0 && !old ? anyRange(random, ++number, false) : {}),
    ...(routes.length > 0 ? { routes } : {}),
  }
}

const comparable = ({ status, stdout, json }: Outcome) =>
  status === 0 ? { status, stdout } : { status, failure: firstWords(json.msg) }

/** The reference's words; ours go on with numbers. */
function firstWords(message: string): string {
  return message.replace(/: \d+ of \d+ are in use$/, '')
}

interface Step {
  verb: Verb
  containerId: string
  interface: string
  args?: string
}

function anyStep(random: Random, requested: readonly string[]): Step {
  const step = { containerId: `c${random(6)}`, interface: pick(random, ['eth0', 'eth0', 'net1']) }
  const verb = pick(random, ['ADD', 'ADD', 'ADD', 'ADD', 'DEL', 'DEL', 'CHECK'] as const)
  return verb === 'ADD' && requested.length > 0 && random(4) === 0
    ? { ...step, verb, args: `IgnoreUnknown=1;X=y;IP=${pick(random, requested)}` }
    : { ...step, verb }
}

const versions = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0']

test.each(Array.from({ length: 40 }, (_, seed) => seed))(
  'the same calls give the same answers and the same files, byte for byte (configuration %i)',
  async seed => {
    const random = numbersFrom(seed)
    const cniVersion = versions[seed % versions.length] ?? '1.1.0'
    const ipam = anyConfiguration(random, cniVersion)
    // one set: a request that fails after another set gave an address leaves traces that differ on purpose
    const single = ipam.ranges.length === 1 && !('subnet' in ipam)
    const subnet = (ipam.ranges[0]?.[0]?.subnet ?? '').replace(/\/.*/, '')
    const requested = single ? [0, 1, 2, 3].map(offset => subnet.replace(/0?$/, `${offset}`)) : []
    using ours = dataFolder()
    using theirs = dataFolder()
    const within = requested.filter(text => isInRanges(text, ipam.ranges))
    for (let index = 0; index < 14; index++) {
      // the Go plugin makes the folder for a DEL as well
      const step = index === 0 ? { ...anyStep(random, []), verb: 'ADD' as const } : anyStep(random, within)
      if (step.verb === 'CHECK' && versions.indexOf(cniVersion) < 4) continue
      const calls = [ours, theirs].map(({ path }): Call => {
        const config = { cniVersion, ipam: { type: 'host-local', dataDir: path, ...ipam } }
        return { ...step, config, netns: '/run/netns/none' }
      })
      const mine = await call(hostLocal, step.verb, calls[0])
      const reference = execute(peerExecutable('host-local'), step.verb, calls[1])
      expect({ step, ...comparable(mine) }).toEqual({ step, ...comparable(reference) })
      if (mine.status === 0 || single) expect(tree(`${ours.path}`)).toEqual(tree(`${theirs.path}`))
    }
  },
)

/** Whether the Go plugin would look for a requested address in one of the ranges: those outside are refused in another order. */
function isInRanges(text: string, ranges: readonly (readonly Record<string, string>[])[]): boolean {
  const low = (address: string | undefined, otherwise: number) =>
    address === undefined
      ? otherwise
      : Number.parseInt(address.split(/[.:]/).at(-1) || '0', address.includes(':') ? 16 : 10)
  const range = ranges[0]?.[0]
  if (!range) return false
  const six = text.includes(':')
  const hosts = 2 ** ((six ? 128 : 32) - Number(range.subnet?.split('/')[1]))
  const value = low(text, 0)
  return value >= low(range.rangeStart, 1) && value <= low(range.rangeEnd, six ? hosts - 1 : hosts - 2)
}

test.each([1, 2, 3, 4])('the two take turns on one folder as if they were one (%i)', async seed => {
  const random = numbersFrom(seed)
  using folder = dataFolder()
  const ranges = [[{ subnet: '10.1.1.0/28' }]] // 13 addresses
  const config = { ipam: { type: 'host-local', dataDir: folder.path, ranges } }
  const held = new Map<string, string>()
  for (let index = 0; index < 60; index++) {
    const containerId = `c${random(16)}`
    const verb = pick(random, ['ADD', 'ADD', 'DEL'] as const)
    const options: Call = { config, containerId, netns: '/run/netns/none' }
    const outcome =
      random(2) === 0
        ? await call(hostLocal, verb, options)
        : execute(peerExecutable('host-local'), verb, options)
    const mayAdd = !held.has(containerId) && held.size < 13
    expect({ index, verb, containerId, status: outcome.status }).toEqual({
      index,
      verb,
      containerId,
      status: verb === 'DEL' || mayAdd ? 0 : 1,
    })
    if (verb === 'DEL') held.delete(containerId)
    else if (mayAdd) held.set(containerId, outcome.json.ips[0].address.replace('/28', ''))
    const model = Object.fromEntries(Array.from(held, ([id, address]) => [address, `${id}\r\neth0`]))
    expect(reservations(folder.path)).toEqual(model)
  }
})

test.each([
  ['host bits', [[{ subnet: '10.1.2.3/24' }]]],
  ['a subnet without prefix', [[{ subnet: '10.1.2.0' }]]],
  ['no subnet', [[{ rangeStart: '10.1.2.1' }]]],
  ['too small', [[{ subnet: '10.1.2.0/31' }]]],
  ['a start outside', [[{ subnet: '10.1.2.0/24', rangeStart: '10.1.3.1' }]]],
  ['an end outside', [[{ subnet: '10.1.2.0/24', rangeEnd: '10.1.3.1' }]]],
  ['an end before the start', [[{ subnet: '10.1.2.0/24', rangeStart: '10.1.2.9', rangeEnd: '10.1.2.8' }]]],
  ['an end before the default start', [[{ subnet: '10.1.2.0/24', rangeEnd: '10.1.2.0' }]]],
  ['an empty set', [[]]],
  ['no sets', []],
  ['mixed families', [[{ subnet: '10.1.2.0/24' }, { subnet: 'fd00::/64' }]]],
  ['ranges that overlap', [[{ subnet: '10.1.2.0/24' }, { subnet: '10.1.2.0/25' }]]],
  ['sets that overlap', [[{ subnet: '10.1.2.0/24' }], [{ subnet: '10.1.2.128/25' }]]],
  ['a gateway that is none', [[{ subnet: '10.1.2.0/24', gateway: 'x' }]]],
])('what the Go plugin refuses is refused: %s', async (_, ranges) => {
  using folder = dataFolder()
  const config = { ipam: { type: 'host-local', dataDir: folder.path, ranges } }
  const options = { config, netns: '/run/netns/none' }
  const statuses = [
    execute(peerExecutable('host-local'), 'ADD', options).status,
    (await call(hostLocal, 'ADD', options)).status,
  ]
  expect(statuses).toEqual([1, 1])
})
