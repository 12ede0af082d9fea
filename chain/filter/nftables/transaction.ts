/** What adding to our tables and deleting from them share: the lock, how often it is tried, and what a refusal means. */
import { errno } from '../../linux/libc/errno.ts'
import { takeLock, unlessUnwritable } from '../../linux/lock.ts'
import { NftError } from '../../linux/nftables/nft.ts'
import { CniError, code } from '../../protocol/error.ts'

const LOCK = '/run/catena/nftables/lock'

/** Adding shares the lock; only who deletes a whole table excludes the others. */
export function lockTables(how: { shared: boolean }): Disposable {
  return takeLock(LOCK, how)
}

/** For who deletes: where nothing can be written nothing has been added, and there is no other to exclude. */
export function lockTablesIfPossible(how: { shared: boolean }): Disposable | undefined {
  return unlessUnwritable(() => lockTables(how))
}

/** Each one that fails is another's that succeeded. */
export const ATTEMPTS = 50

/** An nft failure as a CNI error with a hint. */
export function explain(thrown: unknown): unknown {
  if (!(thrown instanceof NftError)) return thrown
  const missing = thrown.errno === errno.ENOENT && thrown.command === undefined
  const hint = missing ? '; install the package nftables' : ''
  return new CniError(code.internal, thrown.message, {
    details: `${thrown.said.trim()}${hint}`,
    cause: thrown,
  })
}
