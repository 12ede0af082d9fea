/** What our tables hold is read as it was put there, whoever has meddled with the rest. */
import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { chainsOf, collectionCommand } from '../../../chain/filter/nftables/chains.ts'
import { type Element, elementCommands, keyText } from '../../../chain/filter/nftables/elements.ts'
import {
  collectionsOf,
  collectionsWith,
  conditionsChain,
  families,
} from '../../../chain/filter/nftables/layout.ts'
import { listIn, listOwned, ownedChains } from '../../../chain/filter/nftables/read.ts'
import { waitingElement } from '../../../chain/filter/nftables/sharing.ts'
import { addressText } from '../../../chain/ip/bytes.ts'
import { applyBatch } from '../../../chain/linux/nftables/batch.ts'
import { openNetfilter } from '../../../chain/linux/nftables/netfilter.ts'
import type { Command } from '../../../chain/linux/nftables/nft.ts'
import { ownerOf } from '../../../chain/plugin/owner.ts'
import { attachmentOf } from '../../fixtures/attachment.ts'
import { hostNamespace } from '../../fixtures/namespace.ts'
import { withoutRuleset } from '../../fixtures/ruleset.ts'

const host = hostNamespace()
withoutRuleset()

const tables: Command[] = families.flatMap(family => [
  ...chainsOf(family, 'base'),
  ...chainsOf(family, 'forward'),
  ...collectionsOf(family)
    .filter(({ waitsFor }) => waitsFor !== undefined)
    .map(each => collectionCommand(family, each)),
])
const owner = ownerOf(attachmentOf('one'))

const bytes = (count: number) => fc.uint8Array({ minLength: count, maxLength: count })
const inet = { ip: bytes(4).map(addressText), ip6: bytes(16).map(addressText) }
const protocol = fc.constantFrom('tcp', 'udp', 'sctp')
const port = fc.integer({ min: 1, max: 65535 })
const link = fc.stringMatching(/^[a-z][a-z0-9.-]{0,14}$/)
const mac = bytes(6).map(each => each.toHex().replace(/..(?!$)/g, '$&:'))

/** A network of either family, its host bits cleared. */
const network = (family: 'ip' | 'ip6') => {
  const width = family === 'ip' ? 32 : 128
  return fc.tuple(bytes(width / 8), fc.nat(width)).map(([address, len]) => {
    const cleared = address.map((byte, at) => byte & ~(0xff >> Math.min(8, Math.max(0, len - at * 8))))
    const addr = addressText(cleared)
    return len === width ? addr : { prefix: { addr, len } }
  })
}

const element: fc.Arbitrary<Element> = fc.oneof(
  ...(['ip', 'ip6'] as const).flatMap(family => {
    const address = inet[family]
    const of = (kind: string, value?: unknown) => (key: unknown) =>
      ({ family, kind, key, ...(value === undefined ? {} : { value }) }) as Element
    return [
      address.map(each => of('masquerade')([each])),
      fc.tuple(address, network(family)).map(of('masquerade-exception')),
      fc.tuple(address, protocol, port).map(of('hairpin')),
      fc.tuple(address, network(family)).map(of('hairpin-source')),
      fc
        .tuple(protocol, port, address)
        .map(([one, two, value]) => of('published-address', value)([one, two])),
      fc
        .tuple(address, protocol, port, port)
        .map(([one, two, three, value]) => of('published-port', value)([one, two, three])),
      link.map(each => of('localnet-guard')([each])),
      fc.tuple(link, address).map(of('policy-member')),
      fc.tuple(link, link).map(of('policy-inside')),
      fc
        .tuple(address, network(family))
        .map(each => waitingElement(of('masquerade-exception')(each), owner.id)),
      fc.tuple(link, address).map(each => waitingElement(of('isolated')(each), owner.id)),
    ]
  }),
  link.map(each => ({ family: 'bridge', kind: 'guarded-port', key: [each] }) as Element),
  fc.tuple(link, mac).map(key => ({ family: 'bridge', kind: 'allowed-source', key }) as Element),
)

test('elements of every kind come back from the kernel as they were', () => {
  applyBatch(tables)
  using netfilter = openNetfilter()
  fc.assert(
    fc.property(fc.uniqueArray(element, { selector: keyText, maxLength: 8 }), elements => {
      for (const each of elements) {
        const created = elementCommands('create', [{ element: each, comment: owner.comment }])
        const deleted = elementCommands('delete', [{ element: each }])
        expect(applyBatch(created)).toBe(true)
        expect(listOwned(netfilter)).toEqual([{ ...each, owner: owner.id, comment: owner.comment }])
        expect(applyBatch(deleted)).toBe(true)
      }
    }),
    { numRuns: 30 },
  )
})

test('where there is no table there is nothing, and an element with another comment is unowned', () => {
  using netfilter = openNetfilter()
  expect(listOwned(netfilter)).toEqual([])
  applyBatch(tables)
  host.run('nft', 'add', 'element', 'ip', 'catena', 'forwarded', '{ 10.1.0.2 comment "by hand" }')
  host.run('nft', 'add', 'element', 'ip6', 'catena', 'forwarded', '{ fd00::2 }')
  expect(listOwned(netfilter)).toMatchObject([
    { key: ['10.1.0.2'], owner: undefined, comment: 'by hand' },
    { key: ['fd00::2'], owner: undefined, comment: '' },
  ])
  expect(listOwned(netfilter, ['bridge', 'ip6'])).toHaveLength(1)
  expect(listIn(netfilter, 'ip', collectionsWith('ip', 'masquerade', 'policy-member'))).toEqual([])
})

test('a table of that name that somebody else has made is read without harm', () => {
  host.run('nft', 'add', 'table', 'ip', 'catena')
  host.run('nft', 'add', 'set', 'ip', 'catena', 'mine', '{ type inet_service; elements = { 80 } }')
  using netfilter = openNetfilter()
  expect(listOwned(netfilter)).toEqual([])
  expect(ownedChains(netfilter, 'ip')).toEqual([])
})

test('whose a chain of conditions is, either its rules say or what leads there', () => {
  applyBatch(tables)
  const [byRule, byElement, flushed] = ['rule', 'element', 'flushed'].map(id => ownerOf(attachmentOf(id)))
  const chain = (id = '') => conditionsChain(id)
  for (const each of [byRule, byElement, flushed])
    host.run('nft', 'add', 'chain', 'ip', 'catena', chain(each?.id))
  host.run('nft', 'add', 'chain', 'ip', 'catena', 'CNI-ADMIN')
  host.run('nft', 'add', 'rule', 'ip', 'catena', chain(byRule?.id), `accept comment "${byRule?.comment}"`)
  const leading: Element = {
    family: 'ip',
    kind: 'published-conditions',
    key: ['tcp', 80],
    value: { goto: { target: chain(byElement?.id) } },
  }
  applyBatch(elementCommands('create', [{ element: leading, comment: byElement?.comment ?? '' }]))
  using netfilter = openNetfilter()
  expect(ownedChains(netfilter, 'ip')).toEqual([
    { family: 'ip', name: chain(byRule?.id), owner: byRule?.id ?? '' },
    { family: 'ip', name: chain(byElement?.id), owner: byElement?.id ?? '' },
  ])
  expect(listOwned(netfilter)).toEqual([expect.objectContaining(leading)])
})
