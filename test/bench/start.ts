/**
 * What a start costs: VERSION, which does nothing else, and a small ADD; the static executable, the same on a node that keeps no records
 * of calls, Bun's own and Go's in turn.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, release } from 'node:os'
import { parseArgs } from 'node:util'
import { NODE_WIDE } from '../../chain/plugin/state.ts'
import { freshNamespace } from '../fixtures/namespace.ts'
import { ours, peers } from '../fixtures/plugin.ts'
import { quantile } from './table.ts'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '300' },
    plain: { type: 'string', default: `${import.meta.dir}/../../.cache/plain` },
  },
})
const rounds = Number(values.rounds)
const sides = { static: ours, 'without records': ours, plain: values.plain, go: peers }
type Side = keyof typeof sides

interface Cost {
  wall: number
  cpu: number
}

using container = freshNamespace('container')
const config = {
  cniVersion: '1.1.0',
  name: 'start-net',
  type: 'tuning',
  sysctl: { 'net.core.somaxconn': '512' },
}
const prevResult = { cniVersion: '1.1.0', interfaces: [{ name: 'eth0', sandbox: container.path }], ips: [] }
const stdin = Buffer.from(JSON.stringify({ ...config, prevResult }))

/** The file is the private host's. */
function keepRecords(areKept: boolean): void {
  mkdirSync('/etc/cni', { recursive: true })
  if (areKept) rmSync(NODE_WIDE, { force: true })
  else writeFileSync(NODE_WIDE, '{"records": false}')
}

function call(folder: string, verb: string): Cost {
  const env = {
    CNI_COMMAND: verb,
    CNI_CONTAINERID: 'start',
    CNI_NETNS: container.path,
    CNI_IFNAME: 'eth0',
    CNI_PATH: folder,
  }
  const start = Bun.nanoseconds()
  const child = Bun.spawnSync([`${folder}/tuning`], { env, stdin })
  const wall = (Bun.nanoseconds() - start) / 1e6
  if (child.exitCode !== 0) throw new Error(`${folder}/tuning ${verb}: ${child.stdout}${child.stderr}`)
  return { wall, cpu: Number(child.resourceUsage.cpuTime.total) / 1e3 }
}

/** The page cache forgets the files and reads them from start to end: how it was filled matters by a millisecond. */
function readAgain(): void {
  for (const folder of Object.values(sides)) {
    Bun.spawnSync(['dd', `of=${folder}/tuning`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0'])
    call(folder, 'VERSION') // the loader says first which pages it wants to be large
    Bun.spawnSync(['dd', `if=${folder}/tuning`, 'of=/dev/null', 'bs=1M'])
  }
}

readAgain()
console.log(
  `${cpus().length} processors, Linux ${release()}, load ${loadavg()[0]?.toFixed(1)}, ${rounds} rounds\n`,
)
console.log('| call | side | wall ms: median | p10 | processor ms | ÷ plain, of pairs: median | quartiles |')
console.log('|---|---|--:|--:|--:|--:|--:|')
for (const verb of ['VERSION', 'ADD']) {
  const costs: Record<Side, Cost[]> = { static: [], 'without records': [], plain: [], go: [] }
  for (let round = 0; round < rounds; round++) {
    const order = (Object.keys(sides) as Side[]).map(side => ({ side, at: Math.random() }))
    for (const { side } of order.sort((one, other) => one.at - other.at)) {
      keepRecords(side !== 'without records')
      costs[side].push(call(sides[side], verb))
    }
  }
  for (const side of Object.keys(sides) as Side[]) {
    const wall = costs[side].map(cost => cost.wall)
    const ratios = costs[side].map((cost, round) => cost.wall / (costs.plain[round]?.wall ?? Number.NaN))
    const show = (part: number, of: number[]) => quantile(of, part).toFixed(2)
    const cpu = show(
      0.5,
      costs[side].map(cost => cost.cpu),
    )
    console.log(
      `| ${verb} | ${side} | ${show(0.5, wall)} | ${show(0.1, wall)} | ${cpu} | ${show(0.5, ratios)} | ${show(0.25, ratios)}–${show(0.75, ratios)} |`,
    )
  }
  if (verb !== 'ADD') continue // VERSION leaves none
  const records = costs.static.map(
    ({ cpu }, round) => cpu - (costs['without records'][round]?.cpu ?? Number.NaN),
  )
  console.log(`\na record costs ${quantile(records, 0.5).toFixed(2)} ms of processor time, median of pairs`)
}
