import { expect, test } from 'bun:test'
import { decode } from '../../../chain/protocol/configuration.ts'
import { CniError } from '../../../chain/protocol/error.ts'
import {
  type Configuration,
  clientIdentifier,
  clientOptions,
  configuration,
} from '../../../ipam/dhcp/configuration.ts'
import { parseDuration, parseFlags, UsageError } from '../../../ipam/dhcp/daemon/flags.ts'
import {
  decodeLease,
  encodeLease,
  fileName,
  LEASE_ENDING,
  type StoredLease,
  stateFolder,
} from '../../../ipam/dhcp/daemon/state.ts'
import { defaultTiming } from '../../../ipam/dhcp/engine/timing.ts'

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
    name: 'a name that nobody knows',
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

const defaults = {
  pidFile: '',
  hostPrefix: '',
  socketPath: '/run/cni/dhcp.sock',
  broadcast: false,
  timing: defaultTiming,
}

test.each([
  { words: '', options: {} },
  {
    words: '-pidfile /run/x --hostprefix=/host -socketpath /s -broadcast',
    options: { pidFile: '/run/x', hostPrefix: '/host', socketPath: '/s', broadcast: true },
  },
  { words: '-broadcast=false', options: {} },
  { words: '-socketpath= -broadcast', options: { broadcast: true } },
  // flags end where Go's end: at a word that is none, at "-" and at "--"
  { words: '-broadcast word -pidfile relative', options: { broadcast: true } },
  { words: 'word', options: {} },
  { words: '-', options: {} },
  { words: '-broadcast -- -colour', options: { broadcast: true } },
  {
    words: '-timeout 1m30s -resendmax=1.5s --resendtimeout 2h -probe 0',
    options: { timing: { timeout: 90_000, resendMax: 1500, resendTimeout: 7_200_000, probe: 0 } },
  },
])('daemon $words', ({ words, options }) => {
  expect(parseFlags(words.split(' ').filter(Boolean))).toEqual({ ...defaults, ...options })
})

test.each([
  '-colour red',
  '-pidfile relative',
  '-timeout',
  '-timeout ten',
  '-timeout 10',
  '-broadcast=maybe',
])('daemon %s is refused', words => {
  expect(() => parseFlags(words.split(' '))).toThrow(UsageError)
})

test.each([
  ['300ms', 300],
  ['1.5h', 5_400_000],
  ['1h2m3.5s', 3_723_500],
  ['2us', 0.002],
] as const)('%s is %p ms', (text, milliseconds) => {
  expect(parseDuration('timeout', text)).toBeCloseTo(milliseconds, 9)
})

const stored: StoredLease = {
  containerId: 'c1',
  network: 'net',
  ifname: 'eth0',
  netns: '/run/netns/c1',
  netnsIdentity: '0:4/4026532',
  link: 7,
  hardware: '02:00:00:00:00:01',
  broadcast: false,
  provided: [[12, '776562']],
  requested: [3, 1],
  priority: 0,
  lease: {
    ...{
      address: '10.0.0.5',
      prefixLength: 24,
      server: '10.0.0.1',
      serverHardware: '02:00:00:00:00:ff',
      obtainedAt: 1,
    },
    ...{
      leaseSeconds: 120,
      renewalSeconds: 60,
      rebindingSeconds: 105,
      routers: [],
      routes: [],
      nameServers: [],
      search: [],
    },
  },
}

test('a lease comes back from its file as it was, also one for ever', () => {
  expect(decodeLease(encodeLease(stored))).toEqual(stored)
  const times = { leaseSeconds: Infinity, renewalSeconds: Infinity, rebindingSeconds: Infinity }
  const forever = { ...stored, lease: { ...stored.lease, ...times } }
  expect(decodeLease(encodeLease(forever))).toEqual(forever)
})

test('every cut of a file, and every file without one of its parts, is none', () => {
  const text = encodeLease(stored)
  for (let length = 0; length < text.length - 1; length++)
    expect(decodeLease(text.slice(0, length))).toBeUndefined()
  for (const key of [
    'version',
    'containerId',
    'netns',
    'link',
    'provided',
    'requested',
    'lease',
    'hardware',
  ]) {
    const { [key]: _, ...rest } = JSON.parse(text)
    expect(decodeLease(JSON.stringify(rest))).toBeUndefined()
  }
})

test('files are found by plugin and daemon alike', () => {
  expect(stateFolder('/run/cni/dhcp.sock')).toBe('/var/lib/cni/dhcp/run-cni-dhcp.sock')
  const lease = fileName('c1/net/eth0', LEASE_ENDING)
  const note = fileName('c1/net/eth0')
  expect([lease, note].map(name => name.replace(/^[0-9a-f]{32}/, ''))).toEqual(['.lease', '.released'])
  expect(fileName('c2/net/eth0', LEASE_ENDING)).not.toBe(lease)
})

test.each([2 ** 32, 0.5])('a priority of %p, which no route can have, is refused', priority => {
  expect(() => decode(configuration, { ipam: { priority } })).toThrow(/^ipam\.priority: /)
})
