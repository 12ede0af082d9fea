/** Filters of queueing disciplines: as the usual tools send them, and as the kernel keeps them. */
import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { addressBytes, addressText } from '../../../chain/ip/bytes.ts'
import { CodecError } from '../../../chain/linux/netlink/codec.ts'
import {
  type Filter,
  listFilters,
  matchPrefix,
  newFilter,
  readFilter,
} from '../../../chain/linux/netlink/filter.ts'
import { handleOf, newDiscipline } from '../../../chain/linux/netlink/qdisc.ts'
import { batch } from '../../../chain/linux/netlink/socket.ts'
import { freshNamespace } from '../../fixtures/namespace.ts'
import { bytes, outcomesOfCut } from './captured.ts'

/** `tc filter add dev v0 parent ffff: protocol ip prio 1 u32 match ip dst 10.0.0.0/8 flowid 1:1 action mirred egress redirect dev ifb9`. */
const filter = bytes(`
  00 00 00 00 04 00 00 00   # AF_UNSPEC, index 4
  00 00 00 00 00 00 ff ff   # handle, parent ffff:
  08 00 01 00               # ETH_P_IP in network order, priority 1
  08 00 01 00 75 33 32 00   # TCA_KIND "u32"
  68 00 02 00               # TCA_OPTIONS, length 104
  08 00 01 00 01 00 01 00   # TCA_U32_CLASSID 1:1
  38 00 07 00               # TCA_U32_ACT, length 56
  34 00 01 00               # the first, length 52
  0b 00 01 00 6d 69 72 72 65 64 00 00   # TCA_ACT_KIND "mirred"
  24 00 02 80               # TCA_ACT_OPTIONS, length 36
  20 00 02 00               # TCA_MIRRED_PARMS, length 32
  00 00 00 00 00 00 00 00   # index, capabilities
  04 00 00 00               # TC_ACT_STOLEN
  00 00 00 00 00 00 00 00   # counts
  01 00 00 00               # TCA_EGRESS_REDIR
  02 00 00 00               # to link 2
  24 00 05 00               # TCA_U32_SEL, length 36
  01 00 01 00 00 00 00 00   # TC_U32_TERMINAL, shift, 1 key
  00 00 00 00 00 00 00 00
  ff 00 00 00 0a 00 00 00   # mask, value
  10 00 00 00 00 00 00 00   # offset 16, offset mask
`)

const toTens: Filter = {
  priority: 1,
  protocol: 'ipv4',
  keys: [{ offset: 16, mask: 0xff000000, value: 0x0a000000 }],
  classId: handleOf(1, 1),
  redirectTo: 2,
}

test('what tc filter add sends is read as what it says', () => {
  expect(readFilter(filter)).toEqual([toTens])
})

test('what is written is read as it was', () => {
  const uint32 = fc.nat(0xffffffff)
  const key = fc.record({ offset: fc.nat(60), mask: fc.integer({ min: 1, max: 0xffffffff }), value: uint32 })
  const given: fc.Arbitrary<Filter> = fc.record(
    {
      priority: fc.integer({ min: 1, max: 0xffff }),
      protocol: fc.constantFrom('all', 'ipv4', 'ipv6'),
      keys: fc.array(key, { maxLength: 4 }),
      classId: uint32,
      redirectTo: fc.nat(0x7fffffff),
    },
    { requiredKeys: ['priority', 'protocol', 'keys'] },
  )
  fc.assert(
    fc.property(given, filter =>
      expect(readFilter(newFilter(4, handleOf(0xffff), filter).payload)).toEqual([filter]),
    ),
  )
})

test.each([
  { prefix: '10.1.2.3', length: 32, keys: [[16, 0xffffffff, 0x0a010203]] },
  { prefix: '10.1.2.3', length: 9, keys: [[16, 0xff800000, 0x0a000000]] },
  { prefix: '0.0.0.0', length: 0, keys: [] },
  {
    prefix: '2001:db8::',
    length: 33,
    keys: [
      [24, 0xffffffff, 0x20010db8],
      [28, 0x80000000, 0],
    ],
  },
  { prefix: '::', length: 0, keys: [] },
])('$prefix/$length as keys of a destination', ({ prefix, length, keys }) => {
  const found = matchPrefix({ address: prefix, prefixLength: length }, 'destination')
  expect<unknown>(found.map(({ mask, offset, value }) => [offset, mask, value])).toEqual(keys)
})

test('keys match what is in the prefix, and nothing else', () => {
  const address = fc.oneof(...[4, 16].map(count => fc.uint8Array({ minLength: count, maxLength: count })))
  fc.assert(
    fc.property(address, fc.nat(128), fc.nat(127), (bytes, length, bit) => {
      const width = bytes.length * 8
      const [prefixLength, flipped] = [length % (width + 1), bit % width]
      const keys = matchPrefix({ address: addressText(bytes), prefixLength }, 'source')
      const header = new DataView(new ArrayBuffer(40))
      const at = bytes.length === 4 ? 12 : 8 // struct iphdr, struct ipv6hdr
      const other = bytes.slice()
      other[flipped >> 3] = (other[flipped >> 3] ?? 0) ^ (0x80 >> (flipped & 7))
      const matches = (source: Uint8Array) => {
        new Uint8Array(header.buffer).set(source, at)
        return keys.every(({ offset, mask, value }) => (header.getUint32(offset) & mask) >>> 0 === value)
      }
      expect(matches(bytes)).toBe(true)
      expect(matches(other)).toBe(flipped >= prefixLength)
      expect(addressBytes(addressText(bytes))).toEqual(bytes)
    }),
  )
})

test('filters come back from the kernel as they were added, in the order in which they are asked', () => {
  using host = freshNamespace()
  const { index } = host.createLink({ name: 'one', kind: { type: 'veth', peer: { name: 'two' } } })
  const filters = [
    { ...toTens, redirectTo: index },
    {
      priority: 2,
      protocol: 'ipv6',
      keys: matchPrefix({ address: 'fd00::', prefixLength: 8 }, 'source'),
      classId: handleOf(1),
    },
    { priority: 3, protocol: 'all', keys: [], classId: handleOf(1, 1), redirectTo: index },
  ] as const satisfies Filter[]
  batch(host.route, [
    newDiscipline(index, { kind: 'ingress' }, { handle: handleOf(0xffff), parent: 'ingress' }),
    ...filters.toReversed().map(filter => newFilter(index, handleOf(0xffff), filter)),
  ])
  expect(listFilters(host.route, index, handleOf(0xffff))).toEqual([...filters])
})

test('where there is no such discipline, or no such link, there are no filters', () => {
  using host = freshNamespace()
  const { index } = host.createLink({ name: 'one', kind: { type: 'veth', peer: { name: 'two' } } })
  expect([
    listFilters(host.route, index, handleOf(0xffff)),
    listFilters(host.route, 4711, handleOf(1)),
  ]).toEqual([[], []])
})

test('a selector that promises more keys than it has is refused', () => {
  const broken = filter.slice()
  const at = broken.length - 16 - 16 + 2 // nkeys of struct tc_u32_sel
  expect(broken[at]).toBe(1)
  broken[at] = 2
  expect(() => readFilter(broken)).toThrow(CodecError)
})

test('a message that is cut anywhere is read, or refused as CodecError', () => {
  expect(outcomesOfCut(filter, readFilter)).toEqual(new Set(['refused', 'read']))
})
