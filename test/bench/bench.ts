/** The benchmark: shuffled pairs of ours and theirs, each run on a host of its own; medians, and medians of paired ratios. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { cpus, loadavg, release } from 'node:os'
import { parseArgs } from 'node:util'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { ours, peers } from '../fixtures/plugin.ts'
import { hasFeature } from '../kernel/features.ts'
import { type Case, cases, type Step } from './cases.ts'
import { markdown, type Row, rowsOf, type Sample, type Side, type Verb } from './table.ts'

const folders: Record<Side, string> = { ours, theirs: peers }

/** What one run needs: a host and a container, kept until all rounds are over, since taking them down disturbs the next. */
interface Place {
  host: Namespace
  container: Namespace
  containerId: string
  path: string
  /** Disposed of when all rounds are over. */
  places: DisposableStack
}

function callPlugin(
  verb: Verb,
  step: Step,
  given: { side: Side; place: Place; interface: string; previous: unknown },
) {
  const { side, place, previous } = given
  const config = {
    cniVersion: '1.1.0',
    name: 'bench-net',
    ...step,
    ...(previous ? { prevResult: previous } : {}),
  }
  const env = {
    PATH: place.path,
    CNI_COMMAND: verb,
    CNI_CONTAINERID: place.containerId,
    CNI_NETNS: place.container.path,
    CNI_IFNAME: given.interface,
    CNI_PATH: folders[side],
  }
  const command = [`${folders[side]}/${step.type}`]
  const stdin = Buffer.from(JSON.stringify(config))
  return place.host.inside(() => {
    const start = Bun.nanoseconds()
    const child = Bun.spawnSync(command, { env, stdin })
    const wall = (Bun.nanoseconds() - start) / 1e6
    const output = child.stdout.toString()
    if (child.exitCode !== 0)
      throw new Error(`${command} ${verb}: status ${child.exitCode}: ${output}${child.stderr}`)
    return { wall, cpu: Number(child.resourceUsage.cpuTime.total) / 1e3, output }
  })
}

/** ADD of the whole list and DEL of it, as a runtime does them. */
function runOnce(each: Case, { side, round, place }: { side: Side; round: number; place: Place }): Sample[] {
  const samples: Sample[] = []
  const given = { side, place, interface: each.interface ?? 'eth0' }
  let previous: unknown
  const call = (verb: Verb, step: Step) => {
    const { wall, cpu, output } = callPlugin(verb, step, { ...given, previous })
    samples.push({ side, round, verb, type: step.type, wall, cpu })
    if (verb === 'ADD') previous = JSON.parse(output)
  }
  for (const step of each.plugins) call('ADD', step)
  for (const step of each.plugins.toReversed()) call('DEL', step)
  return samples
}

/** The page cache is filled by reading both sides' files in the same way: how it was filled matters by a millisecond. */
async function warm(each: Case): Promise<void> {
  for (const folder of sidesOf(each).map(side => folders[side])) {
    const types = each.plugins.flatMap(step => [step.type, ...ipamTypes(step)])
    for (const type of types) await Bun.file(`${folder}/${type}`).arrayBuffer()
  }
}

function ipamTypes({ ipam }: Step): string[] {
  return ipam && typeof ipam === 'object' && 'type' in ipam ? [String(ipam.type)] : []
}

/** The configuration of another container of the network: it publishes another port. */
function neighbour(each: Case, number: number): Case {
  const shifted = (text: string) =>
    text.replace(/"hostPort":(\d+)/g, (_, port) => `"hostPort":${Number(port) + number}`)
  return { ...each, plugins: JSON.parse(shifted(JSON.stringify(each.plugins))) }
}

/** ADDs containers that stay: a node has its bridge and its tables when the next one comes. */
function populate(each: Case, { side, place, count }: { side: Side; place: Place; count: number }): void {
  for (let number = 1; number <= count; number++) {
    const container = place.places.use(freshNamespace('neighbour'))
    const containerId = `${place.containerId}-neighbour-${number}`
    let previous: unknown
    for (const step of neighbour(each, number).plugins) {
      const given = {
        side,
        place: { ...place, container, containerId },
        interface: each.interface ?? 'eth0',
        previous,
      }
      previous = JSON.parse(callPlugin('ADD', step, given).output)
    }
  }
}

async function measure(
  each: Case,
  { rounds, neighbours }: { rounds: number; neighbours: number },
): Promise<Sample[]> {
  await warm(each)
  using places = new DisposableStack()
  const path = programFolder(each, places)
  const run = (side: Side, round: number) => {
    const place = newPlace(each, { path, places })
    using _programs = each.start?.(place.host, folders[side])
    populate(each, { side, place, count: neighbours })
    return runOnce(each, { side, round, place })
  }
  const sides = sidesOf(each)
  for (const side of sides) run(side, -1)
  return Array.from({ length: rounds }, (_, round) => {
    const order = Math.random() < 0.5 ? sides : sides.toReversed()
    return order.flatMap(side => run(side, round))
  }).flat()
}

function sidesOf({ alone }: Case): Side[] {
  return alone ? ['ours'] : ['ours', 'theirs']
}

let count = 0

function newPlace(each: Case, { path, places }: { path: string; places: DisposableStack }): Place {
  for (const folder of ['/var/lib/cni', '/run/cni', '/run/catena']) {
    rmSync(`${folder}/networks`, { recursive: true, force: true })
    if (folder !== '/var/lib/cni') rmSync(folder, { recursive: true, force: true })
  }
  const host = places.use(freshNamespace('host'))
  const container = places.use(freshNamespace('container'))
  const more = each.prepare?.(host)
  if (more) places.use(more)
  return { host, container, containerId: `container-${++count}`, path, places }
}

/** PATH: the machine's, or a folder with those programs that the case's host has. */
function programFolder({ programs }: Case, places: DisposableStack): string {
  if (!programs) return process.env.PATH ?? ''
  mkdirSync('/run/bench', { recursive: true })
  const folder = mkdtempSync('/run/bench/bin-')
  places.defer(() => rmSync(folder, { recursive: true }))
  for (const program of programs) symlinkSync(Bun.which(program) ?? program, `${folder}/${program}`)
  return folder
}

/** Why a case cannot be measured here, if so. */
function obstacle(each: Case): string | undefined {
  const missing = (each.needs ?? []).filter(feature => !hasFeature(feature))
  if (missing.length > 0) return `this kernel has no ${missing.join(', ')}`
  for (const type of each.plugins.flatMap(step => [step.type, ...ipamTypes(step)])) {
    const missing = sidesOf(each)
      .map(side => folders[side])
      .filter(folder => !existsSync(`${folder}/${type}`))
    if (missing.length > 0) return `there is no ${type} in ${missing.join(', ')}`
  }
  return undefined
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: 'string', default: '30' },
      neighbours: { type: 'string', default: '0' },
      json: { type: 'string', default: `${import.meta.dir}/../../.cache/bench/latest.json` },
      ours: { type: 'string', default: ours },
      theirs: { type: 'string', default: peers },
      list: { type: 'boolean' },
    },
  })
  folders.ours = values.ours
  folders.theirs = values.theirs
  if (values.list) return console.log(cases.map(({ name }) => name).join('\n'))
  const unknown = positionals.filter(name => !cases.some(each => each.name === name))
  if (unknown.length > 0) throw new Error(`no such case: ${unknown.join(', ')}; --list shows them all`)
  const wanted = cases.filter(({ name }) => positionals.length === 0 || positionals.includes(name))
  const rows: Row[] = []
  const samples: Record<string, Sample[]> = {}
  const left: string[] = []
  for (const each of wanted) {
    const why = obstacle(each)
    console.error(why ? `${each.name}: left out, ${why}` : each.name)
    if (why) {
      left.push(`${each.name}: ${why}`)
      continue
    }
    try {
      const measured = await measure(each, {
        rounds: Number(values.rounds),
        neighbours: Number(values.neighbours),
      })
      samples[each.name] = measured
      rows.push(...rowsOf(each, measured))
    } catch (thrown) {
      left.push(`${each.name} failed: ${(thrown as Error).message}`)
      process.exitCode = 1
    }
  }
  const machine = await describeMachine(Number(values.rounds), Number(values.neighbours))
  console.log(markdown(rows, { machine, left }))
  await Bun.write(values.json, JSON.stringify({ machine, rows, left, samples }))
}

async function describeMachine(rounds: number, neighbours: number): Promise<string> {
  const record = Bun.file(`${folders.theirs}/.version`)
  const version = (await record.exists()) ? (await record.text()).trim() : folders.theirs
  const nft = Bun.spawnSync(['nft', '--version']).stdout.toString().split(' ')[1]
  const load = loadavg()[0]?.toFixed(1)
  return `${rounds} shuffled pairs, ${neighbours} containers there before, ${cpus().length} CPUs, load ${load}, kernel ${release()}, nft ${nft}, Go plugins ${version}`
}

await main()
