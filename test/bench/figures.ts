/**
 * The figures that matter in one run: ours by a warm service and without one, beside the Go plugins. Prints tables, writes all of it as
 * JSON, and with --plots two plots as SVG. usage: figures.ts [--part N] [--json FILE] [--plots FOLDER]   N: a percentage of the rounds
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, release } from 'node:os'
import { parseArgs } from 'node:util'
import {
  type Container,
  type Cost,
  lists,
  newContainer,
  openSides,
  runList,
  type SideHost,
  type SideName,
  serviceSeconds,
  sides,
  workersMegabytes,
} from './sides.ts'
import { drawPlot, type Line } from './svg.ts'
import { quantile } from './table.ts'

type Of<T> = Record<SideName, T>

const { values } = parseArgs({
  options: {
    part: { type: 'string', default: '100' },
    json: { type: 'string', default: `${import.meta.dir}/../../.cache/bench/figures.json` },
    plots: { type: 'string' },
  },
})
const rounds = (usual: number) => Math.max(2, Math.round((usual * Number(values.part)) / 100))
const median = (numbers: readonly number[]) => quantile(numbers, 0.5)
const progress = (text: string) => console.error(`${Math.round(performance.now() / 1000)} s: ${text}`)

/** Sides in another order each time: what disturbs a round disturbs all of them. */
function shuffled(): SideName[] {
  return sides
    .map(side => ({ side, at: Math.random() }))
    .toSorted((one, other) => one.at - other.at)
    .map(({ side }) => side)
}

const empty = <T>(): Of<T[]> => ({ go: [], cold: [], warm: [] })

interface Row {
  work: string
  unit: string
  figures: Of<number>
  /** Ours ÷ Go, of pairs where there are pairs. */
  ratios: { cold: number; warm: number }
}

function rowOf(work: string, samples: Of<number[]>, unit = 'ms'): Row {
  const ratio = (side: 'cold' | 'warm') =>
    median(samples[side].map((value, round) => value / (samples.go[round] ?? Number.NaN)))
  return {
    work,
    unit,
    figures: { go: median(samples.go), cold: median(samples.cold), warm: median(samples.warm) },
    ratios: { cold: ratio('cold'), warm: ratio('warm') },
  }
}

/** ADD and DEL of a list, once. */
async function live(
  host: SideHost,
  { name, container }: { name: keyof typeof lists; container: Container },
): Promise<readonly [added: Cost, deleted: Cost]> {
  const { plugins } = lists[name]
  const [costs = []] = await runList(host, { plugins, verbs: ['ADD', 'DEL'], container }, 1)
  const [added, deleted] = costs
  if (added && deleted) return [added, deleted]
  throw new Error('the runner printed too little')
}

/** ADD and DEL of a list, again and again in one container of each side. */
async function measureList(name: keyof typeof lists, hosts: Of<SideHost>, containers: Of<Container>) {
  const [add, del, cpu] = [empty<number>(), empty<number>(), empty<number>()]
  const once = async (side: SideName) => {
    const before = side === 'warm' ? serviceSeconds() : 0
    const [added, deleted] = await live(hosts[side], { name, container: containers[side] })
    const service = side === 'warm' ? (serviceSeconds() - before) * 1000 : 0
    return { add: added.wall, del: deleted.wall, cpu: added.cpu + deleted.cpu + service }
  }
  for (const side of sides) await once(side)
  const count = rounds(24)
  for (let round = 0; round < count; round++) {
    for (const side of shuffled()) {
      const sample = await once(side)
      add[side].push(sample.add)
      del[side].push(sample.del)
      cpu[side].push(sample.cpu)
    }
  }
  return { add, del, cpu }
}

/** Chains that a service does before it is measured: each of its four workers has compiled by then most of what it runs. */
const WARMING = 320

/** What the first chain of a fresh service takes, and the rest that makes it a warm one. */
async function warmUp(host: SideHost, container: Container): Promise<{ add: number; del: number }> {
  const [added, deleted] = await live(host, { name: 'chain', container })
  await runList(host, { plugins: lists.chain.plugins, verbs: ['ADD', 'DEL'], container }, WARMING)
  return { add: added.wall, del: deleted.wall }
}

/** Small calls: what starting a process costs is most of them. */
async function measureSmall(hosts: Of<SideHost>, containers: Of<Container>): Promise<Row[]> {
  const interfaces = [{ name: 'eth0', sandbox: containers.go.namespace.path }]
  const prevResult = { cniVersion: '1.1.0', interfaces, ips: [] }
  const addresses = [{ address: '10.88.0.5/16' }]
  const calls = [
    { work: 'an answered VERSION', verb: 'VERSION', step: { type: 'tuning' } },
    {
      work: 'tuning ADD',
      verb: 'ADD',
      step: { type: 'tuning', sysctl: { 'net.core.somaxconn': '512' }, prevResult },
    },
    { work: 'loopback ADD', verb: 'ADD', step: { type: 'loopback' } },
    { work: 'static ADD', verb: 'ADD', step: { type: 'static', ipam: { type: 'static', addresses } } },
  ] as const
  const rows: Row[] = []
  for (const { work, verb, step } of calls) {
    const samples = empty<number>()
    for (let round = -1; round < rounds(30); round++) {
      for (const side of shuffled()) {
        const asked = { plugins: [step], verbs: [verb], container: containers[side] }
        const taken = await runList(hosts[side], asked, 8)
        if (round >= 0) samples[side].push(...taken.flatMap(costs => costs.map(({ wall }) => wall)))
      }
    }
    rows.push(rowOf(work, samples))
  }
  return rows
}

interface Crowd {
  add: Of<number[]>
  perSecond: Of<number>
}

/** Callers at once, each with a container of its own: chains of ADD and DEL as fast as they go. */
async function measureCallers(callers: number, hosts: Of<SideHost>, places: DisposableStack): Promise<Crowd> {
  const crowd: Crowd = { add: empty(), perSecond: { go: 0, cold: 0, warm: 0 } }
  const containers = Array.from({ length: callers }, () => newContainer(places))
  for (const side of shuffled()) {
    const chains = rounds({ go: 4, cold: 12, warm: 40 }[side])
    const { plugins } = lists.chain
    const all = (count: number) =>
      Promise.all(
        containers.map(container =>
          runList(hosts[side], { plugins, verbs: ['ADD', 'DEL'], container }, count),
        ),
      )
    await all(1)
    const started = performance.now()
    for (const costs of (await all(chains)).flat()) crowd.add[side].push(costs[0]?.wall ?? Number.NaN)
    crowd.perSecond[side] = (callers * chains) / ((performance.now() - started) / 1000)
  }
  return crowd
}

/** Containers that stay: the time of each ADD of the chain, on a host of its own. */
async function measureFilling(hosts: Of<SideHost>, places: DisposableStack): Promise<Of<number[]>> {
  const taken = empty<number>()
  for (let number = 0; number < rounds(200); number++) {
    for (const side of shuffled()) {
      const container = newContainer(places)
      const { plugins } = lists.chain
      const [costs] = await runList(hosts[side], { plugins, verbs: ['ADD'], container }, 1)
      taken[side].push(costs?.[0]?.wall ?? Number.NaN)
    }
  }
  return taken
}

/** Private memory of a service's only worker after so many calls, of chains one after the other. */
async function measureMemory(): Promise<{ calls: number; megabytes: number }> {
  using places = new DisposableStack()
  const hosts = await openSides(places, '--workers=1', '--most=1', '--calls=1000000', '--memory=1000')
  const container = newContainer(places)
  const chains = rounds(1250)
  await runList(hosts.warm, { plugins: lists.chain.plugins, verbs: ['ADD', 'DEL'], container }, chains)
  return { calls: chains * 2 * lists.chain.plugins.length, megabytes: Math.max(...workersMegabytes()) }
}

const show = (value: number) =>
  value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)

function table(rows: readonly Row[]): string {
  const lines = rows.map(
    ({ work, unit, figures: { go, cold, warm }, ratios }) =>
      `| ${work}, ${unit} | ${show(go)} | ${show(warm)} | ${show(cold)} | ${ratios.warm.toFixed(2)} | ${ratios.cold.toFixed(2)} |`,
  )
  return ['| work | Go | warm | cold | warm ÷ Go | cold ÷ Go |', '|---|--:|--:|--:|--:|--:|', ...lines].join(
    '\n',
  )
}

const colours: Of<string> = { go: '#c0392b', cold: '#2980b9', warm: '#27ae60' }
const words: Of<string> = { go: 'Go', cold: 'ours, cold', warm: 'ours, warm' }

/** Medians of twenty in a row: single ADDs are noise. */
function smooth(values: readonly number[]): [number, number][] {
  const width = Math.min(20, values.length)
  return values.slice(width - 1).map((_, at) => [at + width, median(values.slice(at, at + width))])
}

function plots(filling: Of<number[]>, crowds: ReadonlyMap<number, Crowd>): Record<string, string> {
  const parts = [
    [0.5, 'p50', false],
    [0.99, 'p99', true],
  ] as const
  const percentiles: Line[] = sides.flatMap(side =>
    parts.map(([part, name, dashed]) => ({
      name: `${words[side]}, ${name}`,
      colour: colours[side],
      dashed,
      points: [...crowds].map(([callers, { add }]) => [callers, quantile(add[side], part)] as const),
    })),
  )
  const growth = sides.map(side => ({
    name: words[side],
    colour: colours[side],
    points: smooth(filling[side]),
  }))
  return {
    'containers.svg': drawPlot({
      title: 'ADD of a chain of four, by containers on the node',
      x: 'containers (medians of 20)',
      y: 'ms',
      lines: growth,
    }),
    'callers.svg': drawPlot({
      title: 'ADD of a chain of four, by callers at once',
      x: 'callers',
      y: 'ms',
      lines: percentiles,
    }),
  }
}

async function main(): Promise<void> {
  const places = new DisposableStack()
  const load = loadavg()[0] ?? 0
  const machine = `${cpus().length} processors, Linux ${release()}, load ${load.toFixed(1)} before${load > 0.7 ? ' (others were at work: hold ratios, not milliseconds)' : ''}`
  const hosts = await openSides(places)
  const containers = { go: newContainer(places), cold: newContainer(places), warm: newContainer(places) }
  const first = await warmUp(hosts.warm, containers.warm)
  progress('small calls')
  const rows = await measureSmall(hosts, containers)
  progress('bridge with host-local')
  const bridge = await measureList('bridge', hosts, containers)
  rows.push(rowOf('bridge with host-local ADD', bridge.add), rowOf('bridge with host-local DEL', bridge.del))
  progress('chain of four')
  const chain = await measureList('chain', hosts, containers)
  rows.push(rowOf('chain of four ADD', chain.add), rowOf('chain of four DEL', chain.del))
  rows.push(rowOf('processor time of both', chain.cpu))
  const crowds = new Map<number, Crowd>()
  for (const callers of [1, 2, 4, 8]) {
    progress(`${callers} callers`)
    crowds.set(callers, await measureCallers(callers, hosts, places))
  }
  const most = crowds.get(8)
  if (most) {
    const { go, cold, warm } = most.perSecond
    const ratios = { cold: cold / go, warm: warm / go }
    rows.push({ work: '8 callers at once', unit: 'chains a second', figures: most.perSecond, ratios })
  }
  places.dispose()
  progress('memory')
  const memory = await measureMemory()
  progress('200 containers')
  using others = new DisposableStack()
  const full = await openSides(others)
  await warmUp(full.warm, newContainer(others))
  const filling = await measureFilling(full, others)
  const growth = sides.map(side => {
    const all = filling[side]
    return `${words[side]} ${(median(all.slice(-20)) / median(all.slice(0, 20))).toFixed(2)}`
  })
  const text = [
    machine,
    '',
    table(rows),
    '',
    `The first chain of a fresh service: ADD ${show(first.add)} ms, DEL ${show(first.del)} ms; measured after ${WARMING} more`,
    `${filling.go.length} containers: the last 20 ADDs ÷ the first 20: ${growth.join(', ')}`,
    `Private memory of a worker after ${memory.calls} calls: ${memory.megabytes.toFixed(1)} MB`,
    '',
  ].join('\n')
  console.log(text)
  writeFileSync(values.json, JSON.stringify({ machine, rows, first, filling, crowds: [...crowds], memory }))
  if (values.plots) {
    mkdirSync(values.plots, { recursive: true })
    for (const [name, svg] of Object.entries(plots(filling, crowds)))
      writeFileSync(`${values.plots}/${name}`, svg)
  }
  progress('done')
}

await main()
process.exit() // whatever a service has left waiting
