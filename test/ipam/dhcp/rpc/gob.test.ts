/** Go's gob streams: values of any type there and back, and bytes of any kind that do no harm. */
import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import {
  createDecoder,
  createEncoder,
  GobError,
  nextMessage,
  type Schema,
  type Structure,
  type StructureSchema,
  type Value,
} from '../../../../ipam/dhcp/rpc/gob.ts'
import { allocateAnswer, allocateCall } from '../captured.ts'

/** The values of a stream; definitions are none. */
function valuesIn(bytes: Uint8Array): Value[] {
  const decode = createDecoder()
  const values: Value[] = []
  for (let rest = bytes, next = nextMessage(rest); next; next = nextMessage(rest)) {
    const value = decode(next.message)
    if (value !== undefined) values.push(value)
    rest = next.rest
  }
  return values
}

interface Typed {
  schema: Schema
  value: fc.Arbitrary<Value>
}

const builtins: fc.Arbitrary<Typed> = fc.constantFrom<Typed>(
  { schema: 'bool', value: fc.boolean() },
  { schema: 'int', value: fc.integer({ min: -(2 ** 51), max: 2 ** 51 }) },
  { schema: 'uint', value: fc.maxSafeNat() },
  { schema: 'string', value: fc.string({ unit: 'grapheme' }) },
  { schema: 'bytes', value: fc.uint8Array({ maxLength: 20 }) },
)
const lists = (of: fc.Arbitrary<Typed>): fc.Arbitrary<Typed> =>
  of.map(({ schema, value }) => ({
    schema: { kind: 'list', of: schema },
    value: fc.array(value, { maxLength: 4 }),
  }))

const structures = (of: fc.Arbitrary<Typed>): fc.Arbitrary<Typed & { schema: StructureSchema }> =>
  fc.array(of, { maxLength: 4 }).map(fields => ({
    schema: {
      kind: 'structure',
      name: 'Name',
      fields: Object.fromEntries(fields.map(({ schema }, at) => [`F${at}`, schema])),
    },
    value: fc.record(Object.fromEntries(fields.map(({ value }, at) => [`F${at}`, value])), {
      requiredKeys: [],
    }) as fc.Arbitrary<Value>,
  }))

const field = fc.oneof(builtins, lists(builtins), structures(builtins), lists(structures(builtins)))

/** As they come: what is empty is not sent. */
function withoutEmpty(value: Value): Value {
  if (Array.isArray(value)) return value.map(withoutEmpty)
  if (typeof value !== 'object' || value instanceof Uint8Array) return value
  const entries = Object.entries(value).filter(
    ([, each]) => each !== '' && !((Array.isArray(each) || each instanceof Uint8Array) && each.length === 0),
  )
  return Object.fromEntries(entries.map(([name, each]) => [name, withoutEmpty(each as Value)]))
}

test('values of every type come back as they were, one after the other in one stream', () => {
  const pair = structures(field).chain(({ schema, value }) => fc.tuple(fc.constant(schema), value, value))
  fc.assert(
    fc.property(pair, ([schema, one, other]) => {
      const encode = createEncoder()
      const bytes = Buffer.concat([one, other].map(value => encode(schema, value as Structure)))
      const found = valuesIn(bytes).map(value => JSON.parse(JSON.stringify(value)))
      expect(found).toEqual([one, other].map(value => JSON.parse(JSON.stringify(withoutEmpty(value)))))
    }),
  )
})

test('a type is defined once in a stream, whatever follows', () => {
  const schema: StructureSchema = { kind: 'structure', name: 'S', fields: { A: 'int' } }
  const encode = createEncoder()
  const [first, second] = [encode(schema, { A: 1 }), encode(schema, { A: 1 })]
  expect(second.length).toBeLessThan(first.length)
  expect(Buffer.from(first.subarray(first.length - second.length))).toEqual(Buffer.from(second))
})

test.each([-1, 1.5, 2 ** 53, Number.NaN])('%p is no unsigned integer', value => {
  const schema: StructureSchema = { kind: 'structure', name: 'S', fields: { A: 'uint' } }
  expect(() => createEncoder()(schema, { A: value })).toThrow(GobError)
})

describe('a stream', () => {
  test('is cut into the messages that it is made of, however it comes', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 5 }),
        fc.nat(),
        (messages, cut) => {
          const length = (count: number) =>
            count < 128 ? [count] : count < 256 ? [255, count] : [254, count >> 8, count & 255]
          const bytes = Buffer.concat(messages.flatMap(each => [Uint8Array.from(length(each.length)), each]))
          const found: Uint8Array[] = []
          let rest: Uint8Array = bytes
          for (let next = nextMessage(rest); next; next = nextMessage(rest)) {
            found.push(Uint8Array.from(next.message))
            rest = next.rest
          }
          expect([found, rest.length]).toEqual([messages, 0])
          const beginning = bytes.subarray(0, cut % (bytes.length + 1))
          expect(nextMessage(beginning)?.message.length ?? 0).toBeLessThanOrEqual(beginning.length)
        },
      ),
    )
  })

  test.each([
    ['of more than eight bytes', [240, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]],
    ['of 4 GiB', [252, 255, 255, 255, 255]],
    ['beyond 53 bits', [248, 255, 255, 255, 255, 255, 255, 255, 255]],
  ])('that promises a message %s is refused at once', (_, bytes) => {
    expect(() => nextMessage(Uint8Array.from(bytes))).toThrow(GobError)
  })
})

test('bytes that are no gob are refused as such, and nothing else comes of them', () => {
  const captured = fc.constantFrom(Uint8Array.from(allocateCall), Uint8Array.from(allocateAnswer))
  const harm = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 })
  const tried = (bytes: Uint8Array) => {
    try {
      valuesIn(bytes)
    } catch (thrown) {
      expect(thrown).toBeInstanceOf(GobError)
    }
  }
  fc.assert(
    fc.property(captured, harm, (whole, changes) => {
      const broken = whole.slice()
      for (const [at, byte] of changes) broken[at % broken.length] = byte
      tried(broken)
    }),
    { numRuns: 2000 },
  )
  fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), tried), { numRuns: 1000 })
})

test('a type is defined once, and those of definitions themselves not at all: what reads them relies on their shape', () => {
  // -20, which describes structures, as a structure whose `Field` is no list but text
  const field = [1, 5, ...Buffer.from('Field'), 1, 12, 0]
  const description = [3, 1, 1, 1, 83, 1, 40, 0, 1, 1, ...field, 0, 0]
  expect(() => createDecoder()(Uint8Array.from([39, ...description]))).toThrow('type 20 is defined already')
  const own = Uint8Array.from([127, ...description]) // -64
  const decode = createDecoder()
  expect(decode(own)).toBeUndefined()
  expect(() => decode(own)).toThrow('type 64 is defined already')
})

test('lists and structures without an end take no more room than their bytes', () => {
  const list: StructureSchema = { kind: 'structure', name: 'S', fields: { A: { kind: 'list', of: 'bool' } } }
  const bytes = createEncoder()(list, { A: [true] })
  const broken = Uint8Array.from(bytes)
  broken[broken.length - 3] = 127 // a list of 127
  expect(() => valuesIn(broken)).toThrow(/a list of 127 in \d bytes/)
})
