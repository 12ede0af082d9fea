/** Versions: their order, and which verb needs which. */
import { expect, test } from 'bun:test'
import {
  checkVersion,
  compareVersions,
  supportedVersions,
  versionReply,
} from '../../chain/protocol/version.ts'

test('the known versions are in order, each older than the next', () => {
  expect([...supportedVersions].sort(compareVersions)).toEqual([...supportedVersions])
})

test.each([
  ['', '0.1.0', 0],
  ['1', '1.0.0', 0],
  ['1.1', '1.1.0', 0],
  ['0.10.0', '0.9.0', 1],
  ['0.3.1', '0.4.0', -1],
  ['2.0.0', '1.9.9', 1],
])('%p compared with %p', (one, other, expected) => {
  expect(Math.sign(compareVersions(one, other))).toBe(expected)
})

test.each(['1.0.0.0', 'a', '1.x.0', '1..0', '-1.0.0', 'v1.0.0', '1.0.0-rc1'])(
  'version %p is refused with code 6',
  version => {
    expect(() => compareVersions(version, '1.0.0')).toThrow(expect.objectContaining({ code: 6 }))
  },
)

const known = (...versions: string[]) => versions.map(one => `"${one}"`).join(' ')

test.each([
  { verb: 'ADD', version: '1.1', message: 'incompatible CNI versions' },
  { verb: 'DEL', version: '9.0.0', message: 'incompatible CNI versions' },
  { verb: 'ADD', version: 'abc', message: 'incompatible CNI versions' },
  { verb: 'CHECK', version: '0.3.1', message: 'config version does not allow CHECK' },
  { verb: 'GC', version: '1.0.0', message: 'config version does not allow GC' },
  { verb: 'STATUS', version: '1.0.0', message: 'config version does not allow STATUS' },
  { verb: 'CHECK', version: '2.0.0', message: 'plugin version does not allow CHECK' },
  { verb: 'GC', version: '1.1', message: 'incompatible CNI versions' },
])('$verb with version $version is refused with code 1: $message', ({ verb, version, message }) => {
  expect(() => checkVersion(verb, version, supportedVersions)).toThrow(
    expect.objectContaining({
      code: 1,
      message,
      details: `config is "${version}", plugin supports [${known(...supportedVersions)}]`,
    }),
  )
})

test('CHECK with a version that is none is refused with code 6', () => {
  expect(() => checkVersion('CHECK', 'abc', supportedVersions)).toThrow(expect.objectContaining({ code: 6 }))
})

test.each([
  ['ADD', '0.1.0'],
  ['DEL', '1.1.0'],
  ['CHECK', '0.4.0'],
  ['GC', '1.1.0'],
  ['STATUS', '1.1.0'],
])('%s with version %s is taken', (verb, version) => {
  expect(() => checkVersion(verb, version, supportedVersions)).not.toThrow()
})

test('VERSION says the newest version and those of the plugin', () => {
  expect(versionReply(['0.4.0', '1.0.0'])).toEqual({
    cniVersion: '1.1.0',
    supportedVersions: ['0.4.0', '1.0.0'],
  })
})
