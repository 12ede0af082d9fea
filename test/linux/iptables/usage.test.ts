/** Whether somebody uses iptables on this machine, and where first. */
import { afterEach, beforeAll, expect, test } from 'bun:test'
import type { Sought } from '../../../chain/linux/iptables/brief.ts'
import { findUse } from '../../../chain/linux/iptables/usage.ts'
import { choose, clearRules, variants } from '../../fixtures/iptables.ts'
import { hostNamespace } from '../../fixtures/namespace.ts'

const host = hostNamespace()
beforeAll(() => clearRules())
afterEach(() => clearRules())

const anything: Sought = { isOwn: () => false, chains: [], signIn: () => undefined }
const toolOf = {
  nf_tables: ['iptables-nft', 'ip6tables-nft'],
  legacy: ['iptables-legacy', 'ip6tables-legacy'],
} as const

test.each(variants)('rules of the %s variant are found with their place, of either family', variant => {
  using _choice = choose(variant)
  const [ip, ip6] = toolOf[variant]
  expect(findUse(anything)).toBeUndefined()
  host.run(ip6, '-w', '-A', 'INPUT', '-j', 'ACCEPT')
  const sign = 'a rule in chain INPUT'
  expect(findUse(anything)).toEqual({ family: 'ip6', variant, table: 'filter', sign })
  host.run(ip, '-w', '-t', 'nat', '-A', 'POSTROUTING', '-j', 'RETURN')
  expect(findUse(anything)).toMatchObject({ family: 'ip', table: 'nat', sign: 'a rule in chain POSTROUTING' })
})

test.each(variants)(
  'tables that decide nothing about containers are passed over, of the %s variant',
  variant => {
    using _choice = choose(variant)
    const [tool] = toolOf[variant]
    for (const table of ['mangle', 'raw']) host.run(tool, '-w', '-t', table, '-A', 'OUTPUT', '-j', 'RETURN')
    expect(findUse(anything)).toBeUndefined()
    for (const table of ['mangle', 'raw']) host.run(tool, '-w', '-t', table, '-F')
  },
)
