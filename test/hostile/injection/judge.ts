/** Disturbs ADD or DEL of a case at one point, and tells by what is left whether the answer was true. */

import { every } from '../../contract/attachment.ts'
import { withoutMemory } from '../../fixtures/bridge.ts'
import { freshNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { type Call, call, mustCall, type Outcome, ours } from '../../fixtures/plugin.ts'
import { difference, type Snapshot, snapshot } from '../../fixtures/snapshot.ts'
import type { Case, Step } from './cases.ts'
import { type Ended, type Point, placesOf, type Run, runWith } from './points.ts'
import { heldWorker } from './worker-held.ts'

export type DisturbedVerb = 'ADD' | 'DEL'

const delegates = Object.values(every)

/** Whose calls are disturbed where a service does them. The second kernel's, which is slow, has its own already. */
const held =
  process.env.CATENA_TEST_WARM && process.env.CATENA_TEST_KERNEL !== 'second' ? heldWorker() : undefined

export interface Scene {
  judged: Case
  container: Namespace
  /** The result of what came before. */
  previous: unknown
  /** Host and container with what came before, and without what the case makes. */
  state: Snapshot
  /** The same without what came before. */
  empty: Snapshot
}

/** A container with what the case needs; what the first call makes for all that follow is there. */
export async function sceneOf(judged: Case): Promise<Scene> {
  await held?.begin()
  const scene: Scene = {
    judged,
    container: freshNamespace('injection'),
    previous: undefined,
    state: [],
    empty: [],
  }
  for (const _ of [1, 2]) {
    await begin(scene)
    await cleanly(scene, 'DEL', (await cleanly(scene, 'ADD')).json)
    await end(scene)
    scene.empty = stateOf(scene)
  }
  await begin(scene)
  return scene
}

/** Calls the plugins that come before. */
async function begin(scene: Scene): Promise<void> {
  const { judged, container } = scene
  scene.previous = undefined
  judged.prepare?.(container)
  for (const step of judged.before ?? []) {
    scene.previous = await mustCall(pluginOf(step), 'ADD', callOf({ ...scene, step }))
  }
  scene.state = stateOf(scene)
}

async function end(scene: Scene): Promise<void> {
  const { judged } = scene
  for (const step of (judged.before ?? []).toReversed())
    await mustCall(pluginOf(step), 'DEL', callOf({ ...scene, step }))
  judged.tidy?.()
}

/** Takes all of it away. */
export async function leave(scene: Scene): Promise<void> {
  await end(scene)
  scene.container[Symbol.dispose]()
  await held?.end()
}

function pluginOf({ type }: Step) {
  const plugin = every[type]
  if (!plugin) throw new Error(`there is no plugin ${type}`)
  return plugin
}

function configOf(step: Step, previous: unknown): object {
  return {
    cniVersion: '1.0.0',
    name: 'injection',
    ...step,
    ...(previous === undefined ? {} : { prevResult: previous }),
  }
}

function callOf(given: { container: Namespace; step: Step; previous: unknown }): Call {
  const { container, step, previous } = given
  return { delegates, netns: container, containerId: 'injected', config: configOf(step, previous) }
}

/** Undisturbed, in this process. */
function cleanly(scene: Scene, verb: 'ADD' | 'CHECK' | 'DEL', result?: unknown): Promise<Outcome> {
  const { judged, container, previous } = scene
  const step = judged.step
  return call(pluginOf(step), verb, callOf({ container, step, previous: result ?? previous }))
}

/**
 * Where host-local looks first, which it then holds against the reservations; a bridge that is open to 127.0.0.1, with its
 * guard, which is everybody's; and what of our tables is no member's, while somebody still needs them.
 */
function isUnowned({ judged }: Scene, line: string): boolean {
  if (/^file \/run\/catena\/(host-local|localnet)\/|"name":"route_localnet"/.test(line)) return true
  return (
    judged.before !== undefined && /^nft .*"table":"catena"/.test(line) && !/"elem"|conditions-/.test(line)
  )
}

function stateOf(scene: Scene): Snapshot {
  const { judged, container } = scene
  return [
    ...withoutMemory(snapshot())
      .filter(line => !isUnowned(scene, line))
      .map(line => `host: ${line}`),
    ...snapshot(container).map(line => `container: ${line}`),
    ...(judged.sysctls ?? []).map(key => `container: ${key} = ${container.sysctl(key)}`),
  ]
}

function runOf({ judged, container, previous }: Scene, verb: DisturbedVerb, result?: unknown): Run {
  return {
    type: judged.step.type,
    environment: {
      PATH: process.env.PATH ?? '',
      CNI_COMMAND: verb,
      CNI_CONTAINERID: 'injected',
      CNI_NETNS: container.path,
      CNI_IFNAME: 'eth0',
      CNI_PATH: ours,
      ...(held ? {} : { CATENA_WARM: 'off' }), // of a call that a service does, a tracer sees nothing
    },
    stdin: JSON.stringify(configOf(judged.step, result ?? previous)),
    startsPrograms: judged.startsPrograms ?? false,
  }
}

/** The calls of a verb. */
export async function callsOf(scene: Scene, verb: DisturbedVerb) {
  const result = verb === 'DEL' ? (await cleanly(scene, 'ADD')).json : undefined
  const run = runOf(scene, verb, result)
  const places = held ? await held.placesOf(run) : placesOf(run)
  await cleanly(scene, 'DEL', result)
  await end(scene)
  await begin(scene)
  return places
}

/** Disturbs one call; answers what is wrong with what came of it, or that the point was not reached. */
export async function judge(
  scene: Scene,
  verb: DisturbedVerb,
  point: Point,
): Promise<{ reached: boolean; faults: string[] }> {
  const added = verb === 'DEL' ? await cleanly(scene, 'ADD') : undefined
  const run = runOf(scene, verb, added?.json)
  const ended = held ? await held.runWith(run, point) : runWith(run, point)
  const faults = ended ? await faultsOf(scene, ended, { verb, ...point }) : []
  if (held) faults.push(...(await held.faults()))
  // a DEL that says success is believed: what it left is found in the end
  if (verb === 'ADD' || ended?.status !== 0) {
    const after = await cleanly(scene, 'DEL')
    if (after.status !== 0) faults.push(`the DEL after it fails: ${after.stdout}`)
  }
  await end(scene)
  faults.push(...leftSince(scene, 'empty').map(line => `in the end: ${line}`))
  if (faults.length > 0) await mend(scene)
  await begin(scene)
  return { reached: ended !== undefined, faults }
}

/** So that what is left is told once. */
async function mend(scene: Scene): Promise<void> {
  await cleanly(scene, 'DEL')
  scene.judged.tidy?.()
  scene.empty = stateOf(scene)
}

/** So many lines tell what kind of thing is left; a whole ruleset has hundreds. */
const TOLD = 4

function leftSince(scene: Scene, when: 'state' | 'empty'): string[] {
  const { added, gone } = difference(scene[when], stateOf(scene))
  const lines = [...added.map(line => `left: ${line}`), ...gone.map(line => `gone: ${line}`)]
  return lines.length > TOLD ? [...lines.slice(0, TOLD), `and ${lines.length - TOLD} lines more`] : lines
}

async function faultsOf(
  scene: Scene,
  ended: Ended,
  { verb, error }: Point & { verb: DisturbedVerb },
): Promise<string[]> {
  if (error === 'killed') return [] // what it had begun is the DEL's that follows
  if (ended.status !== 0) {
    // Undoing may need descriptors as well: then DEL has to do it.
    const left = verb === 'DEL' || error === 'EMFILE for good' ? [] : leftSince(scene, 'state')
    return [...faultsOfAnswer(ended), ...left.map(line => `failure: ${line}`)]
  }
  if (verb === 'DEL') return []
  const { status, stdout } = await cleanly(scene, 'CHECK', JSON.parse(ended.stdout))
  return status === 0 ? [] : [`success, and CHECK says ${stdout}`]
}

/** A failure is one document on standard output that says what failed, and status 1. */
function faultsOfAnswer({ status, signal, stdout, stderr }: Ended): string[] {
  const how =
    status === 1 && signal === undefined
      ? []
      : [`ended by ${signal ?? `status ${status}`}: ${stderr.slice(0, 300)}`]
  try {
    const { code, msg, details = '' } = JSON.parse(stdout)
    const isPlain =
      typeof code === 'number' && typeof msg === 'string' && !/\n\s+at /.test(`${msg}${details}`)
    return isPlain ? how : [...how, `no error document: ${stdout}`]
  } catch {
    return [...how, `no document: ${JSON.stringify(stdout)}`]
  }
}
