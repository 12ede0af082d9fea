import { expect, test } from 'bun:test'
import { decodeBySchema as decode } from '../../../chain/protocol/by-schema.ts'
import { CniError } from '../../../chain/protocol/error.ts'
import { clientIdentifier, clientOptions } from '../../../ipam/dhcp/configuration.ts'
import { type Configuration, configuration } from '../../../ipam/dhcp/schema.ts'

const provided = (provide: Configuration['ipam']['provide'], args = '') =>
  Object.fromEntries(
    [...clientOptions({ ipam: { provide } }, args).provided].map(([code, value]) => [
      code,
      Buffer.from(value).toString(),
    ]),
  )

test.each<{
  name: string
  provide: Configuration['ipam']['provide']
  args: string
  expected: Record<string, string>
}>([
  { name: 'a name', provide: [{ option: 'host-name', value: 'web' }], args: '', expected: { 12: 'web' } },
  { name: 'a number', provide: [{ option: '60', value: 'v' }], args: '', expected: { 60: 'v' } },
  {
    name: 'a value from CNI_ARGS',
    provide: [{ option: '12', fromArg: 'POD' }],
    args: 'A=1;POD=p=1',
    expected: { 12: 'p=1' },
  },
  {
    name: 'CNI_ARGS before a literal',
    provide: [{ option: '12', value: 'a', fromArg: 'POD' }],
    args: 'POD=b',
    expected: { 12: 'b' },
  },
  {
    name: 'a literal when CNI_ARGS has none',
    provide: [{ option: '12', value: 'a', fromArg: 'POD' }],
    args: 'X;Y',
    expected: { 12: 'a' },
  },
  {
    name: 'the last of several',
    provide: [
      { option: '12', value: 'a' },
      { option: 'host-name', value: 'b' },
    ],
    args: '',
    expected: { 12: 'b' },
  },
  { name: 'nothing to send', provide: [{ option: '12' }], args: '', expected: {} },
])('provide: $name', ({ provide, args, expected }) => {
  expect(provided(provide, args)).toEqual(expected)
})

test.each<{ name: string; request: Configuration['ipam']['request']; expected: number[] }>([
  { name: 'nothing: the router and the mask', request: undefined, expected: [3, 1] },
  {
    name: 'what is listed, then these',
    request: [{ option: '121' }, { option: 'routers' }],
    expected: [121, 3, 3, 1],
  },
  {
    name: 'only what is listed',
    request: [{ option: '6' }, { option: '1', skipDefault: true }],
    expected: [6, 1],
  },
  { name: 'entries without an option are passed over', request: [{ skipDefault: false }], expected: [3, 1] },
  {
    name: 'an entry without an option says something all the same',
    request: [{ skipDefault: true }, { option: '' }, { option: '6' }],
    expected: [6],
  },
])('request: $name', ({ request, expected }) => {
  expect(clientOptions({ ipam: { request } }, '').requested).toEqual(expected)
})

test.each<{ name: string; ipam: Configuration['ipam']; message: string }>([
  {
    name: 'a name that is unknown',
    ipam: { request: [{ option: 'colour' }] },
    message: 'ipam.request[0].option: Can not parse option "colour"',
  },
  {
    name: 'a number above 255',
    ipam: { provide: [{ option: '256', value: 'x' }] },
    message: 'ipam.provide[0].option: Can not parse option "256"',
  },
  {
    name: 'a value of 256 bytes',
    ipam: { provide: [{ option: '12', value: 'x'.repeat(256) }] },
    message: 'ipam.provide[0].value: value too long for option "12": must be at most 255 bytes: got 256',
  },
])('$name is refused with the key', ({ ipam, message }) => {
  expect(() => clientOptions({ ipam }, '')).toThrow(new CniError(7, message))
})

test('an identity has 254 bytes at most', () => {
  expect(clientIdentifier('c1', 'net', 'eth0')).toBe('c1/net/eth0')
  expect(clientIdentifier('c'.repeat(300), 'net', 'eth0')).toBe('c'.repeat(254))
})

test.each([2 ** 32, 0.5])('a priority of %p, which no route can have, is refused', priority => {
  expect(() => decode(configuration, { ipam: { priority } })).toThrow(/^ipam\.priority: /)
})
