import { afterEach, describe, expect, test } from 'bun:test'
import { existsSync } from 'node:fs'
import { applyPlan, missingRule, requireTools } from '../../../chain/linux/iptables/apply.ts'
import { choose, clearRules, saved, variants } from '../../fixtures/iptables.ts'
import { jump, planOf } from './place.ts'

afterEach(() => clearRules())

describe.each(variants)('with the %s variant', variant => {
  test('it is told without starting a process', () => {
    using _choice = choose(variant)
    expect(requireTools('ip')).toMatchObject({ variant, family: 'ip' })
    expect(requireTools('ip6')).toMatchObject({ variant, family: 'ip6' })
  })

  test('a plan on an empty table makes everything; a second owner adds to it; the same again replaces itself', async () => {
    using _choice = choose(variant)
    await applyPlan(planOf('ONE'))
    await applyPlan(planOf('TWO'))
    await applyPlan(planOf('ONE', [['-p', 'udp', '-j', 'RETURN']]))
    const rules = saved(variant)
    expect(rules.filter(line => line.startsWith('-A'))).toEqual(
      [
        '-A PREROUTING -m addrtype --dst-type LOCAL -j SHARED',
        '-A POSTROUTING -m comment --comment "comes first" -j SHARED',
        ...['-A ONE -p udp -j RETURN'],
        String.raw`-A SHARED -m comment --comment "a \"quoted\" TWO" -j TWO`,
        String.raw`-A SHARED -m comment --comment "a \"quoted\" ONE" -j ONE`,
        '-A TWO -p tcp -j RETURN',
      ].toSorted(byChain(rules)),
    )
    expect(missingRule(planOf('TWO'))).toBeUndefined()
  })

  test('a plan whose chains are said to be missing comes out the same, whether they are or not', async () => {
    using _choice = choose(variant)
    await applyPlan(planOf('ONE'))
    const usual = saved(variant)
    await applyPlan(planOf('ONE'), { lacksChains: true })
    expect(saved(variant)).toEqual(usual)
    clearRules()
    await applyPlan(planOf('ONE'), { lacksChains: true })
    expect(saved(variant)).toEqual(usual)
  })

  test('what of a plan is missing is told', async () => {
    using _choice = choose(variant)
    await applyPlan(planOf('ONE'))
    expect(missingRule(planOf('ONE', [['-p', 'udp', '-j', 'RETURN']]))).toEqual({
      table: 'nat',
      chain: 'ONE',
      args: ['-p', 'udp', '-j', 'RETURN'],
    })
    expect(missingRule(planOf('TWO'))?.chain).toBe('TWO')
    clearRules()
    expect(missingRule(planOf('ONE'))).toEqual({ table: 'nat', ...jump })
  })

  test('a rule that iptables does not take is named, and nothing is left of its plan', async () => {
    using _choice = choose(variant)
    await applyPlan(planOf('ONE'))
    const before = saved(variant)
    const refused = applyPlan(planOf('TWO', [['-s', '10.0.0.0/33', '-j', 'RETURN']]))
    await expect(refused).rejects.toThrow(/table nat: -A TWO -s 10\.0\.0\.0\/33 -j RETURN: .*33/)
    expect(saved(variant)).toEqual(before)
  })
})

/** iptables-save prints chains in an order of its own, rules of a chain in theirs. */
function byChain(lines: readonly string[]) {
  const order = [...new Set(lines.filter(line => line.startsWith('-A')).map(line => line.split(' ')[1]))]
  return (one: string, other: string) => order.indexOf(one.split(' ')[1]) - order.indexOf(other.split(' ')[1])
}

test('the usual folders are searched where PATH does not name them', () => {
  const before = process.env.PATH
  process.env.PATH = '/nonexistent'
  try {
    expect(requireTools('ip').restore).toMatch(/bin\/iptables-restore$/)
  } finally {
    process.env.PATH = before
  }
})

test("the tools wait for the lock that the machine's other users of iptables wait for", async () => {
  using choice = choose('legacy')
  const lock = `${choice.folder}/xtables.lock`
  process.env.XTABLES_LOCKFILE = lock
  try {
    await applyPlan(planOf('OWN'))
  } finally {
    delete process.env.XTABLES_LOCKFILE
  }
  expect(existsSync(lock)).toBe(true)
})
