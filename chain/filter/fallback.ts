/**
 * What stands in for a backend that a node has not: iptables whose tools do not work, or an nf_tables that is too old for our
 * tables, or is not there. Loaded where that comes to light, and for STATUS.
 */
import { IptablesError } from '../linux/iptables/apply.ts'
import { errno, isErrno } from '../linux/libc/errno.ts'
import { type Command, type Engine, NftError } from '../linux/nftables/nft.ts'
import { CniError, code } from '../protocol/error.ts'
import { type Decision, iptablesBecause } from './decision.ts'
import { collectionCommand } from './nftables/chains.ts'
import { collectionsOf, type OurFamily, partOf } from './nftables/layout.ts'

/** Sets of concatenations with intervals (NFT_SET_CONCAT). */
const OLDEST = 'Linux 5.6'

/** The decision that replaces one which has failed so; undefined where the failure has another reason, or nothing is left. */
export function fallbackFor(thrown: unknown): Decision | undefined {
  const reasons = [thrown, thrown instanceof Error ? thrown.cause : undefined]
  if (reasons.some(each => each instanceof IptablesError))
    return { backend: 'nftables', why: 'iptables does not work on this node', by: 'use' }
  const lack = reasons.map(lackOf).find(each => each !== undefined)
  if (lack === undefined) return undefined
  const decision = iptablesBecause({ why: lack, by: 'use' })
  return decision.backend === 'iptables' ? decision : undefined
}

/** What the kernel's nf_tables lacks, in words; undefined for what is not of that kind. */
function lackOf(thrown: unknown): string | undefined {
  if (isErrno(thrown, errno.EPROTONOSUPPORT)) return NONE
  if (!(thrown instanceof NftError)) return undefined
  const { command } = thrown
  const addsSet = command?.verb === 'add' && (command.kind === 'set' || command.kind === 'map')
  // unknown flags of a set are EINVAL or EOPNOTSUPP, according to the release
  if (addsSet && (thrown.errno === errno.EOPNOTSUPP || thrown.errno === errno.EINVAL)) return OLD
  return thrown.errno === errno.EOPNOTSUPP && !command ? NONE : undefined
}

const NONE = 'the kernel has no nf_tables'
const OLD = `nf_tables of this kernel holds no networks beside addresses in one set, which takes ${OLDEST}`

/** A failure for want of something in the kernel, in a sentence that says what is needed. */
export function explainLack(thrown: unknown): unknown {
  const reasons = [thrown, thrown instanceof Error ? thrown.cause : undefined]
  const lack = reasons.map(lackOf).find(each => each !== undefined)
  if (lack === undefined) return thrown
  const { message } = thrown as Error
  const details = `${message}; set the backend to iptables, install its tools where it is chosen by itself, or run ${OLDEST} or later`
  return new CniError(code.internal, lack, { details, cause: thrown })
}

/** STATUS: the decision as ADD would carry it out. Throws code 50 where nothing can, or what is named cannot. */
export async function proven(decision: Decision, engine: Engine): Promise<Decision> {
  if (decision.backend === 'iptables') return decision
  try {
    await engine(trial)
    return decision
  } catch (thrown) {
    const other = decision.by === 'configuration' ? undefined : fallbackFor(thrown)
    if (other) return other
    const explained = explainLack(thrown)
    if (!(explained instanceof CniError)) throw thrown
    const { message, details } = explained
    throw new CniError(code.pluginNotAvailable, message, { details, cause: thrown })
  }
}

const TRIAL = 'catena-trial'

/** A table with the sets that older kernels have not; it is deleted in the transaction that makes it, and so never is. */
const trial: Command[] = (() => {
  const family: OurFamily = 'ip'
  const sets = collectionsOf(family)
    .filter(({ role, interval }) => partOf(role) === 'base' && interval)
    .map(collection => collectionCommand(family, collection, TRIAL))
  return [
    { verb: 'add', kind: 'table', family, name: TRIAL },
    ...sets,
    { verb: 'delete', kind: 'table', family, name: TRIAL },
  ]
})()
