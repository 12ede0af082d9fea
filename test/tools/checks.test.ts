/** Checks beside the schemas that they are made of: on any input both take the same, make the same of it, and say the same. */
import { expect, test } from 'bun:test'
import fc, { type Arbitrary } from 'fast-check'
import * as z from 'zod/mini'
import { decodeBySchema, decodeLenientlyBySchema } from '../../chain/protocol/by-schema.ts'
import { type Check, type Checks, decode, decodeLeniently } from '../../chain/protocol/checks.ts'
import { toCniError } from '../../chain/protocol/error.ts'
import { checkFiles, checkOf } from '../../tools/docs/checks.ts'
import { checksOf } from '../fixtures/checks.ts'

const root = `${import.meta.dir}/../..`

type Named = readonly [name: string, checks: Checks<unknown>]

const all: Named[] = []
for (const path of Object.keys(await checkFiles())) {
  const exported = (await import(`${root}/${path}`)) as Record<string, Checks<unknown>>
  for (const [name, checks] of Object.entries(exported)) all.push([`${path} ${name}`, checks])
}

/** What rules tell apart: addresses, networks, names of interfaces, of chains, of backends, of folders. */
const texts = fc.constantFrom(
  ...['', '10.1.0.1', '10.1.0.0/16', 'fd00::1', 'fd00::/64', '10.1.0.1/33', '010.1.0.1', 'a b', 'cni0', '..'],
  ...[
    'iptables',
    'nftables',
    'firewalld',
    'open',
    'same-bridge',
    'tcp',
    'TCP',
    'icmp',
    'CNI-FORWARD',
    'input',
  ],
  ...[
    '-s',
    '!',
    'ip',
    'x'.repeat(28),
    'x'.repeat(29),
    '/run/x',
    'run/x',
    'flannel',
    'host-local',
    'one\ntwo',
  ],
  ...['auto', 'slaac', '02:00:00:00:00:01'],
)
const numbers = fc.oneof(
  fc.constantFrom(-1, 0, 1, 31, 32, 80, 253, 255, 4094, 4095, 65535, 65536, 0x7fffffff, 0x80000000),
  fc.constantFrom(0xffffffff, 2 ** 32, 2 ** 53 - 1, 2 ** 53, 2 ** 64, 2 ** 65, 1.5, Number.POSITIVE_INFINITY),
)
const anything = fc.oneof(texts, numbers, fc.boolean(), fc.constant(null), fc.jsonValue({ maxDepth: 2 }))

/** A key as it is spelt, or otherwise. */
const spelt = (key: string) =>
  fc.oneof(
    { weight: 6, arbitrary: fc.constant(key) },
    { weight: 1, arbitrary: fc.constantFrom(key.toUpperCase(), key.toLowerCase()) },
  )

function wellFormed(check: Check): Arbitrary<unknown> {
  const { type, keys = {}, each = { type: 'unknown' }, values = [] } = check
  switch (type) {
    case 'string':
      return texts
    case 'boolean':
      return fc.boolean()
    case 'int':
    case 'number':
      return fc.oneof(fc.integer({ min: 0, max: 100 }), numbers)
    case 'literal':
      return fc.constantFrom(...values)
    case 'array':
      return fc.array(given(each), { maxLength: 3 })
    case 'record': {
      const key = fc.oneof(texts, fc.constantFrom('net.ipv4.x', '__proto__', 'constructor'))
      return fc.array(fc.tuple(key, given(each)), { maxLength: 3 }).map(objectOf)
    }
    case 'object': {
      const entries = Object.entries(keys).map(([key, inner]) =>
        fc.option(fc.tuple(spelt(key), given(inner)), { nil: undefined, freq: 2 }),
      )
      const more = fc.option(fc.tuple(texts, anything), { nil: undefined })
      return fc.tuple(...entries, more).map(made => objectOf(made.filter(entry => entry !== undefined)))
    }
    default:
      return fc.oneof(texts, anything)
  }
}

/** Every key is an object's own, `__proto__` too, as those are that come out of JSON. */
const objectOf = (entries: readonly (readonly [string, unknown])[]) =>
  JSON.parse(
    `{${entries.map(([key, value]) => `${JSON.stringify(key)}:${textOf(value)}`).join()}}`,
  ) as unknown

/** JSON knows numbers that are too large for anybody. */
const textOf = (value: unknown) => (value === Number.POSITIVE_INFINITY ? '1e999' : JSON.stringify(value))

/** Mostly what is wanted. */
function given(check: Check): Arbitrary<unknown> {
  return fc.oneof({ weight: 19, arbitrary: wellFormed(check) }, { weight: 1, arbitrary: anything })
}

/** What came of decoding, and whether the schema had to be asked. */
async function outcomeOf(decoding: () => unknown) {
  try {
    return { value: await decoding() }
  } catch (thrown) {
    const { code, message, details } = toCniError(thrown)
    return { code, message, details }
  }
}

async function compare([name, checks]: Named, json: unknown): Promise<'taken' | 'refused'> {
  const schema = await checks.schema()
  let isAsked = false
  const watched: Checks<unknown> = {
    ...checks,
    schema: async () => {
      isAsked = true
      return schema
    },
  }
  const text = textOf(json)
  const strictly = await outcomeOf(() => decodeBySchema(schema, json))
  const outcome = await outcomeOf(() => decode(watched, json))
  expect({ name, text, outcome }).toStrictEqual({ name, text, outcome: strictly })
  const isData = text.includes('__proto__') // what becomes of such a key is for the schema to say
  if (!isData) expect({ name, text, isAsked }).toEqual({ name, text, isAsked: !('value' in strictly) })
  const leniently = await outcomeOf(() => decodeLeniently(watched, json))
  expect({ name, text, leniently }).toStrictEqual({
    name,
    text,
    leniently: await outcomeOf(() => decodeLenientlyBySchema(schema, json)),
  })
  return 'value' in strictly ? 'taken' : 'refused'
}

test.each(all)('%s takes what its schema takes, and nothing else', async (name, checks) => {
  const counts = { taken: 0, refused: 0 }
  await fc.assert(
    fc.asyncProperty(
      fc.oneof({ weight: 30, arbitrary: wellFormed(checks.check) }, { weight: 1, arbitrary: anything }),
      async json => {
        counts[await compare([name, checks], json)]++
      },
    ),
    { numRuns: 300 },
  )
  expect(counts.taken).toBeGreaterThan(5) // both happen
  expect(counts.refused).toBeGreaterThan(0)
})

test('every plugin’s checks are made', () => {
  expect(all.length).toBeGreaterThanOrEqual(21)
})

test('whoever is given a default may change it', async () => {
  const checks = checksOf(z.object({ list: z._default(z.array(z.string()), []) }))
  ;(await decode(checks, {})).list.push('x')
  expect(await decode(checks, {})).toEqual({ list: [] })
})

test.each([
  ['a union', z.union([z.string(), z.int()]), 'checks know no union'],
  ['a length', z.string().check(z.minLength(1)), 'checks know no min_length'],
  ['an open bound', z.number().check(z.gt(0)), 'checks know no greater_than'],
  ['another format', z.float32(), 'checks know no number float32'],
  [
    'a default against a rule',
    z._default(z.string(), 'a').check(z.refine(text => text === 'b')),
    'against a rule',
  ],
])('what checks do not know ends their making: %s', (_, schema, words) => {
  expect(() => checkOf(z.object({ key: schema }))).toThrow(words)
})
