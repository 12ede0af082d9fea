/** Results in every version of the specification, byte for byte as the Go plugins 1.9.1 print them (results/*.txt are their output). */
import { expect, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import { CniError, errorDocument, toCniError } from '../../chain/protocol/error.ts'
import {
  emptyResult,
  parseResult,
  printError,
  printResult,
  type Result,
} from '../../chain/protocol/result.ts'

const printed = (name: string, version: string) =>
  readFileSync(`${import.meta.dir}/results/${name}-${version}.txt`, 'utf8')

const everyVersion = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0']
const withInterfaces = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0']

const addresses: Result = {
  interfaces: [],
  ips: [
    { address: '10.1.0.5/16', gateway: '10.1.0.1' },
    { address: 'fd00::5/64', gateway: 'fd00::1' },
  ],
  routes: [
    { dst: '0.0.0.0/0', gw: '10.1.0.1', mtu: 1400, priority: 5, table: 0, scope: 0 },
    { dst: 'FD01::1/48' },
  ],
  dns: { nameservers: ['10.1.0.1'], domain: 'a<b&c', search: ['x'], options: ['ndots:5'] },
}

const interfaces: Result = {
  interfaces: [
    {
      name: 'eth0',
      mac: '02:00:00:00:00:01',
      mtu: 1400,
      sandbox: '/run/x',
      socketPath: '/s',
      pciID: '0000:1',
    },
    { name: 'br0', mac: '', mtu: 0, sandbox: '' },
  ],
  ips: [{ interface: 0, address: '10.1.0.5/16', gateway: '10.1.0.1' }],
  routes: [{ dst: '0.0.0.0/0', mtu: 1400, priority: 0, advmss: 0, scope: 0 }],
  dns: {},
}

test.each(everyVersion)('addresses, routes and dns in version %s', version => {
  expect(printResult(addresses, version)).toBe(printed('addresses', version))
})

test.each(withInterfaces)('interfaces in version %s', version => {
  expect(printResult(interfaces, version)).toBe(printed('interfaces', version))
})

test.each(['0.3.1', '1.1.0'])('nothing in version %s', version => {
  expect(printResult(emptyResult(), version)).toBe(printed('empty', version))
})

test.each([
  ...everyVersion.map(version => ['addresses', version] as const),
  ...withInterfaces.map(version => ['interfaces', version] as const),
])('%s of version %s are read and printed again without a change', (name, version) => {
  const text = printed(name, version)
  expect(printResult(parseResult(JSON.parse(text), version), version)).toBe(text)
})

test.each(everyVersion)('addresses of version %s are understood', version => {
  const { ips, dns } = parseResult(JSON.parse(printed('addresses', version)), version)
  expect({ ips, dns }).toEqual({ ips: addresses.ips, dns: addresses.dns })
})

test.each(['0.1.0', '0.2.0'])('version %s cannot say a result without an address', version => {
  expect(() => printResult({ ...interfaces, ips: [] }, version)).toThrow(
    expect.objectContaining({
      code: 999,
      message: expect.stringContaining('cannot convert: no valid IP addresses'),
    }),
  )
})

test('version 0.2.0 drops routes of a family that has no address, and further addresses', () => {
  const ips = [{ address: '10.1.0.5/16' }, { address: '10.1.0.6/16' }]
  const text = printResult({ ...addresses, ips, dns: {} }, '0.2.0')
  expect(JSON.parse(text)).toEqual({
    cniVersion: '0.2.0',
    ip4: { ip: '10.1.0.5/16', routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1' }] },
    dns: {},
  })
})

test.each([
  { name: 'without a version', json: { ips: [{ address: '10.1.0.5/16' }] } },
  {
    name: 'of the older version of the family',
    json: { cniVersion: '1.0.0', ips: [{ address: '10.1.0.5/16' }] },
  },
  { name: 'with keys in another case', json: { CNIVersion: '1.1.0', IPs: [{ Address: '10.1.0.5/16' }] } },
  { name: 'with nulls', json: { ips: [{ address: '10.1.0.5/16', gateway: null }], routes: null, dns: null } },
  { name: 'with an IPv4 address in IPv6 clothes', json: { ips: [{ address: '::ffff:10.1.0.5/16' }] } },
])('a previous result is understood: $name', ({ json }) => {
  expect(parseResult(json, '1.1.0')).toEqual({ ...emptyResult(), ips: [{ address: '10.1.0.5/16' }] })
})

test.each([
  {
    version: '1.1.0',
    json: { cniVersion: '0.4.0' },
    message: 'result type supports [1.0.0 1.1.0] but unmarshalled CNIVersion is "0.4.0"',
    code: 999,
  },
  {
    version: '0.4.0',
    json: { cniVersion: '0.2.0' },
    message: 'result type supports [0.3.0 0.3.1 0.4.0] but unmarshalled CNIVersion is "0.2.0"',
    code: 999,
  },
  { version: '1.1.0', json: [], message: 'it is not an object: []', code: 6 },
  { version: '1.1.0', json: { ips: 5 }, message: 'ips: must be a list of objects', code: 6 },
  {
    version: '1.1.0',
    json: { ips: [{ address: '10.0.0.1' }] },
    message: 'ips.address: invalid CIDR address: 10.0.0.1: must be an address with prefix: got "10.0.0.1"',
    code: 6,
  },
  {
    version: '1.1.0',
    json: { ips: [{}] },
    message: 'ips.address: invalid CIDR address: : must be an address with prefix',
    code: 6,
  },
  {
    version: '1.1.0',
    json: { ips: [{ address: '10.0.0.1/8', gateway: 'x' }] },
    message: 'ips.gateway: invalid IP address: x',
    code: 6,
  },
  {
    version: '1.1.0',
    json: { ips: [{ address: '10.0.0.1/8', interface: 0.5 }] },
    message: 'ips.interface: must be an integer: got 0.5',
    code: 6,
  },
  {
    version: '1.1.0',
    json: { routes: [{ dst: 'x' }] },
    message: 'routes.dst: invalid CIDR address: ',
    code: 6,
  },
  {
    version: '1.1.0',
    json: { interfaces: [{ name: 5 }] },
    message: 'interfaces.name: must be a string: got 5',
    code: 6,
  },
  {
    version: '0.2.0',
    json: { ip4: { ip: 'x' } },
    message: 'ip: invalid CIDR address: x: must be an address with prefix: got "x"',
    code: 6,
  },
])('a previous result is refused with code $code: $message', ({ version, json, message, code }) => {
  expect(() => parseResult(json, version)).toThrow(
    expect.objectContaining({
      code,
      message: expect.stringContaining(`could not parse prevResult: ${message}`),
    }),
  )
})

test('an error is printed as Go prints one', () => {
  const error = new CniError(7, 'mtu: <68>', { details: 'a & b' })
  expect(printError(errorDocument(error))).toBe(
    '{\n    "code": 7,\n    "msg": "mtu: \\u003c68\\u003e",\n    "details": "a \\u0026 b"\n}',
  )
})

test('whatever else is thrown has code 999 and its own words', () => {
  expect(errorDocument(toCniError(new TypeError('x is not a function')), '1.1.0')).toEqual({
    cniVersion: '1.1.0',
    code: 999,
    msg: 'x is not a function',
  })
  expect(errorDocument(toCniError('words'))).toEqual({ code: 999, msg: 'words' })
})
