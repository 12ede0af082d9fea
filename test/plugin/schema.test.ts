/** What several plugins have in their configuration: what is taken, what it stands for, and how the rest is refused. */
import { expect, test } from 'bun:test'
import * as z from 'zod/mini'
import { dns, flag, ipam, knownMasqueradeBackend, masqueradeBackend, mtu } from '../../chain/plugin/schema.ts'
import { decodeBySchema as decode } from '../../chain/protocol/by-schema.ts'

/** A key of a configuration as a plugin reads it. */
function read<T>(schema: z.ZodMiniType<T>, value?: unknown): T {
  const json = value === undefined ? {} : { key: value }
  return decode(z.object({ key: schema }) as z.ZodMiniType<{ key: T }>, json).key
}

test('what is silent has its usual meaning', () => {
  expect([read(mtu), read(flag), read(ipam), read(dns), read(masqueradeBackend)]).toEqual([
    0,
    false,
    undefined,
    undefined,
    undefined,
  ])
})

test.each([0, -1, 1, 68, 0x7fffffff])('an MTU of %p is for the plugin, or the kernel, to judge', value => {
  expect(read(mtu, value)).toBe(value)
})

test.each([0x80000000, 1500.5, '1500', Number.MAX_SAFE_INTEGER])(
  'an MTU of %p is refused by its key',
  value => {
    expect(() => read(mtu, value)).toThrow(
      expect.objectContaining({ code: 7, message: expect.stringMatching(/^key: /) }),
    )
  },
)

test.each(['true', 1])('a flag that is %p is refused', value => {
  expect(() => read(flag, value)).toThrow(expect.objectContaining({ code: 7 }))
})

test('of `ipam` only the type concerns who delegates', () => {
  expect(read(ipam, { type: 'host-local', ranges: 'nonsense' })).toEqual({ type: 'host-local' })
  expect(() => read(ipam, { type: 7 })).toThrow(expect.objectContaining({ code: 7 }))
})

const masquerading = z
  .object({ ipMasq: flag, ipMasqBackend: masqueradeBackend })
  .check(knownMasqueradeBackend)

test.each([
  { ipMasq: true },
  { ipMasq: true, ipMasqBackend: '' },
  { ipMasq: true, ipMasqBackend: 'iptables' },
  { ipMasq: true, ipMasqBackend: 'nftables' },
  { ipMasq: false, ipMasqBackend: 'ipfw' },
  { ipMasqBackend: 'ipfw' },
])('%j: where nothing is masqueraded, by what is passed over', given => {
  expect(() => decode(masquerading, given)).not.toThrow()
})

test.each([
  { backend: 'ipfw', words: 'ipMasqBackend: unknown ipmasq backend "ipfw", must be iptables or nftables' },
  { backend: 'NFTABLES', words: 'unknown ipmasq backend "NFTABLES"' },
  { backend: 7, words: 'ipMasqBackend: must be a string' },
])('backend $backend is refused where addresses are to be masqueraded', ({ backend, words }) => {
  expect(() => decode(masquerading, { ipMasq: true, ipMasqBackend: backend })).toThrow(words)
})
