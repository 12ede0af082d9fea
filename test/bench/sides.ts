/** The three sides of the figures: the Go plugins, ours in processes of their own, ours done by a warm service; each on a host of its own. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { askStatus } from '../../chain/service/client.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { ours, peers } from '../fixtures/plugin.ts'
import { type Case, cases, type Step } from './cases.ts'

export const sides = ['go', 'cold', 'warm'] as const
export type SideName = (typeof sides)[number]

/** The lists that the figures are about. */
export const lists = {
  chain: named('chain-figures'),
  bridge: named('bridge'),
} as const

function named(name: string): Case {
  const found = cases.find(each => each.name === name)
  if (!found) throw new Error(`there is no case ${name}`)
  return found
}

export interface SideHost {
  name: SideName
  folder: string
  host: Namespace
  environment: Record<string, string>
}

export interface Container {
  namespace: Namespace
  id: string
  /** Tells its published port from those of others. */
  number: number
}

let count = 0

export function newContainer(places: DisposableStack): Container {
  count++
  return { namespace: places.use(freshNamespace('figure')), id: `figure-${count}`, number: count }
}

/** The hosts of all sides; a service runs on that of the warm one, with these options. */
export async function openSides(
  places: DisposableStack,
  ...flags: string[]
): Promise<Record<SideName, SideHost>> {
  const open = (name: SideName): SideHost => ({
    name,
    folder: name === 'go' ? peers : ours,
    host: places.use(freshNamespace(name)),
    environment: { PATH: process.env.PATH ?? '', ...(name === 'cold' ? { CATENA_WARM: 'off' } : {}) },
  })
  const opened = { go: open('go'), cold: open('cold'), warm: open('warm') }
  await startService(opened.warm, places, flags)
  return opened
}

async function startService(
  side: SideHost,
  places: DisposableStack,
  flags: readonly string[],
): Promise<void> {
  mkdirSync('/run/catena', { recursive: true })
  const child = side.host.inside(() =>
    Bun.spawn([`${ours}/catena`, 'serve', ...flags], { stdin: 'ignore', stdout: 'ignore', stderr: 'pipe' }),
  )
  places.defer(() => child.kill('SIGKILL')) // its workers end with it
  await child.stderr.getReader().read() // that it serves
  if (!askStatus(10_000)) throw new Error('the service does not answer')
}

/** Seconds of processor time that the service's processes have had. */
export function serviceSeconds(): number {
  const workers = askStatus()?.workers.map(({ process }) => process) ?? []
  const parents = workers.map(pid => Number(fieldsOf(pid)[1])).slice(0, 1)
  const ticks = [...workers, ...parents].map(pid => Number(fieldsOf(pid)[11]) + Number(fieldsOf(pid)[12]))
  return ticks.reduce((sum, each) => sum + each, 0) / 100
}

/** proc_pid_stat(5), from the state on: parent at 1, utime and stime at 11 and 12. */
function fieldsOf(pid: number): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  return text.slice(text.lastIndexOf(')') + 2).split(' ')
}

/** What is called, in what container, in which turn. */
export interface Work {
  plugins: readonly Step[]
  verbs: readonly ('ADD' | 'DEL' | 'VERSION')[]
  container: Container
}

/** Milliseconds that one verb of a list took, and of processor. */
export interface Cost {
  wall: number
  cpu: number
}

function environmentOf(side: SideHost, { plugins, container }: Work): Record<string, string> {
  return {
    ...side.environment,
    CNI_CONTAINERID: container.id,
    CNI_NETNS: container.namespace.path,
    CNI_IFNAME: plugins[0]?.type === 'loopback' ? 'lo' : 'eth0',
    CNI_PATH: side.folder,
  }
}

/** The configurations of a list as files; each container publishes a port of its own. */
function writeConfigurations(side: SideHost, { plugins, container }: Work): string {
  const folder = mkdtempSync('/run/figures-')
  for (const [index, step] of plugins.entries()) {
    const text = JSON.stringify({ cniVersion: '1.1.0', name: `figures-${side.name}`, ...step })
    const own = text.replace(
      /"hostPort":(\d+)/g,
      (_, port) => `"hostPort":${Number(port) + container.number}`,
    )
    writeFileSync(`${folder}/${index}.json`, own)
  }
  return folder
}

let runner: string | undefined

/** Runs a list so many times from a small program in C; answers the costs of its verbs, in their order, each time. */
export async function runList(side: SideHost, work: Work, count: number): Promise<Cost[][]> {
  runner ??= compileRunner()
  const folder = writeConfigurations(side, work)
  const words = [String(count), work.verbs.join(','), folder, ...work.plugins.map(({ type }) => type)]
  const options = { env: environmentOf(side, work), stderr: 'pipe' } as const
  const child = side.host.inside(() => Bun.spawn([runner ?? '', ...words], options))
  const [output, said, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited])
  if (status !== 0) throw new Error(`${side.name}: ${said}`)
  rmSync(folder, { recursive: true })
  return output.trim().split('\n').map(costsIn)
}

function costsIn(line: string): Cost[] {
  const numbers = line
    .trim()
    .split(' ')
    .map(each => Number(each) / 1e6)
  return numbers.flatMap((wall, at) => (at % 2 === 0 ? [{ wall, cpu: numbers[at + 1] ?? 0 }] : []))
}

function compileRunner(): string {
  const file = `${mkdtempSync('/run/chain-')}/chain`
  const { exitCode, stderr } = Bun.spawnSync(['gcc', '-O1', '-o', file, `${import.meta.dir}/chain.c`])
  if (exitCode !== 0) throw new Error(stderr.toString())
  return file
}

/** Private memory of the workers, in MB. */
export function workersMegabytes(): number[] {
  const workers = askStatus()?.workers ?? []
  return workers.map(({ process }) => {
    const rollup = readFileSync(`/proc/${process}/smaps_rollup`, 'utf8')
    const kilobytes = [...rollup.matchAll(/^Private_\w+:\s+(\d+)/gm)].reduce(
      (sum, [, each]) => sum + Number(each),
      0,
    )
    return kilobytes / 1024
  })
}
