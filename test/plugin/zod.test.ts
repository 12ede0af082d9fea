import { expect, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import * as mini from 'zod/mini'
import * as ours from '../../chain/plugin/zod.ts'

type Flavour = Pick<typeof mini, keyof typeof ours & keyof typeof mini>

const isShort = (text: string) => text.length < 4

/** A schema of each kind, made of either flavour. */
const schemas: Record<string, (z: Flavour) => Pick<mini.ZodMiniType, 'safeParse'>> = {
  string: z => z.string(),
  boolean: z => z.boolean(),
  unknown: z => z.unknown(),
  'an integer between two': z => z.int().check(z.minimum(0), z.maximum(7)),
  'one of some': z => z.enum(['', 'a']),
  'literally one of some': z => z.literal([false, 'a', 7]),
  'a list of what passes a test': z => z.array(z.string().check(z.refine(isShort, 'must be short'))),
  'a record': z => z.record(z.string(), z.int()),
  'an object with defaults, tests and a path to the key': z =>
    z
      .object({
        a: z._default(z.int(), 1),
        b: z.optional(z.array(z.string())),
        c: z._default(z.array(z.int()), []),
      })
      .check(
        z.refine(({ a }) => a !== 3, { error: 'must not be 3', path: ['a'] }),
        z.refine(({ b }) => b?.length !== 2, { error: 'must not be two', path: ['b'] }),
      ),
}

const values = [
  '',
  'a',
  'long text',
  7,
  -1,
  8,
  1.5,
  true,
  false,
  null,
  undefined,
  [],
  ['a'],
  ['long text', 1],
  {},
]
const objects = [
  { a: 3, b: ['x', 'y'] },
  { a: 'x', b: 'y', c: [1, 'z'] },
  { b: ['x'], more: 1 },
  { a: 1, c: [2] },
]

test.each(Object.entries(schemas))(
  '%s takes and refuses what it does in zod/mini, with the same words',
  (_, make) => {
    for (const value of [...values, ...objects]) {
      const [mine, theirs] = [make(ours as Flavour), make(mini)].map(schema => schema.safeParse(value))
      expect(mine?.data).toEqual(theirs?.data)
      expect(mine?.error?.issues).toEqual(theirs?.error?.issues as never)
    }
  },
)

test('a default belongs to one configuration: what changes it changes no other', () => {
  const schema = ours.object({ list: ours._default(ours.array(ours.int()), []) })
  schema.safeParse({}).data?.list.push(1)
  expect(schema.safeParse({}).data).toEqual({ list: [] })
})

test("mini's own classes are not in the executable", () => {
  const program = readFileSync(`${import.meta.dir}/../../dist/catena`)
  expect(program.includes('$ZodObject')).toBe(true)
  expect(program.includes('ZodMiniObject')).toBe(false)
})
