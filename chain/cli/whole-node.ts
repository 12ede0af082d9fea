/** The node as every verb reads it: networks of all runtimes that are there, and what these call their sandboxes. */
import { errno, isErrno } from '../linux/libc/errno.ts'
import { isRefusal } from '../linux/netlink/socket.ts'
import type { Identity, NodeModel } from '../observe/model.ts'
import { readNode } from '../observe/node.ts'
import { CniError, code, toCniError } from '../protocol/error.ts'
import { CONFIGURATIONS } from './companions.ts'
import { findRuntimes } from './runtimes.ts'

export interface NodeFlags {
  /** Seconds: what is younger may belong to an ADD that is under way. */
  grace?: number | undefined
  /** Folders of networks, in the place of those of the runtimes. */
  configurations?: readonly string[] | undefined
  /** By container ID, from whoever can ask a runtime; CNI_ARGS have to do otherwise. */
  identities?: ReadonlyMap<string, Identity> | undefined
}

export function readWholeNode({ grace, configurations, identities }: NodeFlags = {}): NodeModel {
  try {
    return readAll({ grace, configurations, identities })
  } catch (thrown) {
    if (!isRefused(thrown)) throw thrown
    const { message } = toCniError(thrown)
    throw new CniError(code.io, `the node may not be looked at: ${message}`, {
      details: "caches, namespaces and rules are root's: run it as root, or with sudo",
      cause: thrown,
    })
  }
}

const isRefused = (thrown: unknown) =>
  isErrno(thrown, errno.EACCES, errno.EPERM) || isRefusal(thrown, errno.EACCES, errno.EPERM)

function readAll({ grace, configurations, identities }: NodeFlags): NodeModel {
  const folders = configurations ?? [
    ...new Set([CONFIGURATIONS, ...findRuntimes('').runtimes.map(({ networks }) => networks)]),
  ]
  return readNode({
    configurations: folders,
    ...(identities ? { identities } : {}),
    ...(grace === undefined ? {} : { grace: grace * 1000 }),
  })
}
