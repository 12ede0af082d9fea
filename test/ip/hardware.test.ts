/** Hardware addresses in the forms that people write, and as bytes. */
import { expect, test } from 'bun:test'
import {
  hardwareAddressBytes,
  hardwareAddressText,
  parseHardwareAddress,
  parseMac,
} from '../../chain/ip/hardware.ts'

test.each([
  ['02:00:5E:10:00:00', '02:00:5e:10:00:00'],
  ['02-00-5e-10-00-00-00-01', '02:00:5e:10:00:00:00:01'],
  ['0200.5e10.0000.0001', '02:00:5e:10:00:00:00:01'],
  [
    '80:00:02:08:fe:80:00:00:00:00:00:00:00:02:C9:03:00:1A:2B:3C',
    '80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:1a:2b:3c',
  ],
  [
    '8000.0208.fe80.0000.0000.0000.0002.c903.001a.2b3c',
    '80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:1a:2b:3c',
  ],
  ['02:00:5e:10:00', undefined],
  ['02:00:5e:10:00:00:00', undefined],
  ['02:00-5e:10:00:00', undefined],
  ['0200.5e10.0000.00', undefined],
  ['80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:1a:2b', undefined],
])('a hardware address of Ethernet, EUI-64 or Infiniband: %p', (text, canonical) => {
  expect(parseHardwareAddress(text)).toBe(canonical as string)
  expect(parseMac(text)).toBe((canonical?.length === 17 ? canonical : undefined) as string)
})

test.each([
  ['02:00:5E:10:00:01', '02:00:5e:10:00:01'],
  ['02-00-5e-10-00-01', '02:00:5e:10:00:01'],
  ['0200.5e10.0001', '02:00:5e:10:00:01'],
  ['02:00-5e:10:00:01', undefined],
  ['02:00:5e:10:00', undefined],
  ['02:00:5e:10:00:01:02', undefined],
  ['2:0:5e:10:0:1', undefined],
  ['02005e100001', undefined],
  ['02:00:5e:10:00:0g', undefined],
  ['', undefined],
])('the hardware address %p is %p', (text, expected) => {
  expect(parseMac(text)).toBe(expected)
})

test('hardware addresses are read in any case, also the long ones of InfiniBand, and written in lower case', () => {
  for (const text of ['02:AB:cd:00:00:0f', Array(20).fill('80').join(':')]) {
    expect(hardwareAddressText(hardwareAddressBytes(text))).toBe(text.toLowerCase())
  }
})

test.each([
  '',
  '02:ab',
  '02:ab:cd:00:00:g0',
  '02-ab-cd-00-00-0f',
  '2:ab:cd:0:0:f',
  '02:ab:cd:00:00:0f:',
  '02abcd00000f',
])('%j is not a hardware address', text => {
  expect(() => hardwareAddressBytes(text)).toThrow(RangeError)
})
