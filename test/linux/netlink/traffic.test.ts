import { describe, expect, test } from 'bun:test'
import { CodecError } from '../../../chain/linux/netlink/codec.ts'
import {
  type Filter,
  listFilters,
  matchPrefix,
  newFilter,
  readFilter,
} from '../../../chain/linux/netlink/filter.ts'
import {
  type Bucket,
  findDiscipline,
  handleOf,
  newDiscipline,
  readDiscipline,
  removeDiscipline,
} from '../../../chain/linux/netlink/qdisc.ts'
import { listRules, newRule, readRule, removeRule, sourceRule } from '../../../chain/linux/netlink/rule.ts'
import { batch, request } from '../../../chain/linux/netlink/socket.ts'
import { freshNamespace } from '../../fixtures/namespace.ts'
import { bytes } from './captured.ts'

/** `ip rule add from 10.1.0.2 lookup 1000`, after the message's header. */
const rule = bytes(`
  02 00 20 00               # AF_INET, destination length, source length 32, tos
  00 00 00 01               # RT_TABLE_UNSPEC, reserved, FR_ACT_TO_TBL
  00 00 00 00               # flags
  08 00 02 00 0a 01 00 02   # FRA_SRC 10.1.0.2
  08 00 0f 00 e8 03 00 00   # FRA_TABLE 1000
`)

/** `tc qdisc add dev v0 root handle 1: tbf rate 8mbit burst 1000000 latency 25ms`, without its rate table. */
const discipline = bytes(`
  00 00 00 00 02 00 00 00   # AF_UNSPEC, index 2
  00 00 01 00 ff ff ff ff   # handle 1:, TC_H_ROOT
  00 00 00 00               # tcm_info
  08 00 01 00 74 62 66 00   # TCA_KIND "tbf"
  34 00 02 00               # TCA_OPTIONS, length 52
  28 00 01 00               # TCA_TBF_PARMS, length 40
  03 01 00 00 ff ff 00 00 40 42 0f 00   # cell, Ethernet, overhead, align, mpu, rate 1000000
  00 00 00 00 00 00 00 00 00 00 00 00   # no peak rate
  e8 a3 0f 00               # limit 1025000
  28 6b ee 00               # buffer 15625000
  00 00 00 00               # mtu
  08 00 06 00 40 42 0f 00   # TCA_TBF_BURST 1000000
`)

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

describe('what the usual tools send is read as what it says', () => {
  test('ip rule add', () => {
    expect(readRule(rule)).toEqual({ ...sourceRule('10.1.0.2', 1000), priority: 0 })
  })
  test('tc qdisc add', () => {
    const bucket = { rate: 1_000_000n, limit: 1_025_000, ticks: 15_625_000 }
    expect(readDiscipline(discipline)).toEqual({ kind: 'tbf', handle: handleOf(1), bucket })
  })
  test('tc filter add', () => {
    expect(readFilter(filter)).toEqual([toTens])
  })
})

test('what is written is read as it was', () => {
  expect(readFilter(newFilter(4, handleOf(0xffff), toTens).payload)).toEqual([toTens])
  expect(readRule(newRule(sourceRule('fd00::1', 4242)).payload)).toEqual({
    ...sourceRule('fd00::1', 4242),
    priority: 0,
  })
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

test('rules come back from the kernel as they were added, and go once', () => {
  using host = freshNamespace()
  const wanted = [sourceRule('10.1.0.2', 100), sourceRule('fd00::2', 4242)]
  batch(host.route, wanted.map(newRule))
  const found = listRules(host.route).filter(({ source }) => source)
  expect(found).toMatchObject(wanted)
  for (const rule of wanted) expect(removeRule(host.route, rule)).toBe('removed')
  for (const rule of wanted) expect(removeRule(host.route, rule)).toBe('absent')
})

test('disciplines and filters come back from the kernel as they were added, and go once', () => {
  using host = freshNamespace()
  const { index } = host.createLink({ name: 'one', kind: { type: 'veth', peer: { name: 'two' } } })
  const bucket: Bucket = { rate: 2n ** 33n, limit: 9000, ticks: 50_000, burst: 7000 }
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
    newDiscipline(index, { kind: 'tbf', ...bucket }, { handle: handleOf(1), parent: 'root' }),
    newDiscipline(index, { kind: 'ingress' }, { handle: handleOf(0xffff), parent: 'ingress' }),
    ...filters.map(filter => newFilter(index, handleOf(0xffff), filter)),
  ])
  const { burst: _, ...shown } = bucket
  expect(findDiscipline(host.route, index, 'root')).toEqual({
    kind: 'tbf',
    handle: handleOf(1),
    bucket: shown,
  })
  expect(listFilters(host.route, index, handleOf(0xffff))).toEqual([...filters])
  for (const place of ['root', 'ingress'] as const) {
    expect(removeDiscipline(host.route, index, place)).toBe('removed')
    expect(removeDiscipline(host.route, index, place)).toBe('absent')
  }
  expect(findDiscipline(host.route, index, 'ingress')).toBeUndefined()
  expect(listFilters(host.route, index, handleOf(0xffff))).toEqual([])
})

test('a second discipline at a place is refused in the kernel’s words', () => {
  using host = freshNamespace()
  const { index } = host.createLink({ name: 'one', kind: { type: 'veth', peer: { name: 'two' } } })
  const hook = newDiscipline(index, { kind: 'ingress' }, { handle: handleOf(0xffff), parent: 'ingress' })
  request(host.route, hook)
  expect(() => request(host.route, hook)).toThrow(/^add ingress to link \d+: File exists/)
})

test('a message that is cut anywhere is read, or refused as CodecError', () => {
  for (const [whole, read] of [
    [rule, readRule],
    [discipline, readDiscipline],
    [filter, readFilter],
  ] as const) {
    const refusals = Array.from(whole, (_, length) => {
      try {
        read(whole.subarray(0, length))
        return 'read'
      } catch (thrown) {
        return thrown instanceof CodecError ? 'refused' : thrown
      }
    })
    expect(new Set(refusals)).toEqual(new Set(['refused', 'read']))
  }
})
