/**
 * host-local beside the Go one: what an ADD and a DEL cost in a range that fills up, how soon a full one is refused, and addresses
 * per second of many processes at once. On a real disk, since fsync is a part of ours. Takes minutes: the Go plugin reads every file.
 * usage: bash test/private.sh bun test/bench/host-local.ts [FOLDER]
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { hostLocal } from '../../ipam/host-local.ts'
import { mustCall, ourExecutable, peerExecutable } from '../fixtures/plugin.ts'
import { quantile } from './table.ts'

const sides = { ours: ourExecutable('host-local'), theirs: peerExecutable('host-local') }
type Side = keyof typeof sides

const parent = process.argv[2] ?? `${import.meta.dir}/../../.cache`
const ROUNDS = 9

function configuration(dataDir: string, subnet: string): Buffer {
  const ipam = { type: 'host-local', dataDir, ranges: [[{ subnet }]] }
  return Buffer.from(JSON.stringify({ cniVersion: '1.1.0', name: 'bench', type: 'bridge', ipam }))
}

function environment(verb: string, containerId: string): Record<string, string> {
  return {
    CNI_COMMAND: verb,
    CNI_CONTAINERID: containerId,
    CNI_IFNAME: 'eth0',
    CNI_NETNS: '/run/netns/none',
    CNI_PATH: '/none',
  }
}

const idOf = (number: number) => `${number}`.padStart(64, 'a')

/** One call, in milliseconds from spawn to exit. */
function call(side: Side, verb: string, { id, stdin }: { id: number; stdin: Buffer }): number {
  const env = environment(verb, idOf(id))
  const start = Bun.nanoseconds()
  const { exitCode, stdout } = Bun.spawnSync([sides[side]], { env, stdin })
  const wall = (Bun.nanoseconds() - start) / 1e6
  if (exitCode !== 0 && !stdout.includes('no IP addresses available')) throw new Error(`${side}: ${stdout}`)
  return wall
}

interface Network {
  subnet: string
  /** The address of that number. */
  address(index: number): string
}

const ipv4: Network = {
  subnet: '10.1.0.0/16',
  address: index => `10.1.${index >> 8}.${index & 255}`,
}
const ipv6: Network = { subnet: 'fd00::/64', address: index => `fd00::${index.toString(16)}` }

/** A folder with the first addresses taken, as either side would have left it. */
function filledFolder(taken: number, { address }: Network): { dataDir: string } & Disposable {
  const dataDir = mkdtempSync(`${parent}/host-local-`)
  mkdirSync(`${dataDir}/bench`)
  for (let index = 2; index < taken + 2; index++) {
    writeFileSync(`${dataDir}/bench/${address(index)}`, `${idOf(index)}\r\neth0`, { mode: 0o600 })
  }
  if (taken > 0) writeFileSync(`${dataDir}/bench/last_reserved_ip.0`, address(taken + 1), { mode: 0o600 })
  return { dataDir, [Symbol.dispose]: () => rmSync(dataDir, { recursive: true }) }
}

const median = (values: readonly number[]) => quantile(values, 0.5)

type Walls = Record<Side, number[]>

function inMilliseconds(walls: Walls): string[] {
  const [ours, theirs] = [median(walls.ours), median(walls.theirs)]
  return [ours.toFixed(1), theirs.toFixed(1), (ours / theirs).toFixed(2)]
}

/**
 * Medians of ADD and DEL with so many addresses taken, the sides in turns. The very first ADD is told apart: ours reads what
 * another program has written, once.
 */
function atFill(taken: number, network: Network): string[] {
  const walls: Record<'ADD' | 'DEL', Walls> = {
    ADD: { ours: [], theirs: [] },
    DEL: { ours: [], theirs: [] },
  }
  using ours = filledFolder(taken, network)
  using theirs = filledFolder(taken, network)
  const sides = { ours, theirs }
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [side, { dataDir }] of Object.entries(sides) as [Side, { dataDir: string }][]) {
      const given = { id: 100_000 + round, stdin: configuration(dataDir, network.subnet) }
      for (const verb of ['ADD', 'DEL'] as const) walls[verb][side].push(call(side, verb, given))
    }
  }
  const first = walls.ADD.ours.shift() ?? 0
  walls.DEL.ours.shift()
  return [
    `${taken.toLocaleString('en')} of ${network.subnet}`,
    ...inMilliseconds(walls.ADD),
    first.toFixed(1),
    ...inMilliseconds(walls.DEL),
  ]
}

/** An exhausted range: how long the refusal takes, of a folder that no plugin of ours has seen, and of one that was found full before. */
function whenFull(): string[][] {
  const first: Walls = { ours: [], theirs: [] }
  const again: Walls = { ours: [], theirs: [] }
  using folder = filledFolder(65_533, ipv4)
  const stdin = configuration(folder.dataDir, ipv4.subnet)
  for (let round = 0; round < 7; round++) {
    rmSync('/run/catena', { recursive: true, force: true })
    for (const side of ['ours', 'theirs'] as const) {
      first[side].push(call(side, 'ADD', { id: 100_000 + round, stdin }))
      again[side].push(call(side, 'ADD', { id: 200_000 + round, stdin }))
    }
  }
  return [
    ['the first time', ...inMilliseconds(first)],
    ['again', ...inMilliseconds(again)],
  ]
}

/** ADDs per second, then DELs per second, so many processes at a time. */
async function throughput(side: Side, processes: number, total: number): Promise<number[]> {
  const dataDir = mkdtempSync(`${parent}/host-local-`)
  const stdin = configuration(dataDir, ipv4.subnet)
  const rates: number[] = []
  for (const verb of ['ADD', 'DEL']) {
    let next = 0
    const worker = async () => {
      while (next < total) {
        const env = environment(verb, idOf(next++))
        const child = Bun.spawn([sides[side]], { env, stdin, stdout: 'ignore' })
        if ((await child.exited) !== 0) throw new Error(`${side}: a call of ${verb} failed`)
      }
    }
    const start = Bun.nanoseconds()
    await Promise.all(Array.from({ length: processes }, worker))
    rates.push(total / ((Bun.nanoseconds() - start) / 1e9))
  }
  const left = readdirSync(`${dataDir}/bench`).filter(name => name.startsWith('10.'))
  if (left.length > 0) throw new Error(`${side}: ${left.length} addresses were not freed`)
  rmSync(dataDir, { recursive: true })
  return rates
}

/** As our bridge runs it: in its own process. */
async function inProcess(total: number): Promise<number[]> {
  const dataDir = mkdtempSync(`${parent}/host-local-`)
  const config = JSON.parse(configuration(dataDir, ipv4.subnet).toString())
  const rates: number[] = []
  for (const verb of ['ADD', 'DEL'] as const) {
    const start = Bun.nanoseconds()
    for (let next = 0; next < total; next++) {
      await mustCall(hostLocal, verb, { config, containerId: idOf(next), netns: '/run/netns/none' })
    }
    rates.push(total / ((Bun.nanoseconds() - start) / 1e9))
  }
  rmSync(dataDir, { recursive: true })
  return rates
}

async function rates(processes: number): Promise<string[]> {
  const runs: Record<Side, number[][]> = { ours: [], theirs: [] }
  for (let round = 0; round < 3; round++) {
    for (const side of ['ours', 'theirs'] as const) runs[side].push(await throughput(side, processes, 200))
  }
  const cells = [0, 1].flatMap(verb => {
    const [ours, theirs] = [runs.ours, runs.theirs].map(side => median(side.map(pair => pair[verb] ?? 0)))
    return [ours, theirs, (ours ?? 0) / (theirs ?? 1)].map(
      (each, index) => each?.toFixed(index < 2 ? 0 : 2) ?? '',
    )
  })
  return [`${processes}`, ...cells]
}

function print(title: string, head: string[], rows: string[][]): void {
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`
  const rule = head.map((_, index) => (index === 0 ? '---' : '--:'))
  console.log(`\n${title}\n\n${[head, rule, ...rows].map(line).join('\n')}`)
}

const both = (what: string) => [`${what} ours`, 'Go', 'ours ÷ Go']

for (const side of ['ours', 'theirs'] as const) {
  using folder = filledFolder(0, ipv4) // the executables get into memory
  for (let round = 0; round < 5; round++) {
    call(side, 'ADD', { id: round, stdin: configuration(folder.dataDir, ipv4.subnet) })
  }
}
print(
  'Milliseconds of a process, by addresses taken',
  ['taken', ...both('ADD'), 'the first ADD ours', ...both('DEL')],
  [
    ...[0, 4000, 16_000, 60_000].map(taken => atFill(taken, ipv4)),
    ...[0, 60_000].map(taken => atFill(taken, ipv6)),
  ],
)
print('Milliseconds until an exhausted /16 is refused', ['', ...both('ADD')], whenFull())
const inside = (await inProcess(200)).map(rate => rate.toFixed(0))
const speeds = [['none: in process, as bridge does', inside[0] ?? '', '', '', inside[1] ?? '', '', '']]
for (const processes of [1, 8, 64]) speeds.push(await rates(processes))
print('Addresses per second', ['processes', ...both('ADD'), ...both('DEL')], speeds)
