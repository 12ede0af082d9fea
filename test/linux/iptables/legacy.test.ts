/** A table of the older ip_tables, read from the kernel: the same as its own tool tells. */
import { afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { readLegacyTable } from '../../../chain/linux/iptables/legacy.ts'
import { readSavedRule } from '../../../chain/linux/iptables/removal.ts'
import { clearRules, saved } from '../../fixtures/iptables.ts'
import { freshNamespace, hostNamespace } from '../../fixtures/namespace.ts'
import { runUnprivileged } from '../../fixtures/unprivileged.ts'

const host = hostNamespace()
const families = ['ip', 'ip6'] as const
const tool = { ip: 'iptables-legacy', ip6: 'ip6tables-legacy' } as const

beforeAll(() => clearRules())
afterEach(() => {
  clearRules()
  for (const family of families) host.run(tool[family], '-w', '-P', 'FORWARD', 'ACCEPT')
})

/** By the tool's own account, as much as is read here. */
function told(family: 'ip' | 'ip6', table: string, chains: readonly string[]) {
  const rules = saved('legacy', family, table)
    .filter(line => line.startsWith('-A'))
    .map(readSavedRule)
  return Object.fromEntries(
    chains.map(name => [
      name,
      rules
        .filter(({ chain }) => chain === name)
        .map(({ targets, comment }) => ({ targets: targets.filter(each => chains.includes(each)), comment })),
    ]),
  )
}

describe.each(families)('of %s', family => {
  const run = (...words: string[]) => host.run(tool[family], '-w', ...words)
  const any = family === 'ip' ? '10.1.0.0/16' : 'fd00::/64'

  test('chains and rules are read as iptables-save tells them', () => {
    const chains = [
      'PREROUTING',
      'INPUT',
      'OUTPUT',
      'POSTROUTING',
      'FIRST',
      'SECOND',
      'chain-of-28-letters-at-most-',
    ]
    for (const chain of chains.slice(4)) run('-t', 'nat', '-N', chain)
    run(
      '-t',
      'nat',
      '-A',
      'PREROUTING',
      '-m',
      'comment',
      '--comment',
      'a comment with "quotes"',
      '-j',
      'FIRST',
    )
    run(
      '-t',
      'nat',
      '-A',
      'FIRST',
      '-s',
      any,
      '-p',
      'tcp',
      '--dport',
      '80',
      '-m',
      'comment',
      '--comment',
      'x',
      '-j',
      'SECOND',
    )
    run('-t', 'nat', '-A', 'FIRST', '-p', 'udp', '-m', 'multiport', '--dports', '53,54', '-g', 'SECOND')
    run('-t', 'nat', '-A', 'FIRST', '-j', 'RETURN')
    run(
      '-t',
      'nat',
      '-A',
      'POSTROUTING',
      '-s',
      any,
      '-m',
      'comment',
      '--comment',
      'c'.repeat(200),
      '-j',
      'MASQUERADE',
    )
    const table = readLegacyTable(family, 'nat')
    expect(Object.fromEntries(chains.map(name => [name, table?.rulesIn(name)]))).toEqual(
      told(family, 'nat', chains),
    )
    expect(chains.map(name => table?.hasChain(name))).toEqual(chains.map(() => true))
    expect([table?.hasChain('NONE'), table?.rulesIn('NONE')]).toEqual([false, []])
  })

  test('a policy that drops is told, and no other', () => {
    run('-N', 'LAST') // behind the built-in chains, without a policy
    expect(readLegacyTable(family, 'filter')?.dropping).toEqual([])
    run('-P', 'FORWARD', 'DROP')
    run('-A', 'FORWARD', '-j', 'DROP')
    expect(readLegacyTable(family, 'filter')?.dropping).toEqual(['FORWARD'])
  })

  test('a table without a rule has its built-in chains', () => {
    const table = readLegacyTable(family, 'filter')
    expect(['INPUT', 'FORWARD', 'OUTPUT', 'PREROUTING'].map(name => table?.hasChain(name))).toEqual([
      true,
      true,
      true,
      false,
    ])
  })
})

test('where there is no such table, or one may not ask, there is nothing', () => {
  expect(readLegacyTable('ip', 'none')).toBeUndefined()
  const told = runUnprivileged(`
    import { readLegacyTable } from '/chain/linux/iptables/legacy.ts'
    console.log(readLegacyTable('ip', 'filter'))`)
  expect(told).toBe('undefined\n')
})

test('of another namespace nothing is told', () => {
  host.run('iptables-legacy', '-w', '-N', 'HERE')
  using container = freshNamespace()
  expect(container.inside(() => readLegacyTable('ip', 'filter')?.hasChain('HERE') ?? false)).toBe(false)
  expect(readLegacyTable('ip', 'filter')?.hasChain('HERE')).toBe(true)
})
