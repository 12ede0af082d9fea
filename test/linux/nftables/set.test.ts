/** Sets, maps and their elements as attributes: what the kernel is told, and what is left to nft. */
import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { addressText } from '../../../chain/ip/bytes.ts'
import { attributes } from '../../../chain/linux/netlink/codec.ts'
import { applyBatch } from '../../../chain/linux/nftables/batch.ts'
import { describeSets } from '../../../chain/linux/nftables/list.ts'
import { openNetfilter } from '../../../chain/linux/nftables/netfilter.ts'
import type { Command, Json, MapSpec, SetSpec } from '../../../chain/linux/nftables/nft.ts'
import { encodeElements, encodeSet } from '../../../chain/linux/nftables/set.ts'
import { OnlyNft } from '../../../chain/linux/nftables/type.ts'
import { freshNamespace } from '../../fixtures/namespace.ts'

const place = { family: 'ip', table: 't', name: 's' } as const
const set = (type: string | string[], more: Partial<MapSpec> = {}): SetSpec | MapSpec => ({
  ...place,
  type,
  ...more,
})
const interval = { flags: ['interval'] } as { flags: ['interval'] }
const pair = ['ipv4_addr', 'ipv4_addr']

const kinds: [string, SetSpec | MapSpec][] = [
  ['a set of one type', set('ether_addr')],
  ['a concatenation', set(['ifname', 'ipv4_addr', 'inet_proto', 'inet_service'])],
  ['a concatenation with intervals', set(pair, interval)],
  ['a map', set(['inet_proto', 'inet_service'], { map: 'ipv4_addr' })],
  ['a map to verdicts', set('inet_service', { map: 'verdict' })],
]

test.each(kinds)('%s is described as the kernel describes it', (_, spec) => {
  using host = freshNamespace()
  host.inside(() => {
    const kind = 'map' in spec ? 'map' : 'set'
    const commands = [
      { verb: 'add', kind: 'table', family: 'ip', name: 't' },
      { verb: 'add', kind, ...spec },
    ] as Command[]
    expect(applyBatch(commands)).toBe(true)
    using netfilter = openNetfilter()
    const [{ count: _, ...found } = {}] = describeSets(netfilter, 'ip', 't')
    expect(found).toEqual(encodeSet(spec, 1).description)
  })
})

describe('left to nft are', () => {
  test.each<[string, SetSpec | MapSpec]>([
    ['flags beside intervals', set('ipv4_addr', { flags: ['constant'] })],
    ['intervals of a single field', set('ipv4_addr', interval)],
    ['a type that is not known', set('mark')],
    ['a map to what is not known', set('ipv4_addr', { map: 'mark' })],
  ])('%s', (_, spec) => {
    expect(() => encodeSet(spec, 1)).toThrow(OnlyNft)
  })

  const described = (spec: SetSpec | MapSpec) => encodeSet(spec, 1).description
  test.each<[string, SetSpec | MapSpec, Json]>([
    ['a key with too few parts', set(pair), { concat: ['10.0.0.1'] }],
    ['a key with too many', set('ipv4_addr'), { concat: ['10.0.0.1', '10.0.0.2'] }],
    ['a network among addresses', set('ipv4_addr'), { prefix: { addr: '10.0.0.0', len: 8 } }],
    ['a range', set(pair, interval), { concat: ['10.0.0.1', { range: ['10.0.0.1', '10.0.0.9'] }] }],
    ['a verdict that goes nowhere', set('inet_service', { map: 'verdict' }), [80, { drop: null }]],
    [
      'a value that is a verdict in a map of addresses',
      set('inet_service', { map: 'verdict' }),
      [80, '10.0.0.1'],
    ],
    [
      'an object for a value',
      set('inet_service', { map: 'ipv4_addr' }),
      [80, { prefix: { addr: '10.0.0.0', len: 8 } }],
    ],
  ])('elements with %s', (_, spec, element) => {
    expect(() => encodeElements({ ...place, elem: [element] }, described(spec))).toThrow(OnlyNft)
  })
})

test('many elements come in as many lists as fit into messages, none of them lost', () => {
  const { description } = encodeSet(set('ipv4_addr'), 1)
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 6000 }), fc.nat(128), (count, length) => {
      const elem = Array.from({ length: count }, (_, at) => ({
        elem: { val: addressText(Uint8Array.of(10, 0, at >> 8, at & 255)), comment: 'x'.repeat(length) },
      }))
      const lists = encodeElements({ ...place, elem }, description)
      for (const list of lists) expect(list.length).toBeLessThan(0xffff)
      const found = lists.flatMap(list => attributes(list).flatMap(({ value }) => attributes(value)))
      expect(found).toHaveLength(count)
    }),
    { numRuns: 10, examples: [[0, 0]] },
  )
})

test('networks of every length are to nft what they were', () => {
  using host = freshNamespace()
  const lengths = Array.from({ length: 32 }, (_, at) => at + 1)
  const elem: Json[] = lengths.map(len => ({
    concat: [`10.0.0.${len}`, len === 32 ? '128.0.0.0' : { prefix: { addr: '128.0.0.0', len } }],
  }))
  const commands: Command[] = [
    { verb: 'add', kind: 'table', family: 'ip', name: 't' },
    { verb: 'add', kind: 'set', ...place, type: pair, ...interval },
    { verb: 'add', kind: 'element', ...place, elem },
  ]
  expect(host.inside(() => applyBatch(commands))).toBe(true)
  const { nftables } = JSON.parse(host.run('nft', '-j', 'list', 'set', 'ip', 't', 's'))
  const found: Json[] = nftables.find((each: object) => 'set' in each).set.elem
  const text = (each: Json) => JSON.stringify(each)
  expect(found.map(text).sort()).toEqual(elem.map(text).sort())
})
