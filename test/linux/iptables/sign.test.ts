/** What shows that somebody uses a table of iptables: the first sign, in words. */
import { afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { type Place, policySign, type Sought } from '../../../chain/linux/iptables/brief.ts'
import { signOfUse, withBriefTable } from '../../../chain/linux/iptables/sign.ts'
import { choose, clearRules, variants } from '../../fixtures/iptables.ts'
import { freshNamespace, hostNamespace } from '../../fixtures/namespace.ts'

const host = hostNamespace()
const tools = { nf_tables: 'iptables-nft', legacy: 'iptables-legacy' } as const
const clear = () => {
  for (const tool of Object.values(tools)) host.run(tool, '-w', '-P', 'INPUT', 'ACCEPT')
  clearRules()
}
beforeAll(clear)
afterEach(clear)

const none: Sought = { isOwn: () => false, chains: [], signIn: () => undefined }
const ours: Sought = {
  isOwn: ({ targets, comment }) => targets.includes('OURS') || comment === 'ours',
  chains: ['ADMIN'],
  signIn: table => (table.rulesIn('ADMIN').length > 0 ? 'a rule in chain ADMIN' : undefined),
}

describe.each(variants)('with the %s variant', variant => {
  const run = (...words: string[]) => host.run(tools[variant], '-w', ...words)
  const place = (table: string): Place => ({ family: 'ip', variant, table })
  const rule = (chain: string, ...words: string[]) => run('-A', chain, ...words)

  test('an empty table shows nothing, nor one that is not there', () => {
    using _choice = choose(variant)
    run('-L')
    expect([signOfUse(place('filter'), none), signOfUse(place('none'), none)]).toEqual([undefined, undefined])
    using container = freshNamespace()
    expect(container.inside(() => signOfUse(place('filter'), none))).toBeUndefined()
  })

  test('a rule of somebody’s is a sign, one of ours is none', () => {
    using _choice = choose(variant)
    run('-N', 'OURS')
    rule('INPUT', '-j', 'OURS')
    rule('FORWARD', '-m', 'comment', '--comment', 'ours', '-j', 'ACCEPT')
    expect(signOfUse(place('filter'), ours)).toBeUndefined()
    rule('INPUT', '-s', '192.0.2.1', '-j', 'DROP')
    expect(signOfUse(place('filter'), ours)).toBe('a rule in chain INPUT')
  })

  test('a policy is a sign before any rule', () => {
    using _choice = choose(variant)
    rule('INPUT', '-j', 'ACCEPT')
    run('-P', 'INPUT', 'DROP')
    expect(signOfUse(place('filter'), none)).toBe(policySign('INPUT'))
  })

  test('other chains count where they are asked for, in table filter alone', () => {
    using _choice = choose(variant)
    for (const table of ['filter', 'nat']) {
      run('-t', table, '-N', 'ADMIN')
      run('-t', table, '-A', 'ADMIN', '-j', 'RETURN')
    }
    expect([signOfUse(place('filter'), ours), signOfUse(place('nat'), ours)]).toEqual([
      'a rule in chain ADMIN',
      undefined,
    ])
    expect(signOfUse(place('filter'), none)).toBeUndefined()
  })

  test('chains are there whether they were asked for or not', () => {
    using _choice = choose(variant)
    run('-N', 'OTHER')
    rule('OTHER', '-j', 'RETURN')
    const look = (chains: readonly string[]) =>
      withBriefTable(
        place('filter'),
        table => [table.hasChain('OTHER'), table.hasChain('NONE'), table.rulesIn('OTHER').length],
        chains,
      )
    expect(look([])).toEqual([true, false, 1])
    expect(look(['OTHER', 'NONE'])).toEqual([true, false, 1])
  })
})
