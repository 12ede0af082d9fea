/** The layout of our tables as data: what holds in all of it. */
import { expect, test } from 'bun:test'
import {
  collectionsOf,
  collectionsWith,
  conditionsChain,
  families,
  fieldLength,
  isConditionsChain,
  ownChains,
  partOf,
} from '../../../chain/filter/nftables/layout.ts'
import { ownerOf } from '../../../chain/plugin/owner.ts'
import { attachmentOf } from '../../fixtures/attachment.ts'

const all = families.flatMap(family => collectionsOf(family).map(collection => ({ family, ...collection })))

test('no two collections of a table have one name, nor one kind and length of key', () => {
  for (const family of families) {
    const of = collectionsOf(family)
    expect(new Set(of.map(({ name }) => name)).size).toBe(of.length)
    expect(new Set(of.map(({ kind, waitsFor, key }) => `${kind} ${waitsFor} ${key.length}`)).size).toBe(
      of.length,
    )
  }
})

test('the tables of both families of the internet are alike', () => {
  expect(collectionsOf('ip')).toEqual(collectionsOf('ip6'))
})

test('whatever can be shared has where to wait, in the same role, with its owner before the key and no interval', () => {
  const shareable = all.filter(each => each.shareable)
  expect(shareable.length).toBeGreaterThan(5)
  for (const { family, kind, role, key, interval } of shareable) {
    const [waiting, ...more] = all.filter(each => each.family === family && each.waitsFor === kind)
    expect(more).toEqual([])
    expect(waiting).toMatchObject({
      kind: 'waiting',
      role,
      key: ['owner', ...key, ...(interval ? ['length'] : [])],
    })
    expect(waiting?.interval).toBeUndefined()
  }
  expect(all.filter(each => each.waitsFor !== undefined)).toHaveLength(shareable.length)
})

test('only sets are shared: of two values for a key one would be wrong', () => {
  expect(all.filter(each => each.shareable && each.value !== undefined)).toEqual([])
})

test('what another kind keeps begins as that does', () => {
  for (const { family, keptBy, key } of all) {
    if (keptBy === undefined) continue
    const [keeping] = collectionsWith(family, keptBy)
    expect(keeping?.key[0]).toBe(key[0] as never)
  }
})

test('keys fit into what the kernel has for them: 64 bytes, a name of 31', () => {
  for (const { family, name, key } of all) {
    const length = key.reduce((sum, field) => sum + ((fieldLength(field, family) + 3) & ~3), 0)
    expect(length).toBeLessThanOrEqual(64) // NFT_DATA_VALUE_MAXLEN
    expect(name.length).toBeLessThan(128) // NFT_SET_MAXNAMELEN
  }
})

test.each(['masquerade', 'ports', 'frames', undefined] as const)(
  'what serves %p comes with the base',
  role => {
    expect(partOf(role)).toBe('base')
  },
)

test('a firewall has a part of its own', () => {
  expect(partOf('firewall')).toBe('forward')
  expect(collectionsWith('ip', 'forwarded', 'policy-bridge').map(({ role }) => role)).toEqual([
    'firewall',
    'firewall',
  ])
})

test('a chain of conditions is its owner’s alone, and has a name that nft takes', () => {
  const chain = conditionsChain(ownerOf(attachmentOf('one')).id)
  expect(isConditionsChain(chain)).toBe(true)
  for (const name of Object.values(ownChains).flat()) expect(isConditionsChain(name)).toBe(false)
  expect(chain).toMatch(/^[a-z][a-z0-9-]{0,126}$/)
})
