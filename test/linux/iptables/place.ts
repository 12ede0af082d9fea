/** A plan of iptables in a test: a chain that is shared, rules that lead there, and a chain of one owner. */
import type { Plan } from '../../../chain/linux/iptables/plan.ts'

export const jump = { chain: 'PREROUTING', args: ['-m', 'addrtype', '--dst-type', 'LOCAL', '-j', 'SHARED'] }
export const first = {
  chain: 'POSTROUTING',
  args: ['-m', 'comment', '--comment', 'comes first', '-j', 'SHARED'],
  at: 'start' as const,
}

export const planOf = (owner: string, rules = [['-p', 'tcp', '-j', 'RETURN']]): Plan => ({
  family: 'ip',
  table: 'nat',
  chains: ['SHARED'],
  ensure: [jump, first],
  own: [{ name: owner, rules }],
  enter: [{ chain: 'SHARED', args: ['-m', 'comment', '--comment', `a "quoted" ${owner}`, '-j', owner] }],
})
