/**
 * The warm service is killed, or its caller is, at points spread evenly over what a worker does for a call of every plugin: no leak, no
 * wrong answer, no caller waits. A sample; CATENA_LONG=1 tries more than 200 points of each kind, and prints what came of them.
 */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { mkdirSync, rmSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { callStep, hostState } from '../contract/attachment.ts'
import { type Node, type Row, rows, type Step, titleOf } from '../contract/rows.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { type Call, type Outcome, ourExecutable, start } from '../fixtures/plugin.ts'
import { difference } from '../fixtures/snapshot.ts'
import { hasFeature, testOn } from '../kernel/features.ts'
import {
  type BuiltService,
  builtService,
  compileStrike,
  descriptorsOf,
  type Stroke,
  type Struck,
  strike,
} from './built-service.ts'

const folder = '/run/strikes'
const isLong = process.env.CATENA_LONG !== undefined
/** Points in each kind that a row is tried with. */
const POINTS = isLong ? 5 : 1
/** After so many of its workers' deaths, all of them young, a service takes its time to start the next one. */
const DEATHS = 3

let program: string
let service: BuiltService | undefined
let deaths = 0
const tally: Record<string, number> = {}
/** Milliseconds that somebody waited longer than a process of his own takes: a caller whose worker died, a DEL behind a killed caller. */
const waits: { milliseconds: number; over: string }[] = []
/** More of them is no load of the machine's, and was none of the service's. */
const PATIENCE = 100 + 2000
/** A DHCP server answers when it likes. */
const waitsForOthers = ({ plugin }: Row) => plugin === 'dhcp'

beforeAll(() => {
  mkdirSync(folder)
  program = compileStrike(folder)
})
afterAll(async () => {
  await service?.end()
  rmSync(folder, { recursive: true })
  const late = waits.toSorted((one, other) => one.milliseconds - other.milliseconds)
  const told = [late[late.length >> 1], ...late.slice(-3)].map(
    each => `${each?.milliseconds.toFixed()} ms, ${each?.over}`,
  )
  if (isLong)
    console.log(JSON.stringify({ ...tally, 'waited longer (median; the longest)': told }, undefined, 2))
})

async function workerAtHand(): Promise<number> {
  if (deaths >= DEATHS) await service?.end()
  if (deaths >= DEATHS || !service) service = await builtService()
  if (deaths >= DEATHS) deaths = 0
  return service.worker()
}

/**
 * How many descriptors a worker has open, once the kernel is done with what was deleted last, and the worker has looked. Where more are
 * open than there should be it is looked again for some seconds: on a busy machine the kernel takes its time.
 */
async function openOf(worker: number, atMost = Number.POSITIVE_INFINITY): Promise<number> {
  for (let count = 1; ; count++) {
    await pause(100)
    service?.worker()
    await pause(20) // until it is done with this caller as well
    const open = descriptorsOf(worker)
    if (count > 1 && (open <= atMost || count === 30)) return open
  }
}

const MISSED = 'was over before'

function count(what: string): void {
  tally[what] = (tally[what] ?? 0) + 1
}

/** A container on a row's network, and the step of its list that the row is about. */
interface Scene {
  network: string
  container: Namespace
  steps: Step[]
  index: number
  /** What the steps before have answered. */
  prevResult: unknown
}

let networks = 0

async function sceneOn(node: Node, { plugin }: Row, network: string): Promise<Scene> {
  const container = freshNamespace('struck')
  const steps = node.steps(container)
  const index = steps.findIndex(
    step => step.type === plugin || (step.ipam as { type?: string } | undefined)?.type === plugin,
  )
  let prevResult: unknown
  for (const step of steps.slice(0, index)) {
    const config = { ...step, ...(prevResult ? { prevResult } : {}) }
    const { json, status } = await callStep('ADD', config, {
      network,
      container,
      netns: container,
      environment: { CATENA_WARM: 'off' },
    })
    if (status !== 0) throw new Error(`ADD of ${step.type}: ${JSON.stringify(json)}`)
    prevResult = json
  }
  return { network, container, steps, index, prevResult }
}

interface Kind {
  whom: 'worker' | 'caller'
  verb: 'ADD' | 'DEL'
}

const kinds: readonly Kind[] = (['worker', 'caller'] as const).flatMap(whom =>
  (['ADD', 'DEL'] as const).map(verb => ({ whom, verb })),
)

/** All four, or in a sample two: ADD and DEL, the worker and the caller. */
function kindsFor(place: number): readonly Kind[] {
  return isLong ? kinds : kinds.filter((_, index) => (index % 3 === 0) === (place % 2 === 0))
}

/** The struck step's plugin, as an executable; a document of a failed ADD is no prevResult. */
function callOf({ network, container, steps, index, prevResult }: Scene, result?: unknown) {
  const { type: plugin, ...config } = steps[index] as Step
  const previous = result ?? prevResult
  return {
    plugin,
    call: {
      netns: container,
      containerId: container.name,
      config: { name: network, type: plugin, ...config, ...(previous ? { prevResult: previous } : {}) },
    },
  }
}

/** Where a loaded machine has not let the worker take a call in time. */
const USUAL_CALLS = 200

function execute(
  verb: Kind['verb'],
  scene: Scene,
  { result, environment }: { result?: unknown; environment?: Call['environment'] } = {},
): Promise<Outcome> {
  const { plugin, call } = callOf(scene, result)
  return start(ourExecutable(plugin), verb, { ...call, ...(environment ? { environment } : {}) }).ended
}

/** Without a strike: how many system calls a worker makes for a call. */
async function unhurt(
  stroke: Omit<Stroke, 'point' | 'whom'>,
  verb: Kind['verb'],
  { scene, result }: { scene: Scene; result?: unknown },
): Promise<Struck> {
  const struck = await strike(
    { ...stroke, whom: 'caller', point: Number.MAX_SAFE_INTEGER },
    { verb, ...callOf(scene, result) },
  )
  if (struck.status !== 0) throw new Error(`${verb} failed: ${JSON.stringify(struck)}`)
  return { ...struck, calls: struck.calls || USUAL_CALLS }
}

/** What a caller was told, in a word; throws where that is no answer of a plugin's. */
function answerOf({ status, stdout, stderr }: Struck, { whom, verb }: Kind): string {
  if (whom === 'caller' && status === 137) return 'killed'
  const ends = /\{\n {2}"cniVersion": "1.0.0",\n {2}"code": 11,[^{}]*\}\n$/
  if (status === 1 && whom === 'worker' && ends.test(stdout)) return 'try again later'
  if (status === 0 && stderr === '' && (verb === 'ADD' ? JSON.parse(stdout).cniVersion : stdout === ''))
    return 'done'
  throw new Error(`no answer: ${status} ${stdout} ${stderr}`)
}

/** Strikes once; then the runtime deletes, at once, and nothing is left. */
async function strikeOnce(
  node: Node,
  row: Row,
  { kind, network, fraction, usual }: { kind: Kind; network: string; fraction: number; usual: Usual },
): Promise<void> {
  const { whom, verb } = kind
  const worker = await workerAtHand()
  const scene = await sceneOn(node, row, network)
  const { container } = scene
  let result: unknown
  if (verb === 'DEL') result = mustDo(await execute('ADD', scene))
  const point = 1 + Math.floor(fraction * usual.calls[verb])
  const struck = await strike({ program, worker, whom, point }, { verb, ...callOf(scene, result) })
  if (whom === 'worker' && struck.fell) deaths++
  const answer = answerOf(struck, kind)
  count(`${whom} killed in ${verb}: ${struck.fell ? answer : MISSED}`)
  if (verb === 'ADD' && answer === 'done') {
    result = JSON.parse(struck.stdout)
    const { type, ...config } = scene.steps[scene.index] as Step
    mustDo(
      await callStep(
        'CHECK',
        { type, ...config, prevResult: result },
        { network, container, netns: container },
      ),
    )
  }
  const over = `${titleOf(row)}, ${whom} killed in ${verb} at ${point}: ${answer}`
  if (whom === 'worker' && !waitsForOthers(row))
    waits.push({ over, milliseconds: struck.milliseconds - usual.cold[verb] })
  const begun = performance.now()
  if (!(verb === 'DEL' && answer === 'done')) mustDo(await execute('DEL', scene, { result }))
  if (whom === 'caller' && !waitsForOthers(row))
    waits.push({ over, milliseconds: performance.now() - begun - usual.cold.DEL })
  expect(waits.filter(({ milliseconds }) => milliseconds > PATIENCE)).toEqual([])
  await leave(node, scene)
  expect({ ...kind, point, left: container.links().map(({ name }) => name) }).toEqual({
    ...kind,
    point,
    left: ['lo'],
  })
  container[Symbol.dispose]()
}

/** What comes before the struck plugin goes, and what is not the plugins' to remove. */
async function leave(node: Node, { network, container, steps, index, prevResult }: Scene): Promise<void> {
  for (const step of steps.slice(0, index).toReversed()) {
    mustDo(await callStep('DEL', { ...step, prevResult }, { network, container, netns: container }))
  }
  await node.tidy?.(container)
}

function mustDo({ status, stdout, stderr, json }: Outcome): unknown {
  if (status !== 0 || stderr !== '') throw new Error(`status ${status}: ${stdout}${stderr}`)
  return json
}

/** What a call of a row's plugin takes without a strike. */
interface Usual {
  /** System calls of the worker. */
  calls: Record<Kind['verb'], number>
  /** Milliseconds, in a process of its own. */
  cold: Record<Kind['verb'], number>
}

async function usualOf(node: Node, row: Row, network: string): Promise<Usual> {
  const warm = await sceneOn(node, row, network)
  const stroke = { program, worker: await workerAtHand() }
  const { calls: ADD, stdout } = await unhurt(stroke, 'ADD', { scene: warm })
  const { calls: DEL } = await unhurt(stroke, 'DEL', { scene: warm, result: JSON.parse(stdout) })
  const own = await sceneOn(node, row, network)
  const cold = { ADD: 0, DEL: 0 }
  for (const verb of ['ADD', 'DEL'] as const) {
    const begun = performance.now()
    mustDo(await execute(verb, own, { environment: { CATENA_WARM: 'off' } }))
    cold[verb] = performance.now() - begun
  }
  for (const scene of [warm, own]) {
    await leave(node, scene)
    scene.container[Symbol.dispose]()
  }
  return { calls: { ADD, DEL }, cold }
}

async function survives(row: Row, place: number): Promise<void> {
  const network = `struck-${process.pid}-${++networks}`
  await workerAtHand()
  await using node = await row.node()
  const neighbour = await sceneOn(node, row, network)
  const neighbours = mustDo(await execute('ADD', neighbour))
  const before = hostState()
  const usual = await usualOf(node, row, network)
  const worker = await workerAtHand()
  const open = await openOf(worker)
  for (const [index, kind] of kindsFor(place).toReversed().entries()) {
    for (let each = 0; each < POINTS; each++) {
      const fraction = (each + (((place * kinds.length + index) * GOLDEN) % 1)) / POINTS
      await strikeOnce(node, row, { kind, network, fraction, usual })
      const { added, gone } = difference(before, hostState())
      expect({ ...kind, fraction, added, gone }).toEqual({ ...kind, fraction, added: [], gone: [] })
    }
    if (kind.whom === 'caller') expect(await openOf(worker, open)).toBeLessThanOrEqual(open)
  }
  mustDo(await execute('DEL', neighbour, { result: neighbours }))
  await leave(node, neighbour)
  neighbour.container[Symbol.dispose]()
}

/** Fractions that follow each other by this lie evenly, however many there are. */
const GOLDEN = (Math.sqrt(5) - 1) / 2

/** The sample leaves the second kernel alone, where a row takes as long as five here. */
const isTried = ({ needs = [] }: Row) => isLong || needs.every(hasFeature)

for (const [place, row] of rows.filter(isTried).entries()) {
  const title = `${titleOf(row)}: whoever is killed in a call, nothing is left and the next one works`
  if (row.needs) testOn(row.needs, title, () => survives(row, place), 300_000)
  else test(title, () => survives(row, place), 300_000)
}

test('most strokes fell while the service was at it', () => {
  const counts = Object.entries(tally)
  const all = counts.reduce((sum, [, times]) => sum + times, 0)
  const missed = counts.reduce((sum, [what, times]) => sum + (what.endsWith(MISSED) ? times : 0), 0)
  expect(missed).toBeLessThanOrEqual(all / 4)
})
