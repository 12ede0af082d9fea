/** One address on two networks: who is looked up, who waits, and who comes next. */
import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { type Element, keyText } from '../../../chain/filter/nftables/elements.ts'
import type { FoundElement } from '../../../chain/filter/nftables/read.ts'
import {
  areRivals,
  awaited,
  foundElement,
  isShareable,
  ownerKey,
  placeAmong,
  promotions,
  waitingElement,
} from '../../../chain/filter/nftables/sharing.ts'
import { addressBytes } from '../../../chain/ip/bytes.ts'
import { type Owner, ownerOf } from '../../../chain/plugin/owner.ts'
import { attachmentOf } from '../../fixtures/attachment.ts'

const owners = ['one', 'two', 'three', 'four'].map(network => ownerOf(attachmentOf('c', { network })))
const [one, two] = owners as [Owner, Owner]

const source = (address: string): Element => ({ family: 'ip', kind: 'masquerade', key: [address] })
const exception = (address: string, addr: string, len: number): Element => ({
  family: 'ip',
  kind: 'masquerade-exception',
  key: [address, len === 32 ? addr : { prefix: { addr, len } }],
})
const found = (element: Element, owner: Owner) => foundElement(element, owner.comment)

test('an owner is, as the first field of a key, its sixteen bytes', () => {
  expect(addressBytes(ownerKey(one.id)).toHex()).toBe(one.id.replace('-', ''))
})

test('sets are shared, maps and what is everybody’s are not', () => {
  expect(isShareable(source('10.1.0.2'))).toBe(true)
  expect(isShareable({ family: 'ip', kind: 'published-port', key: ['tcp', 80], value: 80 })).toBe(false)
  expect(isShareable({ family: 'ip', kind: 'localnet-guard', key: ['cni0'] })).toBe(false)
  expect(isShareable({ family: 'bridge', kind: 'guarded-port', key: ['veth0'] })).toBe(false)
})

describe('rivals', () => {
  test.each([
    ['the same key', source('10.1.0.2'), source('10.1.0.2'), true],
    ['another address', source('10.1.0.2'), source('10.1.0.3'), false],
    [
      'the same address of another kind',
      source('10.1.0.2'),
      { ...source('10.1.0.2'), kind: 'forwarded' } as Element,
      false,
    ],
    ['the same network', exception('10.1.0.2', '10.1.0.0', 16), exception('10.1.0.2', '10.1.0.0', 16), true],
    ['a wider one', exception('10.1.0.2', '10.1.0.0', 24), exception('10.1.0.2', '10.0.0.0', 8), true],
    ['one beside it', exception('10.1.0.2', '10.1.0.0', 24), exception('10.1.0.2', '10.1.1.0', 24), false],
    ['an address within', exception('10.1.0.2', '10.1.0.0', 24), exception('10.1.0.2', '10.1.0.7', 32), true],
    ['everything', exception('10.1.0.2', '0.0.0.0', 0), exception('10.1.0.2', '192.0.2.1', 32), true],
    [
      'the same network of another container',
      exception('10.1.0.2', '10.1.0.0', 16),
      exception('10.1.0.3', '10.1.0.0', 16),
      false,
    ],
  ])('%s', (_, first, second, expected) => {
    expect([areRivals(first, second), areRivals(second, first)]).toEqual([expected, expected])
  })
})

test('what waits is known for what it waits to be, and only what can wait does', () => {
  for (const element of [
    source('10.1.0.2'),
    exception('10.1.0.2', '10.1.0.0', 16),
    exception('10.1.0.2', '10.1.0.7', 32),
  ]) {
    const waiting = waitingElement(element, one.id)
    expect(waiting.key[0]).toBe(ownerKey(one.id))
    expect(awaited(waiting)).toEqual(element)
    expect(keyText(waiting)).not.toBe(keyText(waitingElement(element, two.id)))
    expect(awaited(element)).toBeUndefined()
    expect(() => waitingElement(waiting, two.id)).toThrow(TypeError)
  }
  expect(() => waitingElement({ family: 'bridge', kind: 'guarded-port', key: ['veth0'] }, one.id)).toThrow(
    TypeError,
  )
})

describe('whoever comes second', () => {
  test('waits for the same key', () => {
    const wanted = source('10.1.0.2')
    expect(placeAmong(wanted, { rivals: [found(wanted, one)], owner: two })).toEqual({
      deleted: [],
      created: [{ element: waitingElement(wanted, two.id), comment: two.comment }],
    })
  })

  test('with a wider network takes the place of the narrower, which waits', () => {
    const [wide, narrow] = [exception('10.1.0.2', '10.0.0.0', 8), exception('10.1.0.2', '10.1.0.0', 16)]
    const rival = found(narrow, one)
    expect(placeAmong(wide, { rivals: [rival], owner: two })).toEqual({
      deleted: [rival],
      created: [
        { element: waitingElement(narrow, one.id), comment: one.comment },
        { element: wide, comment: two.comment },
      ],
    })
  })

  test('never takes the place of what is unowned', () => {
    const byHand = foundElement(exception('10.1.0.2', '10.1.0.0', 16), 'by hand')
    const { deleted } = placeAmong(exception('10.1.0.2', '10.0.0.0', 8), { rivals: [byHand], owner: two })
    expect(deleted).toEqual([])
  })
})

/** The sets as the kernel keeps them: a key once, and of prefixes none that overlap. */
function after(state: readonly FoundElement[], exchange: ReturnType<typeof promotions>): FoundElement[] {
  const gone = new Set(exchange.deleted.map(keyText))
  const kept = state.filter(element => !gone.has(keyText(element)))
  const all = [...kept, ...exchange.created.map(({ element, comment }) => foundElement(element, comment))]
  expect(new Set(all.map(keyText)).size).toBe(all.length)
  const active = all.filter(element => awaited(element) === undefined)
  for (const [at, first] of active.entries())
    for (const second of active.slice(at + 1)) expect(areRivals(first, second)).toBe(false)
  return all
}

/** What an owner has, looked up or waiting. */
const of = ({ id }: Owner, state: readonly FoundElement[]) =>
  state.filter(element => element.owner === id).map(element => keyText(awaited(element) ?? element))

/** Of a prefix, or of an address. */
function lengthOf({ key }: Element): number {
  const last = key.at(-1)
  return typeof last === 'object' ? (last as { prefix: { len: number } }).prefix.len : 32
}

test('whoever comes and goes, in whatever order: everybody has what was asked for, and the last one is looked up', () => {
  const prefix = fc.constantFrom(
    exception('10.1.0.2', '0.0.0.0', 0),
    exception('10.1.0.2', '10.0.0.0', 8),
    exception('10.1.0.2', '10.0.0.0', 16),
    exception('10.1.0.2', '10.1.0.0', 16),
    exception('10.1.0.2', '10.1.0.7', 32),
    exception('10.1.0.2', '192.0.2.0', 24),
    source('10.1.0.2'),
  )
  const story = fc.array(fc.tuple(fc.nat(3), prefix), { minLength: 1, maxLength: 12 })
  fc.assert(
    fc.property(story, fc.array(fc.nat(3)), (arrivals, departures) => {
      let state: FoundElement[] = []
      const wanted = new Map<string, string[]>()
      for (const [who, element] of arrivals) {
        const owner = owners[who] as Owner
        if (of(owner, state).some(key => key === keyText(element))) continue
        if (state.some(each => each.owner === owner.id && areRivals(awaited(each) ?? each, element))) continue
        const rivals = state.filter(each => awaited(each) === undefined && areRivals(each, element))
        const exchange =
          rivals.length > 0
            ? placeAmong(element, { rivals, owner })
            : { deleted: [], created: [{ element, comment: owner.comment }] }
        state = after(state, exchange)
        wanted.set(owner.id, [...(wanted.get(owner.id) ?? []), keyText(element)])
      }
      for (const who of departures) {
        const { id } = owners[who] as Owner
        state = state.filter(element => element.owner !== id)
        state = after(state, promotions(state))
        wanted.delete(id)
      }
      for (const owner of owners)
        expect(of(owner, state).sort()).toEqual((wanted.get(owner.id) ?? []).toSorted())
      const present = owners.filter(owner => wanted.has(owner.id))
      if (present.length === 1) expect(state.filter(element => awaited(element) !== undefined)).toEqual([])
      // whoever waits, waits for somebody who has the same, or more
      for (const element of state) {
        const target = awaited(element)
        if (!target) continue
        const inTheWay = state.filter(each => awaited(each) === undefined && areRivals(each, target))
        expect(inTheWay).not.toEqual([])
        for (const each of inTheWay) expect(lengthOf(each)).toBeLessThanOrEqual(lengthOf(target))
      }
    }),
  )
})
