/** The environment of a plugin call, word for word as the Go plugins judge it. */
import { expect, test } from 'bun:test'
import {
  checkNetworkName,
  checkVerb,
  parseArguments,
  parseEnvironment,
} from '../../chain/protocol/environment.ts'

const complete = {
  CNI_COMMAND: 'ADD',
  CNI_CONTAINERID: 'container-1',
  CNI_NETNS: '/run/netns/one',
  CNI_IFNAME: 'eth0',
  CNI_ARGS: 'IgnoreUnknown=1',
  CNI_PATH: '/opt/cni/bin:/usr/lib/cni',
}

test('a complete environment becomes a request', () => {
  expect(parseEnvironment(complete)).toEqual({
    verb: 'ADD',
    containerId: 'container-1',
    netns: '/run/netns/one',
    ifname: 'eth0',
    args: 'IgnoreUnknown=1',
    path: ['/opt/cni/bin', '/usr/lib/cni'],
    netnsOverride: false,
  })
})

test.each([
  { verb: undefined, missing: 'CNI_COMMAND' },
  { verb: 'ADD', missing: 'CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH' },
  { verb: 'CHECK', missing: 'CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH' },
  { verb: 'DEL', missing: 'CNI_CONTAINERID,CNI_IFNAME,CNI_PATH' },
  { verb: 'GC', missing: 'CNI_PATH' },
])('$verb: all variables that are missing are told at once: $missing', ({ verb, missing }) => {
  for (const nothing of [undefined, '']) {
    const empty = { CNI_CONTAINERID: nothing, CNI_NETNS: nothing, CNI_IFNAME: nothing, CNI_PATH: nothing }
    expect(() => parseEnvironment({ ...empty, CNI_COMMAND: verb })).toThrow(
      expect.objectContaining({ code: 4, message: `required env variables [${missing}] missing` }),
    )
  }
})

test.each(['STATUS', 'BOGUS'])('%s needs no other variable', verb => {
  expect(parseEnvironment({ CNI_COMMAND: verb }).verb as string).toBe(verb)
})

test.each(['GC', 'STATUS'])('%s does not look at the variables of an attachment', verb => {
  const odd = { CNI_COMMAND: verb, CNI_CONTAINERID: 'a b', CNI_IFNAME: 'a/b', CNI_PATH: '/x' }
  expect(() => parseEnvironment(odd)).not.toThrow()
})

const space = 'interface name contains / or : or whitespace characters'

test.each([
  ['CNI_CONTAINERID', 'a b', 'invalid characters in containerID'],
  ['CNI_CONTAINERID', '-a', 'invalid characters in containerID'],
  ['CNI_CONTAINERID', 'a/../b', 'invalid characters in containerID'],
  ['CNI_IFNAME', '.', 'interface name is . or ..'],
  ['CNI_IFNAME', '..', 'interface name is . or ..'],
  ['CNI_IFNAME', 'a/b', space],
  ['CNI_IFNAME', 'a:b', space],
  ['CNI_IFNAME', 'a b', space],
  ['CNI_IFNAME', 'a\tb', space],
  ['CNI_IFNAME', 'a\u0085b', space],
  ['CNI_IFNAME', 'a\u2028b', space],
  ['CNI_IFNAME', '0123456789abcdef', 'interface name is too long'],
  ['CNI_IFNAME', 'éééééééé', 'interface name is too long'],
])('%s=%j is refused with code 4: %s', (variable, value, message) => {
  expect(() => parseEnvironment({ ...complete, [variable]: value })).toThrow(
    expect.objectContaining({ code: 4, message }),
  )
})

test.each(['0123456789abcde', 'ééééééé', 'a\ufeffb', 'eth0.100', 'a-b_c@d'])(
  'interface name %p is taken',
  name => {
    expect(parseEnvironment({ ...complete, CNI_IFNAME: name }).ifname).toBe(name)
  },
)

test('what is malformed is told before what is missing', () => {
  expect(() => parseEnvironment({ CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'a b' })).toThrow(
    'invalid characters in containerID',
  )
})

test.each([
  ['1', true],
  ['true', true],
  ['TRUE', true],
  ['', false],
  ['0', false],
  ['yes', false],
])('CNI_NETNS_OVERRIDE=%p: %p', (value, expected) => {
  expect(parseEnvironment({ ...complete, CNI_NETNS_OVERRIDE: value }).netnsOverride).toBe(expected)
})

test.each(['add', 'VERSIONS', ''])('verb %p does not exist: code 4', verb => {
  expect(() => checkVerb(verb)).toThrow(
    expect.objectContaining({ code: 4, message: `unknown CNI_COMMAND: ${verb}` }),
  )
})

test.each([
  { name: '', message: 'missing network name' },
  { name: 'a b', message: 'invalid characters found in network name' },
  { name: '_a', message: 'invalid characters found in network name' },
  { name: 'a/b', message: 'invalid characters found in network name' },
  { name: 'a\n', message: 'invalid characters found in network name' },
])('network name "$name" is refused with code 7', ({ name, message }) => {
  expect(() => checkNetworkName(name)).toThrow(expect.objectContaining({ code: 7, message }))
})

test.each([
  { args: '', found: {} },
  { args: 'IP=10.0.0.1', found: { IP: '10.0.0.1' } },
  { args: 'IP=', found: { IP: '' } },
  { args: 'IP=1;MAC=2;IP=3', found: { IP: '3', MAC: '2' } },
  { args: 'K8S_POD_NAME=web;IgnoreUnknown=1;IP=1', found: { IP: '1' } },
  { args: 'IgnoreUnknown=TRUE;X=1', found: {} },
])('CNI_ARGS "$args" is understood', ({ args, found }) => {
  expect(parseArguments(args, ['IP', 'MAC'])).toEqual(found)
})

test.each([
  { args: 'IP=1;', message: 'CNI_ARGS: invalid pair ""' },
  { args: 'IP', message: 'CNI_ARGS: invalid pair "IP"' },
  { args: 'IP=a=b', message: 'CNI_ARGS: invalid pair "IP=a=b"' },
  { args: 'X=1;Y=2', message: 'CNI_ARGS: unknown args ["X=1","Y=2"]' },
  { args: 'ip=1', message: 'CNI_ARGS: unknown args ["ip=1"]' },
  { args: 'X=1;IgnoreUnknown=0', message: 'CNI_ARGS: unknown args ["X=1"]' },
  {
    args: 'IgnoreUnknown=yes',
    message:
      'CNI_ARGS: error parsing value of pair "IgnoreUnknown=yes": boolean unmarshal error: invalid input yes, must be 1, 0, true or false',
  },
])('CNI_ARGS refused: $args', ({ args, message }) => {
  expect(() => parseArguments(args, ['IP'])).toThrow(expect.objectContaining({ code: 999, message }))
})
