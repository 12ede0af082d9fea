/** What a container has in our tables, as data, and as commands. */
import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import {
  additions,
  collectionOf,
  type Element,
  elementCommands,
  elementOf,
  type Fields,
  keyText,
  masquerade,
  networkIn,
  type Owned,
} from '../../../chain/filter/nftables/elements.ts'
import { collectionsOf, families } from '../../../chain/filter/nftables/layout.ts'
import { ownerOf } from '../../../chain/plugin/owner.ts'
import { attachmentOf } from '../../fixtures/attachment.ts'

const owner = ownerOf(attachmentOf('one'))

test.each([
  ['10.1.0.0/16', { prefix: { addr: '10.1.0.0', len: 16 } }],
  ['0.0.0.0/0', { prefix: { addr: '0.0.0.0', len: 0 } }],
  ['10.1.0.2/32', '10.1.0.2'],
  ['fd00::/64', { prefix: { addr: 'fd00::', len: 64 } }],
  ['fd00::2/32', { prefix: { addr: 'fd00::2', len: 32 } }],
  ['fd00::2/128', 'fd00::2'],
])('network %s is, as nft takes it, %j', (cidr, network) => {
  expect(networkIn(cidr)).toEqual(network as never)
})

test('a container is masqueraded by each address, but not to that address’s own network', () => {
  const sources = [
    { address: '10.1.0.2', network: '10.1.0.0/16' },
    { address: 'fd00::2', network: 'fd00::2/128' },
  ]
  expect(masquerade(sources)).toEqual([
    { family: 'ip', kind: 'masquerade', key: ['10.1.0.2'] },
    {
      family: 'ip',
      kind: 'masquerade-exception',
      key: ['10.1.0.2', { prefix: { addr: '10.1.0.0', len: 16 } }],
    },
    { family: 'ip6', kind: 'masquerade', key: ['fd00::2'] },
    { family: 'ip6', kind: 'masquerade-exception', key: ['fd00::2', 'fd00::2'] },
  ])
})

describe('fields', () => {
  test('that the layout knows are an element, in one collection', () => {
    for (const family of families)
      for (const collection of collectionsOf(family)) {
        const { kind, key, waitsFor } = collection
        const fields = {
          family,
          kind,
          key: key.map(() => 'x'),
          ...(waitsFor === undefined ? {} : { waitsFor }),
        }
        expect(collectionOf(elementOf(fields))).toBe(collection)
      }
  })

  test.each<[string, Fields]>([
    ['a kind of another family', { family: 'bridge', kind: 'masquerade', key: ['10.1.0.2'] }],
    ['a key that is too short', { family: 'ip', kind: 'published-port', key: ['tcp'] }],
    ['a key that is too long', { family: 'ip', kind: 'masquerade', key: ['10.1.0.2', 'x'] }],
    ['what waits, without a word for what', { family: 'ip', kind: 'waiting', key: ['x', '10.1.0.2'] }],
    [
      'what waits where nothing waits',
      { family: 'ip', kind: 'waiting', waitsFor: 'published-port', key: ['x', 'tcp', 80] },
    ],
  ])('that are %s are none', (_, fields) => {
    expect(() => elementOf(fields)).toThrow(TypeError)
    expect(() => collectionOf(fields as Element)).toThrow(TypeError)
  })

  test('the ports of any address, and of one, are told apart by the key', () => {
    const any: Element = { family: 'ip', kind: 'published-port', key: ['tcp', 80], value: 8080 }
    const one: Element = { family: 'ip', kind: 'published-port', key: ['192.0.2.1', 'tcp', 80], value: 8080 }
    expect([collectionOf(any).name, collectionOf(one).name]).toEqual(['port_port', 'hostip_port'])
  })
})

test('keys are the same text where the kernel has one key, and another elsewhere', () => {
  const element = fc.oneof(
    fc
      .constantFrom<Element['family']>('ip', 'ip6')
      .chain(family =>
        fc.constantFrom(
          { family, kind: 'masquerade', key: ['10.1.0.2'] },
          { family, kind: 'masquerade', key: ['10.1.0.3'] },
          { family, kind: 'forwarded', key: ['10.1.0.2'] },
          { family, kind: 'published-port', key: ['tcp', 80], value: 80 },
          { family, kind: 'published-port', key: ['tcp', 80], value: 81 },
          { family, kind: 'published-port', key: ['udp', 80], value: 80 },
          { family, kind: 'policy-inside', key: ['a', 'b'] },
          { family, kind: 'policy-inside', key: ['a,b', ''] },
        ),
      ),
  )
  const isSame = (one: Element, other: Element) =>
    one.family === other.family &&
    one.kind === other.kind &&
    one.key.length === other.key.length &&
    one.key.every((field, at) => field === other.key[at])
  fc.assert(
    fc.property(element, element, (one, other) => {
      expect(keyText(one as Element) === keyText(other as Element)).toBe(
        isSame(one as Element, other as Element),
      )
    }),
  )
})

describe('commands', () => {
  const port: Element = { family: 'ip', kind: 'published-port', key: ['tcp', 80], value: 8080 }
  const six: Element = { family: 'ip6', kind: 'masquerade', key: ['fd00::2'] }
  const [first, second] = ['10.1.0.2', '10.1.0.3'].map<Element>(address => ({
    family: 'ip',
    kind: 'masquerade',
    key: [address],
  })) as [Element, Element]

  test('have the elements of one collection together, whatever lay between them', () => {
    const commands = elementCommands(
      'delete',
      [first, port, second, six].map(element => ({ element })),
    )
    expect(commands).toMatchObject([
      {
        verb: 'delete',
        kind: 'element',
        family: 'ip',
        table: 'catena',
        name: 'masquerade_source',
        elem: ['10.1.0.2', '10.1.0.3'],
      },
      { family: 'ip', name: 'port_port', elem: [[{ concat: ['tcp', 80] }, 8080]] },
      { family: 'ip6', name: 'masquerade_source', elem: ['fd00::2'] },
    ])
    expect(elementCommands('create', [])).toEqual([])
  })

  test('say whose an element is, in a map with the key', () => {
    expect(
      elementCommands('create', [
        { element: first, comment: 'mine' },
        { element: port, comment: 'mine' },
      ]),
    ).toMatchObject([
      { elem: [{ elem: { val: '10.1.0.2', comment: 'mine' } }] },
      { elem: [[{ elem: { val: { concat: ['tcp', 80] }, comment: 'mine' } }, 8080]] },
    ])
  })

  test('of an owner make chains again, add what is everybody’s, and refuse to take another’s', () => {
    const owned: Owned = {
      owner,
      elements: [first],
      shared: [{ family: 'ip', kind: 'localnet-guard', key: ['cni0'] }],
      chains: [{ family: 'ip', name: 'conditions-1', rules: [[{ accept: null }], [{ drop: null }]] }],
    }
    expect(additions(owned).map(({ verb, kind }) => `${verb} ${kind}`)).toEqual([
      'add chain',
      'flush chain',
      'add rule',
      'add rule',
      'add element',
      'create element',
    ])
    const [, , rule, , shared] = additions(owned)
    expect(rule).toMatchObject({ chain: 'conditions-1', comment: owner.comment })
    expect(JSON.stringify(shared)).not.toContain(owner.id)
  })
})
