/** Queueing disciplines: as the usual tools send them, and as the kernel keeps them. */
import { expect, test } from 'bun:test'
import {
  type Bucket,
  type Discipline,
  findBucketClass,
  findDiscipline,
  handleOf,
  newBucketClass,
  newDiscipline,
  readDiscipline,
  removeDiscipline,
} from '../../../chain/linux/netlink/qdisc.ts'
import { batch, request } from '../../../chain/linux/netlink/socket.ts'
import { freshNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { testOn } from '../../kernel/features.ts'
import { bytes, outcomesOfCut } from './captured.ts'

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

test('what tc qdisc add sends is read as what it says', () => {
  const bucket = { rate: 1_000_000n, limit: 1_025_000, ticks: 15_625_000 }
  expect(readDiscipline(discipline)).toEqual({ kind: 'tbf', handle: handleOf(1), bucket })
})

test('handles are those that tc writes', () => {
  expect([handleOf(1), handleOf(1, 2), handleOf(0xffff)]).toEqual([0x10000, 0x10002, 0xffff0000])
})

/** A link, and its number. */
function linkOf(host: Namespace): number {
  return host.createLink({ name: 'one', kind: { type: 'veth', peer: { name: 'two' } } }).index
}

const bucket: Bucket = { rate: 1_000_000n, limit: 9000, ticks: 50_000, burst: 7000 }
const withoutBurst = ({ burst: _, ...shown }: Bucket) => shown
const root = { handle: handleOf(1), parent: 'root' } as const

test.each<[string, Partial<Bucket>]>([
  ['a rate of 32 bits', { rate: 0xffffffffn }],
  ['a rate of 64', { rate: 0x1_0000_0000n }],
  ['a slow one', { rate: 1n, ticks: 0xffffffff }],
  ['the largest limit', { limit: 0xffffffff }],
])('a token bucket with %s comes back as it was added', (_, more) => {
  using host = freshNamespace()
  const index = linkOf(host)
  const wanted = { ...bucket, ...more }
  request(host.route, newDiscipline(index, { kind: 'tbf', ...wanted }, root))
  expect(findDiscipline(host.route, index, 'root')).toEqual({
    kind: 'tbf',
    handle: handleOf(1),
    bucket: withoutBurst(wanted),
  })
})

test('a burst that takes longer than 32 bits can tell is the kernel’s to count', () => {
  using host = freshNamespace()
  const index = linkOf(host)
  const nanoseconds = 550e9 // at one byte a second
  const slow = { rate: 1n, ticks: nanoseconds / 64, burst: 550, limit: 1000 }
  request(host.route, newDiscipline(index, { kind: 'tbf', ...slow }, root))
  expect(findDiscipline(host.route, index, 'root')?.bucket).toEqual({
    rate: 1n,
    limit: 1000,
    ticks: (nanoseconds / 64) % 2 ** 32,
  })
})

test('what is there goes once; what is not, and a link that has gone, is an answer', () => {
  using host = freshNamespace()
  const index = linkOf(host)
  expect(findDiscipline(host.route, index, 'root')?.handle ?? 0).toBe(0) // the kernel's own
  expect(findDiscipline(host.route, index, 'ingress')).toBeUndefined()
  batch(host.route, [
    newDiscipline(index, { kind: 'tbf', ...bucket }, root),
    newDiscipline(index, { kind: 'ingress' }, { handle: handleOf(0xffff), parent: 'ingress' }),
  ])
  expect(findDiscipline(host.route, index, 'ingress')).toMatchObject({
    kind: 'ingress',
    handle: handleOf(0xffff),
  })
  for (const place of ['root', 'ingress'] as const) {
    expect(removeDiscipline(host.route, index, place)).toBe('removed')
    expect(removeDiscipline(host.route, index, place)).toBe('absent')
    expect(findDiscipline(host.route, 4711, place)).toBeUndefined()
    expect(removeDiscipline(host.route, 4711, place)).toBe('absent')
  }
})

const hierarchy: Discipline = { kind: 'htb', defaultClass: 7 }

testOn(['tbf'], 'a hierarchy of buckets has its class, whose rate is its ceiling, and a queue below', () => {
  using host = freshNamespace()
  const index = linkOf(host)
  const fast = { ...bucket, rate: 0x2_0000_0000n }
  batch(host.route, [
    newDiscipline(index, hierarchy, root),
    newBucketClass(index, fast, { classId: handleOf(1, 7), parent: handleOf(1) }),
    newDiscipline(index, { kind: 'bfifo', limit: 9000 }, { handle: handleOf(2), parent: handleOf(1, 7) }),
  ])
  expect(findDiscipline(host.route, index, 'root')).toEqual({
    kind: 'htb',
    handle: handleOf(1),
    defaultClass: 7,
  })
  expect(findBucketClass(host.route, index, handleOf(1, 7))).toEqual({
    kind: 'htb',
    handle: handleOf(1, 7),
    bucket: { rate: fast.rate, limit: 0, ticks: fast.ticks },
  })
  expect(findBucketClass(host.route, index, handleOf(1, 8))).toBeUndefined()
  const shown = host.run('tc', 'class', 'show', 'dev', 'one')
  expect(shown).toMatch(/rate 68719Mbit ceil 68719Mbit/)
})

test('a second discipline at a place is refused in the kernel’s words', () => {
  using host = freshNamespace()
  const { index } = host.createLink({ name: 'one', kind: { type: 'veth', peer: { name: 'two' } } })
  const hook = newDiscipline(index, { kind: 'ingress' }, { handle: handleOf(0xffff), parent: 'ingress' })
  request(host.route, hook)
  expect(() => request(host.route, hook)).toThrow(/^add ingress to link \d+: File exists/)
})

test('a message that is cut anywhere is read, or refused as CodecError', () => {
  expect(outcomesOfCut(discipline, readDiscipline)).toEqual(new Set(['refused', 'read']))
})
