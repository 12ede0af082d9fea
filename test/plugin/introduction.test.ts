/** What programs look for in the words of a plugin that is run without a call. */
import { expect, test } from 'bun:test'
import { introduction } from '../../chain/plugin/introduction.ts'

const text = introduction('firewall', ['0.4.0', '1.0.0'])

/** Of a semantic version, with what may be behind it (semver.org). */
const semantic = String.raw`v?(\d+)\.(\d+)\.(\d+)(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?`

test('nerdctl reads a semantic version behind its phrase, to the end of the line, that is new enough for it', () => {
  const [, rest = ''] = /CNI firewall plugin (.*)/.exec(text) ?? []
  const [, major, minor] = new RegExp(`^${semantic}$`).exec(rest) ?? []
  expect([Number(major), Number(minor)]).toEqual([1, 9])
})

test('Nomad reads the first word of all that is a version, its older releases the last: both mean the same', () => {
  const words = text.split(/\s+/).filter(word => new RegExp(`^${semantic}$`).test(word) && /^v/.test(word))
  expect(words.length).toBeGreaterThan(1)
  const numbers = words.map(word => /\d+\.\d+\.\d+/.exec(word)?.[0])
  expect([numbers[0], numbers.at(-1)]).toEqual(['1.9.1', '1.9.1'])
})

test('the versions of the protocol stand in the words of the Go plugins', () => {
  expect(text.split('\n')[1]).toBe('CNI protocol versions supported: 0.4.0, 1.0.0')
  expect(text.endsWith('\n')).toBe(true)
})
