import { describe, expect, test } from 'bun:test'
import {
  type Attribute,
  attribute,
  attributeMap,
  attributes,
  CodecError,
  encodeMessage,
  flag,
  join,
  messages,
  nested,
  readInt32,
  readText,
  readUint8,
  readUint16,
  readUint16Big,
  readUint32,
  readUint32Big,
  readUint64,
  readUint64Big,
  split,
  text,
  uint8,
  uint16,
  uint16Big,
  uint32,
  uint32Big,
  uint64,
} from '../../../chain/linux/netlink/codec.ts'
import { acknowledgement, addAddress, bytes, createVeth, refusal } from './captured.ts'

const cases: {
  name: string
  encoded: Uint8Array
  type: number
  value: unknown
  read: (value: Uint8Array) => unknown
  wire: Uint8Array
}[] = [
  {
    name: 'a string is terminated and padded to four bytes, which its length leaves out',
    encoded: text(3, 'eth0'),
    type: 3,
    value: 'eth0',
    read: readText,
    wire: bytes(`
      09 00 03 00      # length 9, IFLA_IFNAME
      65 74 68 30 00   # "eth0\\0"
      00 00 00         # padding`),
  },
  {
    name: 'an 8-bit integer',
    encoded: uint8(16, 6),
    type: 16,
    value: 6,
    read: readUint8,
    wire: bytes('05 00 10 00 06 00 00 00 # length 5, IFLA_OPERSTATE, 6, padding'),
  },
  {
    name: 'a 16-bit integer in the byte order of the machine',
    encoded: uint16(2, 32),
    type: 2,
    value: 32,
    read: readUint16,
    wire: bytes('06 00 02 00 20 00 00 00 # length 6, IFLA_BRPORT_PRIORITY, 32, padding'),
  },
  {
    name: 'a 16-bit integer in network byte order',
    encoded: uint16Big(5, 0x8100),
    type: 5,
    value: 0x8100,
    read: readUint16Big,
    wire: bytes('06 00 05 00 81 00 00 00 # length 6, IFLA_VLAN_PROTOCOL, 802.1Q, padding'),
  },
  {
    name: 'a 32-bit integer in the byte order of the machine',
    encoded: uint32(4, 1500),
    type: 4,
    value: 1500,
    read: readUint32,
    wire: bytes('08 00 04 00 dc 05 00 00 # length 8, IFLA_MTU, 1500'),
  },
  {
    name: 'a 32-bit integer in network byte order',
    encoded: uint32Big(1, 5),
    type: 1,
    value: 5,
    read: readUint32Big,
    wire: bytes('08 00 01 00 00 00 00 05 # length 8, NFTA_GEN_ID, 5'),
  },
  {
    name: 'a 64-bit integer in the byte order of the machine',
    encoded: uint64(23, 0x0102030405060708n),
    type: 23,
    value: 0x0102030405060708n,
    read: readUint64,
    wire: bytes('0c 00 17 00 08 07 06 05 04 03 02 01 # length 12'),
  },
]

describe.each(cases)('$name', ({ encoded, type, value, read, wire }) => {
  test('is written so', () => expect(Buffer.from(encoded).toHex()).toBe(Buffer.from(wire).toHex()))
  test('is read so', () =>
    expect([...attributes(wire)].map(each => [each.type, read(each.value)])).toEqual([[type, value]]))
})

test('a signed and a 64-bit integer of the kernel are read', () => {
  expect(readInt32(bytes('ea ff ff ff # -EINVAL'))).toBe(-22)
  expect(readUint64Big(bytes('00 00 00 00 00 00 00 03 # NFTA_RULE_HANDLE 3'))).toBe(3n)
})

test('a flag has no value', () => {
  expect(Buffer.from(flag(7)).toHex()).toBe('04000700')
})

test('nested attributes are marked when written; the mark is no part of the type when read', () => {
  const wire = nested(18, text(1, 'veth'))
  expect(Buffer.from(wire.subarray(0, 4)).toHex()).toBe('10001280') // length 16, NLA_F_NESTED | IFLA_LINKINFO
  const [outer] = attributes(wire)
  expect(outer?.type).toBe(18)
})

test('of a repeated attribute the last one counts', () => {
  expect(attributeMap(join(uint8(1, 5), uint8(1, 6))).get(1)).toEqual(new Uint8Array([6]))
})

test('an attribute whose padding the sender left out at the end is read', () => {
  expect([...attributes(bytes('05 00 10 00 06'))]).toEqual([{ type: 16, value: new Uint8Array([6]) }])
})

test('what `ip link add` sends is taken apart, and put together again byte for byte', () => {
  const [message] = messages(createVeth)
  if (!message) throw new Error('no message')
  expect({ ...message, payload: message.payload.length }).toEqual({
    type: 16,
    flags: 0x605,
    sequence: 0x6b054910,
    payload: 76,
  })
  const found = attributeMap(message.payload.subarray(16))
  const info = attributeMap(found.get(18) ?? new Uint8Array())
  const peer = attributeMap(info.get(2) ?? new Uint8Array()).get(1) ?? new Uint8Array()
  const names = [found.get(3), info.get(1), attributeMap(split(peer, 16)[1]).get(3)]
  expect(names.map(name => name && readText(name))).toEqual(['veth0', 'veth', 'eth0'])
  expect(encodeMessage(message)).toEqual(createVeth)
})

test('a datagram may hold several messages', () => {
  const types = [...messages(join(addAddress, acknowledgement, refusal))].map(({ type, flags }) => [
    type,
    flags,
  ])
  expect(types).toEqual([
    [20, 0x605],
    [2, 0x100],
    [2, 0x200],
  ])
})

test.each([
  {
    name: 'an attribute header that is cut',
    wire: '08 00 04',
    says: 'attribute at byte 0: 3 bytes left, a header needs 4',
  },
  {
    name: 'an attribute longer than what is left',
    wire: '09 00 04 00 dc 05 00 00',
    says: 'attribute at byte 0: length 9, 8 bytes left',
  },
  {
    name: 'an attribute shorter than its header',
    wire: '03 00 04 00',
    says: 'attribute at byte 0: length 3, 4 bytes left',
  },
  {
    name: 'an attribute of length zero, at which a reader could stand for ever',
    wire: '00 00 00 00',
    says: 'attribute at byte 0: length 0, 4 bytes left',
  },
  {
    name: 'the second attribute, told by its place',
    wire: '08 00 04 00 dc 05 00 00 08 00',
    says: 'attribute at byte 8: 2 bytes left, a header needs 4',
  },
])('$name is refused', ({ wire, says }) => {
  expect(() => [...attributes(bytes(wire))]).toThrow(new CodecError(says))
})

test.each([
  {
    name: 'a message header that is cut',
    wire: '10 00 00 00 03 00',
    says: 'message at byte 0: 6 bytes left, a header needs 16',
  },
  {
    name: 'a message longer than what is left',
    wire: `11 00 00 00${' 00'.repeat(12)}`,
    says: 'message at byte 0: length 17, 16 bytes left',
  },
  {
    name: 'a message shorter than its header',
    wire: `0f 00 00 00${' 00'.repeat(12)}`,
    says: 'message at byte 0: length 15, 16 bytes left',
  },
  {
    name: 'a message of length zero',
    wire: '00'.concat(' 00'.repeat(15)),
    says: 'message at byte 0: length 0, 16 bytes left',
  },
])('$name is refused', ({ wire, says }) => {
  expect(() => [...messages(bytes(wire))]).toThrow(new CodecError(says))
})

test.each([
  ['an 8-bit integer', 1, readUint8],
  ['a 16-bit integer', 2, readUint16],
  ['a 16-bit integer', 2, readUint16Big],
  ['a 32-bit integer', 4, readUint32],
  ['a 32-bit integer', 4, readInt32],
  ['a 32-bit integer', 4, readUint32Big],
  ['a 64-bit integer', 8, readUint64],
  ['a 64-bit integer', 8, readUint64Big],
] as const)('%s needs %d bytes', (what, length, read) => {
  const short = new Uint8Array(length - 1)
  expect(() => read(short)).toThrow(new CodecError(`${what}: ${length - 1} bytes, ${length} expected`))
})

test('a structure that is cut is refused', () => {
  expect(() => split(new Uint8Array(11), 12)).toThrow(new CodecError('a structure: 11 bytes, 12 expected'))
})

test('a value that no length can tell is refused when written', () => {
  expect(() => attribute(1, new Uint8Array(65532))).toThrow(
    new CodecError('attribute 1: 65532 bytes do not fit'),
  )
  expect(attribute(1, new Uint8Array(65531)).length).toBe(65536)
})

/** Everything that can be read, nested ones too; each attribute lies inside its bytes. */
function readEverything(input: Uint8Array, depth = 0): number {
  let count = 0
  for (const { value } of attributes(input) as Iterable<Attribute>) {
    count += 1 + value.length
    if (depth < 3 && value.length >= 4) {
      try {
        count += readEverything(value, depth + 1)
      } catch (thrown) {
        if (!(thrown instanceof CodecError)) throw thrown // most values are no attributes
      }
    }
  }
  return count
}

/** A generator of its own, so that a failure can be had again (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}

function readOrRefuse(read: () => unknown): 'read' | 'refused' {
  try {
    read()
    return 'read'
  } catch (thrown) {
    if (thrown instanceof CodecError) return 'refused'
    throw thrown
  }
}

test('reading any bytes ends, in attributes and messages or in CodecError', () => {
  const random = randomFrom(20261124)
  const outcomes = new Set<string>()
  for (let round = 0; round < 20_000; round++) {
    const length = Math.floor(random() * 64)
    // small numbers make lengths that fit: pure noise would be refused at the first header
    const noise = Uint8Array.from({ length }, () => Math.floor(random() * (round % 2 ? 256 : 20)))
    outcomes.add(`attributes ${readOrRefuse(() => readEverything(noise))}`)
    outcomes.add(`messages ${readOrRefuse(() => [...messages(noise)])}`)
  }
  expect([...outcomes].sort()).toEqual([
    'attributes read',
    'attributes refused',
    'messages read',
    'messages refused',
  ])
})

test.each([
  ['a request', createVeth],
  ['an acknowledgement', acknowledgement],
  ['a refusal', refusal],
])('%s that is cut at any place, or has any byte changed, is read or refused', (_, whole) => {
  const read = (input: Uint8Array) =>
    readOrRefuse(() => {
      for (const { payload } of messages(input)) readEverything(payload.subarray(16))
    })
  for (let at = 1; at < whole.length; at++) {
    expect(read(whole.subarray(0, at))).toBe('refused')
    for (const value of [0, 1, 3, 0x7f, 0xff]) {
      const changed = Uint8Array.from(whole)
      changed[at] = value
      read(changed)
    }
  }
})
