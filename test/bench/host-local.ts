/**
 * host-local beside the Go one: what an ADD costs in a range that fills up, and addresses per second of many processes at once.
 * On a real disk, since fsync is a part of ours. usage: bash test/private.sh bun test/bench/host-local.ts [FOLDER]
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { hostLocal } from '../../ipam/host-local.ts'
import { mustCall, ourExecutable, peerExecutable } from '../fixtures/plugin.ts'
import { quantile } from './table.ts'

const sides = { ours: ourExecutable('host-local'), theirs: peerExecutable('host-local') }
type Side = keyof typeof sides

const parent = process.argv[2] ?? `${import.meta.dir}/../../.cache`
const ROUNDS = 15

function configuration(dataDir: string, subnet = '10.1.0.0/16'): Buffer {
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

/** A folder with the first addresses taken, as either side would have left it. */
function filledFolder(taken: number): { dataDir: string } & Disposable {
  const dataDir = mkdtempSync(`${parent}/host-local-`)
  mkdirSync(`${dataDir}/bench`)
  const address = (index: number) => `10.1.${index >> 8}.${index & 255}`
  for (let index = 2; index < taken + 2; index++) {
    writeFileSync(`${dataDir}/bench/${address(index)}`, `${idOf(index)}\r\neth0`, { mode: 0o600 })
  }
  if (taken > 0) writeFileSync(`${dataDir}/bench/last_reserved_ip.0`, address(taken + 1), { mode: 0o600 })
  return { dataDir, [Symbol.dispose]: () => rmSync(dataDir, { recursive: true }) }
}

const median = (values: readonly number[]) => quantile(values, 0.5)

function inMilliseconds(walls: Record<Side, number[]>): string[] {
  const [ours, theirs] = [median(walls.ours), median(walls.theirs)]
  return [ours.toFixed(1), theirs.toFixed(1), (ours / theirs).toFixed(2)]
}

/** Medians of ADD and DEL with so many addresses taken, the sides in turns. */
function atFill(taken: number): string[] {
  const walls: Record<'ADD' | 'DEL', Record<Side, number[]>> = {
    ADD: { ours: [], theirs: [] },
    DEL: { ours: [], theirs: [] },
  }
  using ours = filledFolder(taken)
  using theirs = filledFolder(taken)
  for (let round = 0; round < ROUNDS; round++) {
    for (const [side, { dataDir }] of [
      ['ours', ours],
      ['theirs', theirs],
    ] as const) {
      const given = { id: 100_000 + round, stdin: configuration(dataDir) }
      for (const verb of ['ADD', 'DEL'] as const) walls[verb][side].push(call(side, verb, given))
    }
  }
  return [taken.toLocaleString('en'), ...inMilliseconds(walls.ADD), ...inMilliseconds(walls.DEL)]
}

/** An exhausted range: how long the refusal takes. */
function whenFull(): string[] {
  const walls: Record<Side, number[]> = { ours: [], theirs: [] }
  using folder = filledFolder(65_533)
  for (let round = 0; round < 7; round++) {
    for (const side of ['ours', 'theirs'] as const) {
      walls[side].push(call(side, 'ADD', { id: 100_000 + round, stdin: configuration(folder.dataDir) }))
    }
  }
  return ['65,533 (full: refused)', ...inMilliseconds(walls), '', '', '']
}

/** Addresses per second, so many processes at a time. */
async function throughput(side: Side, processes: number, total: number): Promise<number> {
  const dataDir = mkdtempSync(`${parent}/host-local-`)
  const stdin = configuration(dataDir)
  let next = 0
  const worker = async () => {
    while (next < total) {
      const child = Bun.spawn([sides[side]], {
        env: environment('ADD', idOf(next++)),
        stdin,
        stdout: 'ignore',
      })
      if ((await child.exited) !== 0) throw new Error(`${side}: an ADD failed`)
    }
  }
  const start = Bun.nanoseconds()
  await Promise.all(Array.from({ length: processes }, worker))
  const seconds = (Bun.nanoseconds() - start) / 1e9
  rmSync(dataDir, { recursive: true })
  return total / seconds
}

/** As our bridge runs it: in its own process. */
async function inProcess(total: number): Promise<number> {
  const dataDir = mkdtempSync(`${parent}/host-local-`)
  const config = JSON.parse(configuration(dataDir).toString())
  const start = Bun.nanoseconds()
  for (let next = 0; next < total; next++) {
    await mustCall(hostLocal, 'ADD', { config, containerId: idOf(next), netns: '/run/netns/none' })
  }
  const seconds = (Bun.nanoseconds() - start) / 1e9
  rmSync(dataDir, { recursive: true })
  return total / seconds
}

function table(head: string[], rows: string[][]): string {
  return [head, head.map((_, index) => (index === 0 ? '---' : '--:')), ...rows]
    .map(row => `| ${row.join(' | ')} |`)
    .join('\n')
}

for (const side of ['ours', 'theirs'] as const) {
  using folder = filledFolder(0)
  for (let round = 0; round < 5; round++)
    call(side, 'ADD', { id: round, stdin: configuration(folder.dataDir) })
}
const rows = [0, 4000, 16_000, 60_000].map(atFill)
console.log(
  table(
    ['addresses taken', 'ADD ours, ms', 'theirs', 'ours ÷ theirs', 'DEL ours, ms', 'theirs', 'ours ÷ theirs'],
    [...rows, whenFull()],
  ),
)
const speeds: string[][] = []
for (const processes of [1, 8, 64]) {
  const runs: Record<Side, number[]> = { ours: [], theirs: [] }
  for (let round = 0; round < 3; round++) {
    for (const side of ['ours', 'theirs'] as const) runs[side].push(await throughput(side, processes, 400))
  }
  const [ours, theirs] = [median(runs.ours), median(runs.theirs)]
  speeds.push([`${processes}`, ours.toFixed(0), theirs.toFixed(0), (ours / theirs).toFixed(2)])
}
speeds.unshift(['none: in process, as bridge does', (await inProcess(400)).toFixed(0), '', ''])
console.log(`\n${table(['processes', 'ours, addresses/s', 'theirs', 'ours ÷ theirs'], speeds)}`)
