/** One container on a row's network: the plugins of its list called as a runtime calls them, from the first to the last and back. */
import { plugins } from '../../chain/catena.ts'
import type { Plugin } from '../../chain/plugin/define.ts'
import { withoutMemory } from '../fixtures/bridge.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { type Call, call, mustCall, type Outcome, type Verb } from '../fixtures/plugin.ts'
import { type Snapshot, snapshot } from '../fixtures/snapshot.ts'
import type { Node, Step } from './rows.ts'

/** Every plugin of the executable, by its type. */
export const every: Readonly<Record<string, Plugin>> = Object.fromEntries(
  await Promise.all(Object.entries(plugins).map(async ([type, { load }]) => [type, await load()] as const)),
)

const delegates = Object.values(every)

export interface Attachment {
  container: Namespace
  steps: Step[]
  /** The last result of ADD. */
  result: unknown
}

/** The host as the plugins should leave it: without what host-local keeps by intention. */
export function hostState(): Snapshot {
  return withoutMemory(snapshot())
}

/** Calls the plugin of one step. */
export function callStep(
  verb: Verb,
  { type, ...config }: Step,
  { network, container, ...more }: { network: string; container?: Namespace } & Call,
): Promise<Outcome> {
  const plugin = every[type]
  if (!plugin) throw new Error(`there is no plugin ${type}`)
  const containerId = container ? { containerId: container.name } : {}
  return call(plugin, verb, {
    delegates,
    ...containerId,
    ...more,
    config: { name: network, type, ...config },
  })
}

/** ADD of a list for a new container. */
export async function attach({ steps: stepsFor }: Pick<Node, 'steps'>, network: string): Promise<Attachment> {
  const container = freshNamespace('contract')
  const steps = stepsFor(container)
  let result: unknown
  for (const { type, ...config } of steps) {
    const plugin = every[type]
    if (!plugin) throw new Error(`there is no plugin ${type}`)
    const prevResult = result === undefined ? {} : { prevResult: result }
    result = await mustCall(plugin, 'ADD', {
      delegates,
      netns: container,
      containerId: container.name,
      config: { name: network, type, ...config, ...prevResult },
    })
  }
  return { container, steps, result }
}

export interface Deletion {
  network: string
  /** CNI_NETNS. */
  netns: string | undefined
  steps: Step[]
  prevResult: unknown
}

/** DEL of a list, backwards, over all plugins whatever became of the others; answers what failed. */
export async function detach(
  { container }: Attachment,
  { network, netns, steps, prevResult }: Deletion,
): Promise<string[]> {
  const failures: string[] = []
  for (const step of steps.toReversed()) {
    const config = { ...step, ...(prevResult === undefined ? {} : { prevResult }) }
    const { status, stdout } = await callStep('DEL', config, { network, container, netns })
    if (status !== 0) failures.push(`${step.type}: ${stdout}`)
  }
  return failures
}
