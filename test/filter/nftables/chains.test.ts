/** Our tables without what belongs to containers: what comes together, and what may be there already. */
import { describe, expect, test } from 'bun:test'
import {
  chainsOf,
  collectionCommand,
  landmarkOf,
  OVERRIDES,
  overrideCommands,
  ruleCounts,
  setsOf,
} from '../../../chain/filter/nftables/chains.ts'
import {
  collectionsOf,
  families,
  type OurFamily,
  ownChains,
  type Part,
  partOf,
} from '../../../chain/filter/nftables/layout.ts'
import { errno } from '../../../chain/linux/libc/errno.ts'
import { applyBatch } from '../../../chain/linux/nftables/batch.ts'
import { listChains, listRules } from '../../../chain/linux/nftables/list.ts'
import { openNetfilter } from '../../../chain/linux/nftables/netfilter.ts'
import { hostNamespace } from '../../fixtures/namespace.ts'
import { flushRuleset, ruleset, withoutRuleset } from '../../fixtures/ruleset.ts'

const host = hostNamespace()
withoutRuleset()

const parts = families.flatMap(family =>
  (['base', 'forward'] as const).map(part => [family, part] as [OurFamily, Part]),
)
const apply = (...commands: Parameters<typeof applyBatch>[0][]) =>
  expect(applyBatch(commands.flat())).toBe(true)

describe.each(parts)('%s %s', (family, part) => {
  test('comes to be with its landmark, and all its chains are known for ours', () => {
    apply(chainsOf(family, part))
    using netfilter = openNetfilter()
    const names = listChains(netfilter, family).map(({ name }) => name)
    expect(names).toContain(landmarkOf(family, part))
    for (const name of names) expect(ownChains[family]).toContain(name)
  })

  test('has as many rules in the kernel as CHECK will look for', () => {
    apply(chainsOf(family, part))
    using netfilter = openNetfilter()
    const counts = new Map<string, number>()
    for (const { chain } of listRules(netfilter, { family, table: 'catena' }))
      counts.set(chain, (counts.get(chain) ?? 0) + 1)
    expect(counts).toEqual(ruleCounts(family, part))
  })

  test('is refused where another process has made it meanwhile, and nothing is doubled', () => {
    apply(chainsOf(family, part))
    const before = ruleset()
    expect(() => applyBatch(chainsOf(family, part))).toThrow(expect.objectContaining({ errno: errno.EEXIST }))
    expect(ruleset()).toBe(before)
  })

  test('stands beside the other part, made before or after', () => {
    const other = part === 'base' ? 'forward' : 'base'
    apply(chainsOf(family, part))
    apply(chainsOf(family, other))
    const one = host.run('nft', 'list', 'chains')
    flushRuleset()
    apply(chainsOf(family, other))
    apply(chainsOf(family, part))
    expect(host.run('nft', 'list', 'chains').split('\n').sort()).toEqual(one.split('\n').sort())
  })

  test('its sets are those of its roles but for those that are made when needed; they may be there', () => {
    const names = setsOf(family, part).map(command => ('name' in command ? command.name : ''))
    const wanted = collectionsOf(family).filter(
      ({ role, waitsFor }) => partOf(role) === part && waitsFor === undefined,
    )
    expect(names).toEqual(wanted.map(({ name }) => name))
    apply(chainsOf(family, part))
    apply(setsOf(family, part))
  })
})

test('collections that wait are made when they are needed, and found as they are', () => {
  for (const family of families) apply(chainsOf(family, 'base'))
  const waiting = collectionsOf('ip6').filter(({ waitsFor }) => waitsFor !== undefined)
  for (const _ of [1, 2]) apply(waiting.map(each => collectionCommand('ip6', each)))
  const listed = host.run('nft', 'list', 'sets', 'ip6')
  for (const { name } of waiting) expect(listed).toContain(name)
})

test('another table may have them for a trial', () => {
  const [collection] = collectionsOf('ip')
  if (collection)
    expect(collectionCommand('ip', collection, 'trial')).toMatchObject({
      table: 'trial',
      name: collection.name,
    })
})

test('an administrator’s chain is made once, and jumped to before anything is accepted', () => {
  apply(chainsOf('ip', 'forward'), overrideCommands({ family: 'ip', name: 'CNI-ADMIN', exists: false }))
  apply(overrideCommands({ family: 'ip', name: 'CNI-ADMIN', exists: true }))
  using netfilter = openNetfilter()
  const jumps = listRules(netfilter, { family: 'ip', table: 'catena', chain: OVERRIDES })
  expect(jumps.map(({ targets }) => targets)).toEqual([['CNI-ADMIN'], ['CNI-ADMIN']])
  const forward = listRules(netfilter, { family: 'ip', table: 'catena', chain: 'forward' }).map(
    ({ targets, mayDrop }) => (mayDrop ? 'drop' : (targets[0] ?? 'accept')),
  )
  expect(forward).toEqual(['drop', 'drop', 'drop', 'overrides', 'accept', 'accept'])
  expect(() => applyBatch(overrideCommands({ family: 'ip', name: 'CNI-ADMIN', exists: false }))).toThrow(
    expect.objectContaining({ errno: errno.EEXIST }),
  )
})

test('what is translated is translated before firewalld looks, and behind iptables’ own', () => {
  apply(chainsOf('ip', 'base'))
  using netfilter = openNetfilter()
  const nat = listChains(netfilter, 'ip').filter(({ type }) => type === 'nat')
  const priorities = Object.fromEntries(nat.map(({ name, priority }) => [name, priority]))
  // linux/netfilter_ipv4.h: NF_IP_PRI_NAT_DST -100, NF_IP_PRI_NAT_SRC 100; firewalld is ten behind each
  expect(priorities).toEqual({ prerouting: -95, output: -95, postrouting: 105 })
})
