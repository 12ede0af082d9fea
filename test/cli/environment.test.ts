import { describe, expect, test } from 'bun:test'
import {
  containerIdFor,
  type Flags,
  namespacePath,
  readSettings,
  type Settings,
} from '../../chain/cli/environment.ts'
import { CniError } from '../../chain/protocol/error.ts'

describe('a namespace', () => {
  test.each([
    {
      given: 'web',
      folder: '/home/me',
      path: '/run/netns/web',
      name: 'that is a bare name is one under /run/netns',
    },
    {
      given: '/proc/7/ns/net',
      folder: '/',
      path: '/proc/7/ns/net',
      name: 'that is a path is taken as it is',
    },
    {
      given: './web',
      folder: '/home/me',
      path: '/home/me/web',
      name: 'that is a relative path is one from here',
    },
    { given: '../ns/web', folder: '/home/me', path: '/home/ns/web', name: 'above this folder is made plain' },
    {
      given: '/run//netns/./web/',
      folder: '/',
      path: '/run/netns/web',
      name: 'written in a roundabout way is made plain, as cnitool does',
    },
    { given: '', folder: '/home/me', path: '', name: 'that is empty stays so, for the plugins to refuse' },
  ])('$name', ({ given, folder, path }) => {
    expect(namespacePath(given, folder)).toBe(path)
  })
})

test("a container's ID is cnitool's: the first 20 digits of the SHA-512 of the namespace's path", () => {
  // printf /run/netns/c1 | sha512sum | cut -c1-20
  expect(containerIdFor('/run/netns/c1')).toBe('cnitool-20b4ff582526573bbe7d')
})

const defaults = {
  configurations: '/etc/cni/net.d',
  path: [expect.stringMatching(/^\//), '/opt/cni/bin'],
  capabilityArgs: undefined,
  args: undefined,
  ifname: 'eth0',
}

const everyVariable = {
  NETCONFPATH: '/env/net.d',
  CNI_PATH: '/env/bin::/env/more',
  CAP_ARGS: '{"bandwidth":{"ingressRate":1}}',
  CNI_ARGS: 'IgnoreUnknown=1;IP=10.0.0.1',
  CNI_IFNAME: 'net1',
}

test.each<{ name: string; flags: Flags; env: Record<string, string>; settings: Settings }>([
  { name: 'nothing is set', flags: {}, env: {}, settings: defaults },
  {
    name: 'variables are empty',
    flags: {},
    env: { NETCONFPATH: '', CNI_PATH: '', CAP_ARGS: '', CNI_ARGS: '', CNI_IFNAME: '' },
    settings: defaults,
  },
  {
    name: "cnitool's variables are set",
    flags: {},
    env: everyVariable,
    settings: {
      configurations: '/env/net.d',
      path: ['/env/bin', '/env/more'],
      capabilityArgs: { bandwidth: { ingressRate: 1 } },
      args: [
        ['IgnoreUnknown', '1'],
        ['IP', '10.0.0.1'],
      ],
      ifname: 'net1',
    },
  },
  {
    name: 'flags are given too: they win',
    flags: {
      conf: '/flag',
      path: '/flag/bin',
      capArgs: '{"mac":"02:00:00:00:00:01"}',
      args: 'A=B',
      ifname: 'flag0',
    },
    env: everyVariable,
    settings: {
      configurations: '/flag',
      path: ['/flag/bin'],
      capabilityArgs: { mac: '02:00:00:00:00:01' },
      args: [['A', 'B']],
      ifname: 'flag0',
    },
  },
])('settings when $name', ({ flags, env, settings }) => {
  expect(readSettings(flags, env)).toEqual(settings)
})

test.each<{ env: Record<string, string>; says: string }>([
  { env: { CAP_ARGS: '{' }, says: 'CAP_ARGS: must be JSON' },
  { env: { CAP_ARGS: '[]' }, says: 'CAP_ARGS: must be a JSON object: got []' },
  { env: { CAP_ARGS: 'null' }, says: 'CAP_ARGS: must be a JSON object: got null' },
  { env: { CNI_ARGS: 'a' }, says: 'CNI_ARGS: invalid pair "a"' },
  { env: { CNI_ARGS: 'a=b;' }, says: 'CNI_ARGS: invalid pair ""' },
  { env: { CNI_ARGS: 'a=b=c' }, says: 'CNI_ARGS: invalid pair "a=b=c"' },
  { env: { CNI_ARGS: '=b' }, says: 'CNI_ARGS: invalid pair "=b"' },
  { env: { CNI_ARGS: 'a=' }, says: 'CNI_ARGS: invalid pair "a="' },
])('what is refused with code 4: $says', ({ env, says }) => {
  let thrown: unknown
  try {
    readSettings({}, env)
  } catch (error) {
    thrown = error
  }
  if (!(thrown instanceof CniError)) throw new Error('it was not refused')
  expect({ code: thrown.code, message: thrown.message }).toEqual({ code: 4, message: says })
})
