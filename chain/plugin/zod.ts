/**
 * zod, as far as plugins use it: made of its core, as zod/mini is, but without mini's class around each of the core's. That
 * saves each call 0.4 ms. The types are mini's; of a schema's methods there are `check` and `safeParse`.
 */

import type * as mini from 'zod/mini'
import * as core from 'zod/v4/core'

export type { infer, ZodMiniObject } from 'zod/mini'

const methods = {
  check(this: core.$ZodType, ...checks: readonly core.$ZodCheck<never>[]) {
    const all = [...(this._zod.def.checks ?? []), ...checks]
    return withMethods(core.clone(this, { ...this._zod.def, checks: all }))
  },
  safeParse(this: core.$ZodType, value: unknown) {
    return core.safeParse(this, value)
  },
}

function withMethods<Schema extends core.$ZodType>(schema: Schema): Schema {
  return Object.assign(schema, methods)
}

export const string = (() => withMethods(core._string(core.$ZodString))) as typeof mini.string
export const boolean = (() => withMethods(core._boolean(core.$ZodBoolean))) as typeof mini.boolean
export const int = (() => withMethods(core._int(core.$ZodNumberFormat))) as typeof mini.int
export const unknown = (() => withMethods(core._unknown(core.$ZodUnknown))) as typeof mini.unknown

export const object = ((shape: core.$ZodShape) =>
  withMethods(new core.$ZodObject({ type: 'object', shape }))) as unknown as typeof mini.object

export const array = ((element: core.$ZodType) =>
  withMethods(new core.$ZodArray({ type: 'array', element }))) as typeof mini.array

export const record = ((keyType: core.$ZodRecordKey, valueType: core.$ZodType) =>
  withMethods(new core.$ZodRecord({ type: 'record', keyType, valueType }))) as typeof mini.record

const oneOf = ((values: readonly string[]) => {
  const entries: Record<string, string> = {}
  for (const value of values) entries[value] = value
  return withMethods(new core.$ZodEnum({ type: 'enum', entries }))
}) as typeof mini.enum

export { oneOf as enum }

export const literal = ((value: core.util.Literal | core.util.Literal[]) =>
  withMethods(
    new core.$ZodLiteral({ type: 'literal', values: Array.isArray(value) ? value : [value] }),
  )) as typeof mini.literal

export const optional = ((innerType: core.$ZodType) =>
  withMethods(new core.$ZodOptional({ type: 'optional', innerType }))) as typeof mini.optional

export const _default = ((innerType: core.$ZodType, value: unknown) =>
  withMethods(
    new core.$ZodDefault({
      type: 'default',
      innerType,
      // a new one for each, lest what one changes be another's
      get defaultValue() {
        return typeof value === 'function' ? value() : core.util.shallowClone(value)
      },
    }),
  )) as typeof mini._default

export const minimum = core._gte as typeof mini.minimum
export const maximum = core._lte as typeof mini.maximum
export const refine = ((test: (value: unknown) => unknown, sentence: string | core.$ZodCustomParams) =>
  core._refine(core.$ZodCustom, test, sentence)) as typeof mini.refine
