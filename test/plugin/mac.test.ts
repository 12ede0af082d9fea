/** The hardware address that a configuration or a runtime asks for. */
import { expect, test } from 'bun:test'
import { parseHardwareAddress } from '../../chain/ip/hardware.ts'
import { chooseMac, macArgument, randomMac } from '../../chain/plugin/mac.ts'

const wished = (...values: (string | undefined)[]) =>
  values.map((value, index) => ({ key: `place ${index + 1}`, value }))

test.each([
  [[undefined, undefined], undefined],
  [['02:00:00:00:00:01', undefined], '02:00:00:00:00:01'],
  [['02:00:00:00:00:01', ''], '02:00:00:00:00:01'],
  [['02:00:00:00:00:01', '02-00-00-00-00-0A'], '02:00:00:00:00:0a'],
  [['nonsense', '02:00:00:00:00:01'], '02:00:00:00:00:01'],
])('of %p the last that is one counts: %p', (values, chosen) => {
  expect(chooseMac(wished(...values))).toBe(chosen as string)
})

test('the place of one that is none is named, with how many bytes it may have', () => {
  const long = Array(20).fill('80').join(':')
  expect(() => chooseMac(wished('02:00:00:00:00:01', long))).toThrow(
    expect.objectContaining({
      code: 7,
      message: `place 2: invalid args ${long} for MAC addr: address ${long}: invalid MAC address: must be a hardware address of six bytes`,
    }),
  )
  expect(chooseMac(wished(long), parseHardwareAddress)).toBe(long)
  expect(() => chooseMac(wished('80'), parseHardwareAddress)).toThrow('of 6, 8 or 20 bytes')
})

test('CNI_ARGS may name one', () => {
  const given = 'IgnoreUnknown=1;MAC=02:00:00:00:00:01'
  expect(macArgument(given)).toEqual({ key: 'CNI_ARGS: MAC', value: '02:00:00:00:00:01' })
  expect(macArgument('').value).toBeUndefined()
})

test('a random one is of one host alone, for one station, and another each time', () => {
  const some = Array.from({ length: 50 }, randomMac)
  for (const mac of some) {
    expect(mac).toMatch(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/)
    expect(Number.parseInt(mac, 16) & 3).toBe(2) // locally administered, unicast
  }
  expect(new Set(some).size).toBe(50)
})
