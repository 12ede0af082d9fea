/** `catena doctor`: what containers have and have left, examined and, where it is a leftover, mended. */

import type { NodeModel } from '../../observe/model.ts'
import { CniError, code, toCniError } from '../../protocol/error.ts'
import type { Node } from '../companions.ts'
import type { Finding } from '../finding.ts'
import { type NodeFlags, readWholeNode } from '../whole-node.ts'
import { BUNDLES, lastBundle, openBundle, takeBack, wayBack } from './bundle.ts'
import { filtered } from './filters.ts'
import { interfaces } from './interfaces.ts'
import { leftovers } from './leftovers.ts'
import { networks } from './networks.ts'
import { mixed, ports } from './ports.ts'
import { carryOut, commandsOf } from './step.ts'

export function examineState(
  { node, names }: { node: Node; names: readonly string[] },
  flags: NodeFlags = {},
): Finding[] {
  return [...examineModel(readWholeNode(flags)), ...mixed(node, names)]
}

/** What is wrong with what containers have and have left. */
export function examineModel(model: NodeModel): Finding[] {
  return [
    ...model.unreadable.map(
      (says): Finding => ({ about: 'network', level: 'notice', kind: 'unreadable', says }),
    ),
    ...interfaces(model),
    ...networks(model),
    ...ports(model),
    ...filtered(model),
    ...leftovers(model),
  ]
}

/** What has been done about a finding, step by step. */
export interface Repaired {
  says: string
  steps: { command: string; outcome: 'done' | 'gone' | 'changed' | 'failed'; reason?: string }[]
}

/** Carries out the steps of findings, each with its way back noted before. One that fails keeps none of the others. */
export async function repair(
  findings: readonly Finding[],
  now: Date,
): Promise<{ bundle: string; repaired: Repaired[] }> {
  const bundle = openBundle(now)
  const repaired: Repaired[] = []
  for (const { says, repair: steps = [] } of findings) {
    const done: Repaired['steps'] = []
    for (const step of steps) {
      const command = commandsOf(step).join('; ')
      try {
        bundle.note(command, wayBack(step))
        done.push({ command, outcome: await carryOut(step) })
      } catch (thrown) {
        const { message, details } = toCniError(thrown)
        done.push({ command, outcome: 'failed', reason: details ? `${message}: ${details}` : message })
      }
    }
    if (steps.length > 0) repaired.push({ says, steps: done })
  }
  return { bundle: bundle.path, repaired }
}

/** Takes the last repair back. */
export async function undoRepair(): Promise<{ bundle: string; done: string[] }> {
  const last = lastBundle()
  if (!last)
    throw new CniError(code.invalidConfiguration, 'there is no repair to take back', {
      details: `${BUNDLES} holds a bundle for each`,
    })
  return { bundle: last.path, done: await takeBack(last) }
}
