/**
 * One operation of a plugin at a time on an attachment, and none beside its GC on the network. Runtimes promise as much, and break
 * it when they retry after a time-out. Whatever unfinished a holder of the lock finds was left by a process that is dead.
 */
import { SystemError } from '../linux/libc/errno.ts'
import { type HeldNames, holdName, openNames, unlessUnwritable } from '../linux/lock.ts'
import type { Verb } from '../protocol/environment.ts'
import { CniError, code } from '../protocol/error.ts'
import type { Attachment, Plugin } from './define.ts'
import { type Io, stopIfAbandoned } from './io.ts'

/**
 * Waits for its turn; undefined where there is nothing to wait for. The type is part of the names: a plugin runs others on its own
 * attachment's behalf. The network is no part of an attachment's, for it is the same interface whichever network wants it.
 */
export function waitForTurn(
  { name: type, stateless, ownLock = false }: Pick<Plugin, 'name' | 'stateless' | 'ownLock'>,
  verb: Verb,
  attachment: Attachment & Pick<Io, 'isAbandoned' | 'untilAbandoned'>,
): HeldNames | undefined | Promise<HeldNames> {
  if (stateless || verb === 'STATUS') return undefined
  let names: HeldNames
  try {
    names = openNames()
  } catch (thrown) {
    return withoutTurn(thrown, { type, goesOn: verb !== 'ADD' || ownLock })
  }
  const ofNetwork = { name: `network ${attachment.network} for ${type}`, shared: verb !== 'GC' }
  const own = { name: ownName(type, attachment), shared: verb === 'CHECK' }
  try {
    const isAlone =
      names.tryHold(ofNetwork.name, ofNetwork) && (verb === 'GC' || names.tryHold(own.name, own))
    if (isAlone) return names
    stopIfAbandoned(attachment) // nothing was done yet that would have to be brought to an end
  } catch (thrown) {
    names[Symbol.dispose]() // what a process that lives on has got stays locked else
    throw thrown
  }
  const wait = (signal?: AbortSignal) =>
    waitInLine(names, verb === 'GC' ? [ofNetwork] : [ofNetwork, own], signal)
  return attachment.untilAbandoned ? attachment.untilAbandoned(wait) : wait()
}

/** Whether somebody is at work on the attachment, so that one would have to wait for a turn. */
export function isTaken(
  { name: type, stateless }: Pick<Plugin, 'name' | 'stateless'>,
  verb: string,
  attachment: Omit<Attachment, 'network'>,
): boolean {
  if (stateless || !ofAttachments.includes(verb)) return false
  try {
    using names = openNames()
    return !names.tryHold(ownName(type, attachment), { shared: verb === 'CHECK' })
  } catch (thrown) {
    if (thrown instanceof SystemError) return false // whoever takes the turn says what is wrong
    throw thrown
  }
}

const ofAttachments = ['ADD', 'CHECK', 'DEL']

function ownName(type: string, { ifname, containerId }: Omit<Attachment, 'network'>): string {
  return `${ifname} of container ${containerId} for ${type}`
}

async function waitInLine(
  names: HeldNames,
  locks: readonly { name: string; shared: boolean }[],
  signal: AbortSignal | undefined,
): Promise<HeldNames> {
  for (const { name, shared } of locks) await holdName(name, { shared, signal }, names)
  return names
}

/** Who adds without keeping others off could do harm; who takes away goes on where the file cannot have been made. */
function withoutTurn(thrown: unknown, { type, goesOn }: { type: string; goesOn: boolean }): undefined {
  const rethrow = () => {
    throw thrown
  }
  if (goesOn) return unlessUnwritable(rethrow)
  if (!(thrown instanceof SystemError)) throw thrown
  throw new CniError(code.io, `${type}: cannot keep other operations off the container`, {
    details: `${thrown.message}: is /run full, or mounted read-only?`,
    cause: thrown,
  })
}
