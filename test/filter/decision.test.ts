/** iptables where its tools are, and the decision in words. */
import { expect, test } from 'bun:test'
import { describeDecision, iptablesBecause } from '../../chain/filter/decision.ts'
import { choose, hideTools } from '../fixtures/iptables.ts'

const reason = { why: 'this node uses it', by: 'use' } as const

test.each([
  { machine: 'nf_tables', used: undefined, variant: 'nf_tables' },
  { machine: 'legacy', used: undefined, variant: 'legacy' },
  { machine: 'nf_tables', used: 'legacy', variant: 'legacy' },
  { machine: 'legacy', used: 'nf_tables', variant: 'nf_tables' },
] as const)('where the machine has chosen $machine and $used is used, rules go to $variant', row => {
  using _choice = choose(row.machine)
  expect(iptablesBecause(reason, row.used)).toEqual({ backend: 'iptables', variant: row.variant, ...reason })
})

test('where it is not installed it is nftables, and the sentence has both reasons', () => {
  using _tools = hideTools()
  const decision = iptablesBecause({ why: '/etc/cni/catena.json says so', by: 'node' }, 'legacy')
  expect(decision).toEqual({
    backend: 'nftables',
    why: 'iptables is not installed, though /etc/cni/catena.json says so',
    by: 'use',
  })
  expect(describeDecision('ports are published', decision)).toBe(
    'ports are published by nftables, because iptables is not installed, though /etc/cni/catena.json says so',
  )
})

test('the variant is told where there are two', () => {
  const decision = { backend: 'iptables', variant: 'legacy', why: 'nerdctl reads it' } as const
  expect(describeDecision('addresses are masqueraded', decision)).toBe(
    'addresses are masqueraded by iptables (legacy), because nerdctl reads it',
  )
})
