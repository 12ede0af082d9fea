/** What CHECK says of our tables: each thing that somebody has broken by hand, and nothing of what is as ADD left it. */
import { beforeEach, expect, test } from 'bun:test'
import { addOwned } from '../../../chain/filter/nftables/apply.ts'
import type { Element, Owned } from '../../../chain/filter/nftables/elements.ts'
import { conditionsChain } from '../../../chain/filter/nftables/layout.ts'
import { missingOwned } from '../../../chain/filter/nftables/missing.ts'
import { applyRuleset } from '../../../chain/linux/nftables/engine.ts'
import { ownerOf } from '../../../chain/plugin/owner.ts'
import { attachmentOf } from '../../fixtures/attachment.ts'
import { hostNamespace } from '../../fixtures/namespace.ts'
import { withoutRuleset } from '../../fixtures/ruleset.ts'

const host = hostNamespace()
withoutRuleset()

const owner = ownerOf(attachmentOf('one'))
const chain = conditionsChain(owner.id)
const owned: Owned = {
  owner,
  elements: [
    { family: 'ip', kind: 'masquerade', key: ['10.1.0.2'] },
    { family: 'ip', kind: 'forwarded', key: ['10.1.0.2'] },
    {
      family: 'ip',
      kind: 'published-conditions',
      key: ['tcp', 8080],
      value: { goto: { target: chain } },
    },
  ] as Element[],
  chains: [{ family: 'ip', name: chain, rules: [[{ accept: null }]] }],
  overrides: [{ family: 'ip', name: 'CNI-ADMIN' }],
}

beforeEach(() => addOwned(applyRuleset, owned))

test('what ADD has made is as it should be', () => {
  expect(missingOwned(owned)).toEqual([])
  expect(missingOwned({ owner, elements: [] })).toEqual([])
})

test.each([
  {
    what: 'the table, with all that was in it,',
    harm: 'delete table ip catena',
    says: [/^table ip catena is missing$/, /^chain conditions-/, /^element /, /^element /, /^element /],
  },
  {
    what: 'a rule of the base',
    harm: 'flush chain ip catena postrouting',
    says: [/^chain ip catena postrouting has 0 rules instead of \d+$/],
  },
  {
    what: 'the way over an administrator’s chain',
    harm: 'flush chain ip catena overrides',
    says: [/^chain ip catena overrides no longer jumps to CNI-ADMIN$/],
  },
  {
    what: 'an element',
    harm: 'delete element ip catena masquerade_source { 10.1.0.2 }',
    says: [/^element ip catena masquerade_source \["10\.1\.0\.2"\] is missing$/],
  },
  {
    what: 'the chain of conditions',
    harm: `delete element ip catena port_conditions { tcp . 8080 }; delete chain ip catena ${chain}`,
    says: [/^chain conditions-\S+ is missing$/, /^element ip catena port_conditions .* is missing$/],
  },
  {
    what: 'the owner of an element',
    harm: 'delete element ip catena forwarded { 10.1.0.2 }; add element ip catena forwarded { 10.1.0.2 }',
    says: [/^element ip catena forwarded \["10\.1\.0\.2"\] is unowned$/],
  },
])('$what that is gone is told', ({ harm, says }) => {
  for (const command of harm.split('; ')) host.run('nft', ...command.split(' '))
  expect(missingOwned(owned)).toEqual(says.map(each => expect.stringMatching(each)))
})

test('an element that another has is told by whose it is, unless that is fine', async () => {
  const other = ownerOf(attachmentOf('two'))
  await addOwned(applyRuleset, { owner: other, elements: owned.elements.slice(1, 2) })
  expect(missingOwned(owned)).toEqual([
    `element ip catena forwarded ["10.1.0.2"] belongs to ${other.comment}`,
  ])
  expect(missingOwned(owned, id => id === other.id)).toEqual([])
})
