/** Domain names and text in options: as they are written, and whatever else may stand there. */
import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { namesIn, textIn } from '../../../ipam/dhcp/codec.ts'

const label = fc.stringMatching(/^[a-z0-9-]{1,20}$/)
const domain = fc.array(label, { minLength: 1, maxLength: 4 }).map(labels => labels.join('.'))

const encoded = (name: string) =>
  Buffer.concat([
    ...name.split('.').map(each => Buffer.from([each.length, ...Buffer.from(each)])),
    Buffer.of(0),
  ])

describe('names', () => {
  test('are read in their order, each to its end', () => {
    fc.assert(
      fc.property(fc.array(domain, { maxLength: 6 }), names => {
        expect(namesIn(Buffer.concat(names.map(encoded)))).toEqual(names)
      }),
    )
  })

  test('may end in what stands before, which may do so too', () => {
    fc.assert(
      fc.property(domain, fc.array(label, { minLength: 1, maxLength: 4 }), (name, heads) => {
        const parts = [encoded(name)]
        const names = [name]
        let place = 0
        for (const head of heads) {
          const next = parts.reduce((sum, { length }) => sum + length, 0)
          parts.push(Buffer.from([head.length, ...Buffer.from(head), 0xc0 | (place >> 8), place & 255]))
          names.push(`${head}.${names.at(-1)}`)
          place = next
        }
        expect(namesIn(Buffer.concat(parts))).toEqual(names)
      }),
    )
  })

  test.each([
    ['that end in what comes after', [1, 0x61, 0xc0, 40, 1, 0x62, 0]],
    ['without an end', [1, 0x61]],
    ['whose label is cut', [5, 0x61, 0x62]],
    ['whose pointer is cut', [1, 0x61, 0xc0]],
    ['with a kind of label that is unknown', [0x41, 0x61, 0]],
    ['with what is not printed', [1, 0x07, 0]],
  ])('%s end the list', (_, bytes) => {
    expect(namesIn(Buffer.concat([encoded('example.org'), Uint8Array.from(bytes)]))).toEqual(['example.org'])
    expect(namesIn(Uint8Array.from(bytes))).toEqual([])
  })

  test('never end in themselves', () => {
    expect(namesIn(Uint8Array.of(0xc0, 0))).toEqual([])
    expect(namesIn(Uint8Array.of(1, 0x61, 0xc0, 2))).toEqual([])
    expect(namesIn(Uint8Array.of(1, 0x61, 0xc0, 0))).toEqual([])
  })

  test('are no longer than names are, and no more than anybody needs', () => {
    const long = Array(5).fill('x'.repeat(60)).join('.')
    expect(namesIn(encoded(long))).toEqual([])
    expect(namesIn(encoded(Array(4).fill('x'.repeat(60)).join('.')))).toHaveLength(1)
    expect(namesIn(Buffer.concat(Array(100).fill(encoded('a'))))).toHaveLength(64)
    expect(namesIn(Buffer.concat([Buffer.of(0, 0), encoded('a'), Buffer.of(0)]))).toEqual(['a']) // the root is none
    expect(namesIn(undefined)).toEqual([])
  })

  test('of any bytes are some names, each of which is one', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
        for (const name of namesIn(bytes)) expect(name).toMatch(/^[\x21-\x7e]{1,255}$/)
      }),
      { numRuns: 1000 },
    )
  })
})

test('text is what can be printed, with or without zeros behind it', () => {
  const read = (...bytes: number[]) => textIn(Uint8Array.from(bytes))
  expect([
    read(0x61, 0x7e),
    read(0x61, 0, 0),
    read(),
    read(0),
    read(0x61, 0x20),
    read(0x61, 0, 0x62),
    read(0xe9),
  ]).toEqual(['a~', 'a', undefined, undefined, undefined, undefined, undefined])
  expect(textIn(undefined)).toBeUndefined()
})
