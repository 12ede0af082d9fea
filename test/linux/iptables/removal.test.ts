/** Rules and chains of iptables, found and taken away: over netlink, or by what iptables-save prints. */
import { afterEach, describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { applyPlan, requireTools } from '../../../chain/linux/iptables/apply.ts'
import {
  hasLegacyTable,
  legacyTables,
  readRules,
  readSavedRule,
  removalCommands,
  removalInput,
  removeFromLegacy,
  removeRules,
} from '../../../chain/linux/iptables/removal.ts'
import { openNetfilter } from '../../../chain/linux/nftables/netfilter.ts'
import { choose, clearRules, iptables, saved, variants } from '../../fixtures/iptables.ts'
import { freshNamespace } from '../../fixtures/namespace.ts'
import { planOf } from './place.ts'

afterEach(() => clearRules('nat'))

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

describe('a saved rule', () => {
  test('is read with its comment and where it leads', () => {
    const [entry = '', bare = ''] = dump.split('\n').filter(line => line.startsWith('-A SHARED'))
    expect(readSavedRule(entry)).toEqual({ chain: 'SHARED', comment: 'id: "a"', targets: ['OWN'] })
    expect(readSavedRule(bare)).toEqual({ chain: 'SHARED', comment: 'bare', targets: ['OTHER'] })
  })

  test.each([
    ['-s 10.1.0.2/32 -i cni0', { source: '10.1.0.2', input: 'cni0' }],
    ['-d fd00::2/128 -o cni0', { destination: 'fd00::2', output: 'cni0' }],
    ['! -s 10.1.0.2/32 ! -o cni0', {}],
    ['-s 10.1.0.0/16 -d 10.1.0.2/31', {}],
  ])('that matches %s is known by what is one alone', (match, found) => {
    expect(readSavedRule(`-A OWN ${match} -j RETURN`)).toEqual({
      chain: 'OWN',
      comment: '',
      targets: ['RETURN'],
      ...found,
    })
  })

  test('of any text is read without an error', () => {
    fc.assert(fc.property(fc.string(), text => void readSavedRule(`-A ${text}`)))
  })
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
  expect(removalInput(dump, 'nat', {})).toBeUndefined()
})

test('a built-in chain is never removed, whatever it is called, nor what leads into it', () => {
  const all = { isRemovedChain: () => true }
  expect(removalInput(dump, 'nat', all)).not.toMatch(/-[FX] PREROUTING/)
  expect(removalInput('*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT', 'nat', all)).toBeUndefined()
})

describe.each(variants)('with the %s variant', variant => {
  const ofTwo = { isRemovedChain: (name: string) => name === 'TWO' }

  test('chains go with what leads to them, once, and the others stay', async () => {
    using _choice = choose(variant)
    await applyPlan(planOf('ONE'))
    const before = saved(variant)
    await applyPlan(planOf('TWO'))
    expect(await removeRules(requireTools('ip'), 'nat', ofTwo)).toBe('removed')
    expect(await removeRules(requireTools('ip'), 'nat', ofTwo)).toBe('absent')
    expect(saved(variant)).toEqual(before)
  })

  test('a single rule goes by what it says, and is read with whose it is', async () => {
    using _choice = choose(variant)
    await applyPlan(planOf('ONE'))
    iptables(
      variant,
      'ip',
      '-A',
      'SHARED',
      '-s',
      '10.1.0.2',
      '-o',
      'lo',
      '-m',
      'comment',
      '--comment',
      'by hand',
      '-j',
      'RETURN',
    )
    expect(readRules('ip', 'nat')).toContainEqual(
      expect.objectContaining({ chain: 'SHARED', comment: 'by hand', source: '10.1.0.2', output: 'lo' }),
    )
    const byHand = { isRemovedRule: ({ comment }: { comment: string }) => comment === 'by hand' }
    expect(await removeRules(requireTools('ip'), 'nat', byHand)).toBe('removed')
    expect(saved(variant).join()).not.toContain('by hand')
    expect(saved(variant).join()).toContain('-j ONE')
  })

  test('nothing is there of the other family', async () => {
    using _choice = choose(variant)
    await applyPlan(planOf('ONE'))
    expect(readRules('ip6', 'nat')).toEqual([])
    expect(await removeRules(requireTools('ip6'), 'nat', { isRemovedChain: () => true })).toBe('absent')
  })
})

test('of nf_tables the commands delete what leads to a chain before the chain itself', async () => {
  using _choice = choose('nf_tables')
  await applyPlan(planOf('ONE'))
  using netfilter = openNetfilter()
  const where = { family: 'ip', table: 'nat' } as const
  const commands = removalCommands(netfilter, where, { isRemovedChain: name => name === 'ONE' })
  expect(commands.map(({ verb, kind }) => `${verb} ${kind}`)).toEqual([
    'delete rule',
    'flush chain',
    'delete chain',
  ])
  expect(removalCommands(netfilter, where, {})).toEqual([])
  expect(removalCommands(netfilter, { family: 'ip', table: 'none' }, { isRemovedChain: () => true })).toEqual(
    [],
  )
  expect(
    removalCommands(netfilter, where, { isRemovedChain: () => true }).filter(
      command => command.kind === 'chain' && command.name === 'PREROUTING',
    ),
  ).toEqual([])
})

test('a namespace that has no table of the older kind is told without a program', () => {
  using container = freshNamespace()
  container.inside(() => {
    expect(legacyTables('ip').filter(Boolean)).toEqual([])
    expect(hasLegacyTable('ip', 'nat')).toBe(false)
    expect(removeFromLegacy('ip', 'nat', { isRemovedChain: () => true })).toBe('absent')
    expect(legacyTables('ip').filter(Boolean)).toEqual([]) // the tool that looks makes one
  })
})

test('a tool that refuses again and again is told by its words', async () => {
  using choice = choose('legacy')
  await applyPlan(planOf('ONE'))
  Bun.spawnSync(['rm', `${choice.folder}/iptables-restore`])
  await Bun.write(`${choice.folder}/iptables-restore`, '#!/bin/sh\necho no room >&2\nexit 4\n')
  Bun.spawnSync(['chmod', '+x', `${choice.folder}/iptables-restore`])
  expect(() => removeFromLegacy('ip', 'nat', { isRemovedChain: name => name === 'ONE' })).toThrow(
    /^remove .*iptables-restore rules from table nat: no room$/,
  )
})
