/** Configurations: keys as Go's decoder matches them, refusals that start with the key. */
import { expect, test } from 'bun:test'
import * as z from 'zod/mini'
import {
  decodeBySchema as decode,
  decodeLenientlyBySchema as decodeLeniently,
  formatPath,
} from '../../chain/protocol/by-schema.ts'
import { decodeBase, parseConfiguration } from '../../chain/protocol/configuration.ts'

test.each([
  { name: 'nothing', text: '', details: 'unexpected end of JSON input' },
  { name: 'blanks', text: ' \n', details: 'unexpected end of JSON input' },
  { name: 'a cut-off document', text: '{"name":', details: expect.any(String) },
  { name: 'a list', text: '[]', details: 'it is an array' },
  { name: 'null', text: 'null', details: 'it is null' },
  { name: 'a number', text: '5', details: 'it is a number' },
])('standard input is refused with code 6: $name', ({ text, details }) => {
  expect(() => parseConfiguration(text)).toThrow(expect.objectContaining({ code: 6, details }))
})

test.each([
  [{ name: 'net' }, { cniVersion: '0.1.0', name: 'net' }],
  [{ cniVersion: '', name: 'net' }, { cniVersion: '0.1.0' }],
  [
    { CNIVERSION: '1.1.0', Name: 'net' },
    { cniVersion: '1.1.0', name: 'net' },
  ],
  [
    { cniVersion: null, name: 'net', prevResult: null },
    { cniVersion: '0.1.0', prevResult: undefined },
  ],
  [{ name: 'net', prevresult: { a: 1 } }, { prevResult: { a: 1 } }],
])('what every configuration has: %j', (json, expected) => {
  expect(decodeBase(json)).toMatchObject(expected)
})

test.each(['cni.dev/valid-attachments', 'cni.dev/attachments'])('the attachments alive, under %s', key => {
  const json = { name: 'net', [key]: [{ containerID: 'a', ifname: 'eth0' }] }
  expect(decodeBase(json).validAttachments).toEqual([{ containerId: 'a', ifname: 'eth0' }])
})

test.each([
  [{ 'cni.dev/valid-attachments': null }, []],
  [{ 'cni.dev/attachments': null }, []],
  [{ 'CNI.dev/Valid-Attachments': null }, []],
  [{ 'cni.dev/valid-attachments': null, 'cni.dev/attachments': null }, []],
  [{ 'cni.dev/valid-attachments': [], 'cni.dev/attachments': null }, []],
  [
    { 'cni.dev/valid-attachments': null, 'cni.dev/attachments': [{ containerID: 'a', ifname: 'eth0' }] },
    [{ containerId: 'a', ifname: 'eth0' }],
  ],
  [{ 'cni.dev/valid-attachments': 'none' }, undefined],
  [{}, undefined],
])(
  'null is how a runtime in Go says that nothing is alive, no key that it says nothing: %j',
  (json, alive) => {
    expect(decodeBase({ name: 'net', ...json }).validAttachments).toEqual(alive as never)
  },
)

test.each([
  { json: {}, code: 7, message: 'missing network name' },
  { json: { name: '' }, code: 7, message: 'missing network name' },
  { json: { name: 'a b' }, code: 7, message: 'invalid characters found in network name' },
  { json: { name: 5 }, code: 6, message: 'name: must be a string: got 5' },
  { json: { name: 'net', cniVersion: 5 }, code: 6, message: 'cniVersion: must be a string: got 5' },
])('refused with code $code: $message', ({ json, code, message }) => {
  expect(() => decodeBase(json)).toThrow(expect.objectContaining({ code, message }))
})

const port = z
  .int()
  .check(z.refine(value => value >= 1 && value <= 65535, 'must be an integer from 1 to 65535'))
const schema = z.object({
  mtu: z.optional(z.int().check(z.minimum(68), z.maximum(65535))),
  flag: z._default(z.boolean(), false),
  mode: z.optional(z.enum(['a', 'b'])),
  text: z.optional(z.string().check(z.minLength(1))),
  ports: z.optional(z.array(z.object({ hostPort: port, protocol: z.optional(z.string()) }))),
  sysctl: z.optional(z.record(z.string(), z.string())),
  either: z.optional(z.union([z.string(), z.object({ innerKey: z.int() })])),
})

test('keys match whatever their case, at every depth; an exact one wins', () => {
  const json = { MTU: 1400, mtu: 1500, Ports: [{ HostPort: 80, Protocol: 'tcp' }], EITHER: { INNERKEY: 1 } }
  expect(decode(schema, json)).toEqual({
    mtu: 1500,
    flag: false,
    ports: [{ hostPort: 80, protocol: 'tcp' }],
    either: { innerKey: 1 },
  })
})

test('of keys that differ in case only, the last one wins', () => {
  expect(decode(schema, { MTU: 1400, Mtu: 1500 })).toEqual({ mtu: 1500, flag: false })
})

test('null counts as absent, at every depth', () => {
  const json = {
    mtu: null,
    flag: null,
    ports: [{ hostPort: 80, protocol: null }],
    sysctl: { a: null, b: 'x' },
  }
  expect(decode(schema, json)).toEqual({ flag: false, ports: [{ hostPort: 80 }], sysctl: { b: 'x' } })
})

test('unknown keys are ignored; keys that are data keep their spelling', () => {
  const json = { unknown: 1, Sysctl: { 'net.IPv4.X': '1' } }
  expect(decode(schema, json)).toEqual({ flag: false, sysctl: { 'net.IPv4.X': '1' } })
})

test.each([
  { json: { mtu: 1 }, message: 'mtu: must be at least 68: got 1' },
  { json: { mtu: 70000 }, message: 'mtu: must be at most 65535: got 70000' },
  { json: { mtu: 'x' }, message: 'mtu: must be a number: got "x"' },
  { json: { mtu: 1.5 }, message: 'mtu: must be an integer: got 1.5' },
  { json: { flag: 'true' }, message: 'flag: must be true or false: got "true"' },
  { json: { mode: 'c' }, message: 'mode: must be one of "a", "b": got "c"' },
  { json: { text: '' }, message: 'text: must not be empty: got ""' },
  { json: { ports: {} }, message: 'ports: must be a list: got {}' },
  { json: { ports: [{}] }, message: 'ports[0].hostPort: is missing' },
  {
    json: { ports: [{ HostPort: 70000 }] },
    message: 'ports[0].hostPort: must be an integer from 1 to 65535: got 70000',
  },
  { json: { sysctl: { a: 1 } }, message: 'sysctl.a: must be a string: got 1' },
  { json: { either: 5 }, message: 'either: is of the wrong type: got 5' },
  { json: [], message: 'configuration: must be an object: got []' },
])('refused with code 7, the key first: $message', ({ json, message }) => {
  expect(() => decode(schema, json)).toThrow(expect.objectContaining({ code: 7, message }))
})

test('of several failures the first is the message, the others are details', () => {
  expect(() => decode(schema, { mtu: 1, mode: 'c' })).toThrow(
    expect.objectContaining({
      message: 'mtu: must be at least 68: got 1',
      details: 'mode: must be one of "a", "b": got "c"',
    }),
  )
})

test('of thousands of failures twenty are told, and how many more there are', () => {
  const ports = Array.from({ length: 5000 }, () => ({}))
  expect(() => decode(schema, { ports })).toThrow(
    expect.objectContaining({
      details: expect.stringMatching(/ports\[19\].hostPort: is missing; and 4980 more$/),
    }),
  )
})

test.each([
  { json: { mtu: 1, text: 'a' }, decoded: { flag: false, text: 'a' } },
  {
    json: { ports: [{}, { hostPort: 1 }, 7, { hostPort: 0 }, { hostPort: 2, protocol: 7 }] },
    decoded: { flag: false, ports: [{ hostPort: 1 }, { hostPort: 2 }] },
  },
  { json: { sysctl: { a: 1, b: 'x' }, either: 5, mode: 'c' }, decoded: { flag: false, sysctl: { b: 'x' } } },
  { json: { either: { innerKey: 'x' }, ports: {} }, decoded: { flag: false } },
])('for DEL, what is refused counts as absent: $json', ({ json, decoded }) => {
  const before = JSON.stringify(json)
  const outcome: unknown = decodeLeniently(schema, json)
  expect(outcome).toEqual(decoded)
  expect(JSON.stringify(json)).toBe(before)
})

test('for DEL, a rule on what has been cleaned of refused values is held up as well', () => {
  const few = z.object({
    list: z.optional(z.array(z.int()).check(z.refine(list => list.length <= 2))),
    flag: z.optional(z.boolean()),
  })
  expect(decodeLeniently(few, { list: [1, 'x', 2], flag: true })).toEqual({ list: [1, 2], flag: true })
  expect(decodeLeniently(few, { list: [1, 'x', 2, 3], flag: true })).toEqual({ flag: true })
})

test('a long value is cut', () => {
  const long = 'x'.repeat(200)
  expect(() => decode(schema, { mode: long })).toThrow(`got "${'x'.repeat(96)}...`)
})

test.each([
  [['ranges', 0, 1, 'gateway'], 'ranges[0][1].gateway'],
  [[], ''],
  [[0, 'a'], '[0].a'],
] as const)('path %j is written %s', (path, expected) => {
  expect(formatPath(path)).toBe(expected)
})
