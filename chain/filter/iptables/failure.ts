/** What iptables refuses, as an error of the specification that says what to do. */
import { IptablesError } from '../../linux/iptables/apply.ts'
import { CniError, code } from '../../protocol/error.ts'

/** Where the tools are missing. */
const INSTALL = 'install the package iptables, or set the backend to nftables'

/** Does something with iptables; its refusal is a CniError. */
export async function withIptables<T>(body: () => Promise<T> | T, install = INSTALL): Promise<T> {
  try {
    return await body()
  } catch (thrown) {
    throw explainIptables(thrown, install)
  }
}

export function explainIptables(thrown: unknown, install = INSTALL): unknown {
  if (!(thrown instanceof IptablesError)) return thrown
  const hint = thrown.isMissing ? install : hintFor(thrown.said)
  const details = [thrown.said.trim(), hint].filter(Boolean).join('; ')
  return new CniError(code.internal, thrown.message, { details, cause: thrown })
}

function hintFor(said: string): string {
  if (/initialize|Table does not exist|do you need to insmod/.test(said))
    return 'the kernel lacks the table: load the module iptable_nat, iptable_filter or their ip6table twin, or nf_tables'
  const chain = /Chain '([^']+)' does not exist/.exec(said)?.[1]
  return chain === undefined ? '' : `nothing has made chain ${chain} yet`
}
