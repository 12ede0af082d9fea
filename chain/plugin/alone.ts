/**
 * One operation of a plugin at a time on an attachment, and none beside its GC on the network. Runtimes promise as much, and break
 * it when they retry after a time-out. Whatever unfinished a holder of the lock finds was left by a process that is dead.
 */
import { SystemError } from '../linux/libc.ts'
import { type HeldNames, holdName, openNames, unlessUnwritable } from '../linux/lock.ts'
import type { Verb } from '../protocol/environment.ts'
import { CniError, code } from '../protocol/error.ts'
import type { Attachment, Plugin } from './define.ts'

/**
 * Waits for its turn; undefined where there is nobody to wait for. The type is part of the names: a plugin runs others on its own
 * attachment's behalf. The network is no part of an attachment's, for it is the same interface whichever network wants it.
 */
export async function waitForTurn(
  plugin: Pick<Plugin, 'name' | 'stateless'>,
  verb: Verb,
  { network, containerId, interface: name }: Attachment,
): Promise<HeldNames | undefined> {
  if (plugin.stateless || verb === 'STATUS') return undefined
  const names = verb === 'ADD' ? openForAdd(plugin) : unlessUnwritable(openNames)
  if (!names) return undefined
  await holdName(`network ${network} for ${plugin.name}`, { shared: verb !== 'GC' }, names)
  if (verb === 'GC') return names
  const own = `${name} of container ${containerId} for ${plugin.name}`
  return await holdName(own, { shared: verb === 'CHECK' }, names)
}

/** What adds without keeping others off could do harm. */
function openForAdd({ name }: Pick<Plugin, 'name'>): HeldNames {
  try {
    return openNames()
  } catch (thrown) {
    if (!(thrown instanceof SystemError)) throw thrown
    throw new CniError(code.io, `${name}: cannot keep other operations off the container`, {
      details: `${thrown.message}: is /run full, or mounted read-only?`,
      cause: thrown,
    })
  }
}
