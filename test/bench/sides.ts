/** The three sides of the figures: the Go plugins, ours in processes of their own, ours done by a warm service; each on a host of its own. */
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
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

export interface Call {
  verb: 'ADD' | 'DEL' | 'VERSION'
  step: Step
  container: Container
  network: string
  previous: unknown
}

export function inputOf({ step, container, network, previous }: Call): string {
  const text = JSON.stringify({
    cniVersion: '1.1.0',
    name: network,
    ...step,
    ...(previous ? { prevResult: previous } : {}),
  })
  return text.replace(/"hostPort":(\d+)/g, (_, port) => `"hostPort":${Number(port) + container.number}`)
}

export function environmentOf(side: SideHost, { verb, container, step }: Call): Record<string, string> {
  return {
    ...side.environment,
    CNI_COMMAND: verb,
    CNI_CONTAINERID: container.id,
    CNI_NETNS: container.namespace.path,
    CNI_IFNAME: step.type === 'loopback' ? 'lo' : 'eth0',
    CNI_PATH: side.folder,
  }
}

export interface Timed {
  /** Milliseconds. */
  wall: number
  cpu: number
  output: string
}

export async function callPlugin(side: SideHost, call: Call): Promise<Timed> {
  const command = [`${side.folder}/${call.step.type}`]
  const options = {
    env: environmentOf(side, call),
    stdin: Buffer.from(inputOf(call)),
    stderr: 'pipe',
  } as const
  const started = Bun.nanoseconds()
  const child = side.host.inside(() => Bun.spawn(command, options))
  const [output, status] = await Promise.all([child.stdout.text(), child.exited])
  const wall = (Bun.nanoseconds() - started) / 1e6
  if (status !== 0)
    throw new Error(`${command} ${call.verb}: status ${status}: ${output}${await child.stderr.text()}`)
  return { wall, cpu: Number(child.resourceUsage()?.cpuTime.total ?? 0) / 1e3, output }
}

/** ADD of a list, or DEL with what ADD has answered. */
export async function runList(
  side: SideHost,
  list: Case,
  { container, verb, previous }: { container: Container; verb: 'ADD' | 'DEL'; previous?: unknown },
): Promise<{ wall: number; cpu: number; result: unknown }> {
  const sum = { wall: 0, cpu: 0, result: previous }
  for (const step of verb === 'ADD' ? list.plugins : list.plugins.toReversed()) {
    const call = { verb, step, container, network: `figures-${side.name}`, previous: sum.result }
    const { wall, cpu, output } = await callPlugin(side, call)
    sum.wall += wall
    sum.cpu += cpu
    if (verb === 'ADD') sum.result = JSON.parse(output)
  }
  return sum
}

let timer: string | undefined

/** One program started `rounds` times from C; milliseconds of each. */
export function timeFromC(side: SideHost, call: Call, rounds: number): number[] {
  timer ??= compileTimer()
  const folder = mkdtempSync('/run/figures-')
  writeFileSync(`${folder}/input`, inputOf(call))
  const { stdout, exitCode } = side.host.inside(() =>
    Bun.spawnSync([timer ?? '', String(rounds), `${folder}/input`, `${side.folder}/${call.step.type}`], {
      env: environmentOf(side, call),
    }),
  )
  if (exitCode !== 0)
    throw new Error(`${side.name} ${call.step.type} ${call.verb}: timer ended with ${exitCode}`)
  return stdout
    .toString()
    .trim()
    .split('\n')
    .map(line => Number(line) / 1e6)
}

function compileTimer(): string {
  const file = `${mkdtempSync('/run/timer-')}/timer`
  const { exitCode, stderr } = Bun.spawnSync(['gcc', '-O1', '-o', file, `${import.meta.dir}/timer.c`])
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
