/** Go's gob streams as bytes (pkg.go.dev/encoding/gob): self-describing values with their types before them. Pure; knows no RPC. */

/** What is not gob, or of a kind that neither side sends. */
export class GobError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'GobError'
  }
}

export type Value = boolean | number | string | Uint8Array | Value[] | Structure
/** Fields whose value is zero are not sent: absent. */
export interface Structure {
  [field: string]: Value | undefined
}

/** The type of a value to be written. Fields are in order: the numbers on the wire are their places. */
export type Schema = 'bool' | 'int' | 'uint' | 'bytes' | 'string' | ListSchema | StructureSchema
export interface ListSchema {
  kind: 'list'
  of: Schema
}
export interface StructureSchema {
  kind: 'structure'
  name: string
  fields: Readonly<Record<string, Schema>>
}

const BUILTIN = { bool: 1, int: 2, uint: 3, bytes: 5, string: 6 } as const
const FLOAT = 4
const FIRST_TYPE = 64
const MOST_TYPES = 256
const DEEPEST = 32
/** A configuration of a container is far smaller; Go's own limit is 1 GB. */
const LONGEST_MESSAGE = 8 * 1024 * 1024
/** In one message: an empty one takes a byte there, and a hundred times as much here. A result of 10,000 routes has 60,000. */
const MOST_VALUES = 200_000

// Writing

function unsigned(value: number): number[] {
  if (!Number.isSafeInteger(value) || value < 0) throw new GobError(`${value} is no unsigned integer`)
  if (value < 128) return [value]
  const bytes: number[] = []
  for (let rest = value; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256)
  return [256 - bytes.length, ...bytes] // the count of bytes, negated
}

function signed(value: number): number[] {
  return unsigned(value < 0 ? -value * 2 - 1 : value * 2) // the lowest bit says "complemented"
}

function blob(value: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.from(unsigned(value.length)), value])
}

function framed(...parts: Uint8Array[]): Uint8Array {
  return blob(Buffer.concat(parts))
}

/** Writes values; each type's definition goes before its first value. One for each stream. */
export type Encoder = (schema: StructureSchema, value: Structure) => Uint8Array

export function createEncoder(): Encoder {
  const known = new Map<string, number>()
  return (schema, value) => {
    const definitions: Uint8Array[] = []
    const type = define(schema, known, definitions)
    return Buffer.concat([...definitions, framed(Uint8Array.from(signed(type)), encodeValue(schema, value))])
  }
}

/** The number of a type; new ones are appended to the definitions, as Go does: a type before those that it is made of. */
function define(schema: Schema, known: Map<string, number>, definitions: Uint8Array[]): number {
  if (typeof schema === 'string') return BUILTIN[schema]
  const key = JSON.stringify(schema)
  const found = known.get(key)
  if (found !== undefined) return found
  const type = FIRST_TYPE + known.size
  known.set(key, type)
  const place = definitions.push(new Uint8Array(0)) - 1
  const definition =
    schema.kind === 'list'
      ? listDefinition(type, define(schema.of, known, definitions))
      : structureDefinition(type, schema, each => define(each, known, definitions))
  definitions[place] = framed(Uint8Array.from(signed(-type)), definition)
  return type
}

/** struct CommonType { Name string; Id int } as the first field of another. */
function commonType(name: string, type: number): number[] {
  const text = Buffer.from(name)
  const named = name === '' ? [2] : [1, ...unsigned(text.length), ...text, 1]
  return [1, ...named, ...signed(type), 0]
}

/** wireType.SliceT (2): sliceType { CommonType; Elem int }. */
function listDefinition(type: number, element: number): Uint8Array {
  return Uint8Array.from([2, ...commonType('', type), 1, ...signed(element), 0, 0])
}

/** wireType.StructT (3): structType { CommonType; Field []fieldType { Name string; Id int } }. */
function structureDefinition(
  type: number,
  { name, fields }: StructureSchema,
  typeOf: (schema: Schema) => number,
): Uint8Array {
  const entries = Object.entries(fields)
  const described = entries.flatMap(([field, schema]) => {
    const text = Buffer.from(field)
    return [1, ...unsigned(text.length), ...text, 1, ...signed(typeOf(schema)), 0]
  })
  const list = entries.length === 0 ? [] : [1, ...unsigned(entries.length), ...described]
  return Uint8Array.from([3, ...commonType(name, type), ...list, 0, 0])
}

function encodeValue(schema: Schema, value: Value): Uint8Array {
  if (typeof schema === 'string') return encodeBuiltin(schema, value)
  if (schema.kind === 'structure') return encodeStructure(schema, value as Structure)
  const list = value as Value[]
  return Buffer.concat([
    Uint8Array.from(unsigned(list.length)),
    ...list.map(each => encodeValue(schema.of, each)),
  ])
}

function encodeBuiltin(schema: keyof typeof BUILTIN, value: Value): Uint8Array {
  switch (schema) {
    case 'bool':
      return Uint8Array.of(value ? 1 : 0)
    case 'int':
      return Uint8Array.from(signed(Number(value)))
    case 'uint':
      return Uint8Array.from(unsigned(Number(value)))
    case 'string':
      return blob(Buffer.from(String(value)))
    case 'bytes':
      return blob(value as Uint8Array)
  }
}

/** Fields by the distance to the one before; those that are absent or empty are left out. */
function encodeStructure({ fields }: StructureSchema, value: Structure): Uint8Array {
  const parts: Uint8Array[] = []
  let last = -1
  for (const [index, [name, schema]] of Object.entries(fields).entries()) {
    const field = value[name]
    if (field === undefined || isEmpty(field)) continue
    parts.push(Uint8Array.from(unsigned(index - last)), encodeValue(schema, field))
    last = index
  }
  return Buffer.concat([...parts, Uint8Array.of(0)])
}

function isEmpty(value: Value): boolean {
  return value === '' || ((Array.isArray(value) || value instanceof Uint8Array) && value.length === 0)
}

// Reading

interface Reader {
  bytes: Uint8Array
  at: number
  /** How many values have been read. */
  values: number
}

function take(reader: Reader, count: number): Uint8Array {
  const { bytes, at } = reader
  if (count > bytes.length - at)
    throw new GobError(`${count} bytes are needed, ${bytes.length - at} are left`)
  reader.at += count
  return bytes.subarray(at, at + count)
}

function readUnsigned(reader: Reader): number {
  const [first = 0] = take(reader, 1)
  if (first < 128) return first
  const length = 256 - first
  if (length > 8) throw new GobError(`an integer of ${length} bytes`)
  const value = take(reader, length).reduce((number, byte) => number * 256 + byte, 0)
  if (!Number.isSafeInteger(value)) throw new GobError('an integer beyond 53 bits')
  return value
}

function readSigned(reader: Reader): number {
  const value = readUnsigned(reader)
  return value % 2 === 1 ? -(value + 1) / 2 : value / 2
}

function readBlob(reader: Reader): Uint8Array {
  return take(reader, readUnsigned(reader))
}

type Type =
  | { kind: 'list'; element: number; length?: number }
  | { kind: 'structure'; fields: { name: string; type: number }[] }
  | { kind: 'map'; key: number; element: number }
  | { kind: 'opaque' }

/** The types of type definitions themselves, by the numbers that Go gives them. */
const bootstrap = new Map<number, Type>([
  [16, structureOf({ ArrayT: 17, SliceT: 19, StructT: 20, MapT: 23, GobT: 24, BinaryT: 24, TextT: 24 })],
  [17, structureOf({ Common: 18, Elem: 2, Len: 2 })],
  [18, structureOf({ Name: 6, Id: 2 })],
  [19, structureOf({ Common: 18, Elem: 2 })],
  [20, structureOf({ Common: 18, Field: 22 })],
  [21, structureOf({ Name: 6, Id: 2 })],
  [22, { kind: 'list', element: 21 }],
  [23, structureOf({ Common: 18, Key: 2, Elem: 2 })],
  [24, structureOf({ Common: 18 })],
])

function structureOf(fields: Record<string, number>): Type {
  return { kind: 'structure', fields: Object.entries(fields).map(([name, type]) => ({ name, type })) }
}

/** Reads messages; remembers the types that the stream has defined. One for each stream. */
export type Decoder = (message: Uint8Array) => Value | undefined

/** Answers a message's value; undefined when it defined a type. Throws GobError for what is not sound. */
export function createDecoder(): Decoder {
  const types = new Map(bootstrap)
  return message => {
    const reader = { bytes: message, at: 0, values: 0 }
    const type = readSigned(reader)
    if (type < 0) {
      if (-type < FIRST_TYPE || types.has(-type)) throw new GobError(`type ${-type} is defined already`)
      if (types.size > MOST_TYPES) throw new GobError(`more than ${MOST_TYPES} types`)
      types.set(-type, typeOf(readValue(reader, { types, type: 16, depth: 0 }) as Structure))
      return undefined
    }
    // what is no structure has a zero before it, in the place of a field's number
    if (types.get(type)?.kind !== 'structure' && readUnsigned(reader) !== 0)
      throw new GobError('a value without its zero')
    return readValue(reader, { types, type, depth: 0 })
  }
}

function typeOf({ ArrayT, SliceT, StructT, MapT }: Structure): Type {
  const number = (of: Value | undefined, name: string) => Number((of as Structure)[name] ?? 0)
  if (StructT) {
    const fields = ((StructT as Structure).Field ?? []) as Structure[]
    return {
      kind: 'structure',
      fields: fields.map(({ Name = '', Id = 0 }) => ({ name: String(Name), type: Number(Id) })),
    }
  }
  if (SliceT) return { kind: 'list', element: number(SliceT, 'Elem') }
  if (ArrayT) return { kind: 'list', element: number(ArrayT, 'Elem'), length: number(ArrayT, 'Len') }
  if (MapT) return { kind: 'map', key: number(MapT, 'Key'), element: number(MapT, 'Elem') }
  return { kind: 'opaque' }
}

interface ValueSpec {
  types: ReadonlyMap<number, Type>
  type: number
  depth: number
}

function readValue(reader: Reader, { types, type, depth }: ValueSpec): Value {
  if (depth > DEEPEST) throw new GobError(`deeper than ${DEEPEST}`)
  if (++reader.values > MOST_VALUES) throw new GobError(`more than ${MOST_VALUES} values`)
  if (type < 16) return readBuiltin(reader, type)
  const found = types.get(type)
  if (!found) throw new GobError(`type ${type} was not defined`)
  const inner = (type: number) => readValue(reader, { types, type, depth: depth + 1 })
  switch (found.kind) {
    case 'opaque':
      return readBlob(reader)
    case 'list':
      return readList(reader, () => inner(found.element))
    case 'map':
      return readList(reader, () => [inner(found.key), inner(found.element)])
    case 'structure':
      return readStructure(reader, found.fields, inner)
  }
}

function readBuiltin(reader: Reader, type: number): Value {
  switch (type) {
    case BUILTIN.bool:
      return readUnsigned(reader) !== 0
    case BUILTIN.int:
      return readSigned(reader)
    case BUILTIN.uint:
      return readUnsigned(reader)
    case BUILTIN.bytes:
      return Uint8Array.from(readBlob(reader))
    case BUILTIN.string:
      return Buffer.from(readBlob(reader)).toString()
    default:
      throw new GobError(type === FLOAT ? 'a floating-point number' : `a value of type ${type}`)
  }
}

function readList(reader: Reader, element: () => Value): Value[] {
  const count = readUnsigned(reader)
  const left = reader.bytes.length - reader.at
  if (count > left) throw new GobError(`a list of ${count} in ${left} bytes`) // each takes a byte at least
  return Array.from({ length: count }, element)
}

function readStructure(
  reader: Reader,
  fields: readonly { name: string; type: number }[],
  inner: (type: number) => Value,
): Structure {
  const value: Structure = Object.create(null)
  for (let index = -1; ; ) {
    const distance = readUnsigned(reader)
    if (distance === 0) return value
    index += distance
    const field = fields[index]
    if (!field) throw new GobError(`field ${index} of a structure of ${fields.length}`)
    value[field.name] = inner(field.type)
  }
}

/** Cuts a whole message off the front of what has come of a stream; undefined until there is one. */
export function nextMessage(bytes: Uint8Array): { message: Uint8Array; rest: Uint8Array } | undefined {
  const [first] = bytes
  if (first === undefined) return undefined
  const lengthBytes = first < 128 ? 1 : 1 + 256 - first
  if (lengthBytes > 9) throw new GobError(`a length of ${lengthBytes - 1} bytes`)
  if (bytes.length < lengthBytes) return undefined
  const reader = { bytes, at: 0, values: 0 }
  const length = readUnsigned(reader)
  if (length > LONGEST_MESSAGE) throw new GobError(`a message of ${length} bytes`)
  if (bytes.length - reader.at < length) return undefined
  return { message: take(reader, length), rest: bytes.subarray(reader.at) }
}
