/** What of an owner goes out of our tables: his elements in some roles, and his chains. */
import { beforeEach, expect, test } from 'bun:test'
import { addOwned } from '../../../chain/filter/nftables/apply.ts'
import type { Element } from '../../../chain/filter/nftables/elements.ts'
import { conditionsChain, type Role } from '../../../chain/filter/nftables/layout.ts'
import { listOwned } from '../../../chain/filter/nftables/read.ts'
import { removals } from '../../../chain/filter/nftables/remove.ts'
import { applyRuleset } from '../../../chain/linux/nftables/engine.ts'
import { openNetfilter } from '../../../chain/linux/nftables/netfilter.ts'
import type { Command } from '../../../chain/linux/nftables/nft.ts'
import { ownerOf } from '../../../chain/plugin/owner.ts'
import { attachmentOf } from '../../fixtures/attachment.ts'
import { hostNamespace } from '../../fixtures/namespace.ts'
import { withoutRuleset } from '../../fixtures/ruleset.ts'

const host = hostNamespace()
withoutRuleset()

const [one, two] = ['one', 'two'].map(id => ownerOf(attachmentOf(id))) as [
  ReturnType<typeof ownerOf>,
  ReturnType<typeof ownerOf>,
]
const conditional = (port: number, owner: typeof one): Element => ({
  family: 'ip',
  kind: 'published-conditions',
  key: ['tcp', port],
  value: { goto: { target: conditionsChain(owner.id) } },
})
const ownedBy = (owner: typeof one, last: number) => ({
  owner,
  elements: [
    { family: 'ip', kind: 'masquerade', key: [`10.1.0.${last}`] },
    { family: 'ip6', kind: 'forwarded', key: [`fd00::${last}`] },
    conditional(8000 + last, owner),
  ] as Element[],
  chains: [{ family: 'ip' as const, name: conditionsChain(owner.id), rules: [[{ accept: null }]] }],
})

beforeEach(async () => {
  await addOwned(applyRuleset, ownedBy(one, 2))
  await addOwned(applyRuleset, ownedBy(two, 3))
})

const removing = (owner: string | undefined, ...roles: Role[]) => {
  using netfilter = openNetfilter()
  return removals(netfilter, listOwned(netfilter), {
    isOwner: each => each === owner,
    hasRole: role => roles.includes(role),
  })
}
const brief = (commands: readonly Command[]) =>
  commands.map(
    command => `${command.verb} ${command.kind} ${command.family} ${'name' in command ? command.name : ''}`,
  )

test('elements go by role, and with ports the owner’s chain, emptied first', () => {
  const chain = conditionsChain(one.id)
  expect(brief(removing(one.id, 'masquerade'))).toEqual(['delete element ip masquerade_source'])
  expect(brief(removing(one.id, 'firewall'))).toEqual(['delete element ip6 forwarded'])
  expect(brief(removing(one.id, 'ports', 'masquerade'))).toEqual([
    'delete element ip masquerade_source',
    'delete element ip port_conditions',
    `flush chain ip ${chain}`,
    `delete chain ip ${chain}`,
  ])
  expect(removing(one.id, 'frames')).toEqual([])
})

test('what the kernel is told so, it does, and the other owner has all of his', async () => {
  await applyRuleset(removing(one.id, 'ports', 'masquerade', 'firewall'))
  using netfilter = openNetfilter()
  expect(new Set(listOwned(netfilter).map(({ owner }) => owner))).toEqual(new Set([two.id]))
  const chains = host.run('nft', 'list', 'chains')
  expect([one, two].map(({ id }) => chains.includes(conditionsChain(id)))).toEqual([false, true])
})

test('what is unowned is not removed', () => {
  host.run('nft', 'add', 'element', 'ip6', 'catena', 'forwarded', '{ fd00::9 comment "by hand" }')
  expect(removing(undefined, 'firewall', 'ports')).toEqual([])
})

test('a chain is found though its rules and what leads there are not both left', () => {
  const chain = conditionsChain(one.id)
  host.run('nft', 'flush', 'chain', 'ip', 'catena', chain)
  expect(brief(removing(one.id, 'ports'))).toContain(`delete chain ip ${chain}`)
})
