import { afterEach, describe, expect, test } from 'bun:test'
import { existsSync } from 'node:fs'
import { applyPlan, missingRule, requireTools } from '../../../chain/linux/iptables/apply.ts'
import { checksOf, linesOf, type Plan } from '../../../chain/linux/iptables/plan.ts'
import { readSavedRule, removalInput, removeRules } from '../../../chain/linux/iptables/removal.ts'
import { choose, clearRules, saved, variants } from '../../fixtures/iptables.ts'

afterEach(() => clearRules())

const jump = { chain: 'PREROUTING', args: ['-m', 'addrtype', '--dst-type', 'LOCAL', '-j', 'SHARED'] }
const first = {
  chain: 'POSTROUTING',
  args: ['-m', 'comment', '--comment', 'comes first', '-j', 'SHARED'],
  at: 'start' as const,
}

const planOf = (owner: string, rules = [['-p', 'tcp', '-j', 'RETURN']]): Plan => ({
  family: 'ip',
  table: 'nat',
  chains: ['SHARED'],
  ensure: [jump, first],
  own: [{ name: owner, rules }],
  enter: [{ chain: 'SHARED', args: ['-m', 'comment', '--comment', `a "quoted" ${owner}`, '-j', owner] }],
})

const texts = (lines: readonly { text: string }[]) => lines.map(({ text }) => text)

test('a plan is one transaction that checks what is shared, makes what is owned, and then enters it', () => {
  expect(texts(linesOf(planOf('OWN'), new Set()))).toEqual([
    '*nat',
    '-C PREROUTING -m addrtype --dst-type LOCAL -j SHARED',
    '-C POSTROUTING -m comment --comment "comes first" -j SHARED',
    '-N OWN',
    '-A OWN -p tcp -j RETURN',
    String.raw`-A SHARED -m comment --comment "a \"quoted\" OWN" -j OWN`,
    'COMMIT',
  ])
})

test('what is absent is added where it belongs', () => {
  expect(texts(linesOf(planOf('OWN'), new Set([jump, first]))).slice(1, 3)).toEqual([
    '-A PREROUTING -m addrtype --dst-type LOCAL -j SHARED',
    '-I POSTROUTING -m comment --comment "comes first" -j SHARED',
  ])
})

test('a plan is checked rule by rule', () => {
  expect(texts(checksOf(planOf('OWN'))).slice(3, 5)).toEqual([
    '-C OWN -p tcp -j RETURN',
    String.raw`-C SHARED -m comment --comment "a \"quoted\" OWN" -j OWN`,
  ])
})

test('a word that would end its line is refused', () => {
  expect(() => linesOf(planOf('OWN', [['-j', 'RETURN\n-F']]), new Set())).toThrow('ends its line')
})

const dump = [
  '*nat',
  ':PREROUTING ACCEPT [0:0]',
  ':SHARED - [0:0]',
  ':OWN - [0:0]',
  '-A PREROUTING -j SHARED',
  '-A OWN -j RETURN',
  String.raw`-A SHARED -m comment --comment "id: \"a\"" -m multiport --dports 80 -j OWN`,
  '-A SHARED -m comment --comment bare -g OTHER',
  'COMMIT',
].join('\n')

test('a saved rule is read', () => {
  const [entry = '', bare = ''] = dump.split('\n').filter(line => line.startsWith('-A SHARED'))
  expect(readSavedRule(entry)).toEqual({ chain: 'SHARED', comment: 'id: "a"', targets: ['OWN'] })
  expect(readSavedRule(bare)).toEqual({ chain: 'SHARED', comment: 'bare', targets: ['OTHER'] })
})

test('a chain is removed with what leads to it, a rule by what it says', () => {
  const filter = {
    isRemovedChain: (name: string) => name === 'OWN',
    isRemovedRule: ({ comment }: { comment: string }) => comment === 'bare',
  }
  expect(removalInput(dump, 'nat', filter)?.split('\n')).toEqual([
    '*nat',
    String.raw`-D SHARED -m comment --comment "id: \"a\"" -m multiport --dports 80 -j OWN`,
    '-D SHARED -m comment --comment bare -g OTHER',
    '-F OWN',
    '-X OWN',
    'COMMIT',
    '',
  ])
  expect(removalInput(dump, 'nat', { isRemovedChain: name => name === 'NONE' })).toBeUndefined()
})

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

  test('removing takes chains and what leads to them, and leaves the others', async () => {
    using _choice = choose(variant)
    await applyPlan(planOf('ONE'))
    const before = saved(variant)
    await applyPlan(planOf('TWO'))
    const filter = { isRemovedChain: (name: string) => name === 'TWO' }
    expect(await removeRules(requireTools('ip'), 'nat', filter)).toBe('removed')
    expect(await removeRules(requireTools('ip'), 'nat', filter)).toBe('absent')
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
