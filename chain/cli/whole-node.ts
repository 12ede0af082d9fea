/** The node as every verb reads it: networks of all runtimes that are there, and what these call their sandboxes. */
import type { Identity, NodeModel } from '../observe/model.ts'
import { readNode } from '../observe/node.ts'
import { CONFIGURATIONS } from './companions.ts'
import { findRuntimes } from './runtimes.ts'

export interface NodeFlags {
  /** Seconds: what is younger may belong to an ADD that is under way. */
  grace?: number
  /** Folders of networks, in the place of those of the runtimes. */
  configurations?: readonly string[]
  /** By container ID, from whoever can ask a runtime; CNI_ARGS have to do otherwise. */
  identities?: ReadonlyMap<string, Identity>
}

export function readWholeNode({ grace, configurations, identities }: NodeFlags = {}): NodeModel {
  const folders = configurations ?? [
    ...new Set([CONFIGURATIONS, ...findRuntimes('').runtimes.map(({ networks }) => networks)]),
  ]
  return readNode({
    configurations: folders,
    ...(identities ? { identities } : {}),
    ...(grace === undefined ? {} : { grace: grace * 1000 }),
  })
}
