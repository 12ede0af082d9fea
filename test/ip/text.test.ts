/** Addresses that stay text, held against those that are counted with, and against what Go takes. */
import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { formatAddress, formatCidr, networkOf, parseAddress, parseCidr } from '../../chain/ip/address.ts'
import {
  canonicalAddress,
  canonicalCidr,
  isGlobalUnicast,
  isLinkLocal,
  isLoopback,
  isMulticast,
  networkText,
  realGateway,
  splitCidr,
  splitNetwork,
} from '../../chain/ip/text.ts'

const four = fc.ipV4()
const six = fc.ipV6()
const address = fc.oneof(four, six)
const cidr = fc.oneof(
  fc.tuple(four, fc.nat(32)).map(([text, length]) => `${text}/${length}`),
  fc.tuple(six, fc.nat(128)).map(([text, length]) => `${text}/${length}`),
)
const noise = fc.string({ unit: fc.constantFrom(...'0123456789abcdefF:./'), maxLength: 24 })

test('an address has the canonical text that its number has', () => {
  fc.assert(
    fc.property(fc.oneof(address, noise), text => {
      const parsed = parseAddress(text)
      expect(canonicalAddress(text)).toBe(parsed && formatAddress(parsed))
    }),
    { numRuns: 1000 },
  )
})

test('an address with prefix length has the text and the network that its number has', () => {
  fc.assert(
    fc.property(fc.oneof(cidr, noise), text => {
      const parsed = parseCidr(text)
      const network = parsed && networkOf(parsed)
      expect(canonicalCidr(text)).toBe(parsed && formatCidr(parsed))
      expect(networkText(text)).toBe(network && formatCidr(network))
      expect(splitCidr(text)).toEqual(
        parsed && { address: formatAddress(parsed.address), prefixLength: parsed.prefixLength },
      )
      expect(splitNetwork(text)).toEqual(
        network && { address: formatAddress(network.address), prefixLength: network.prefixLength },
      )
    }),
    { numRuns: 1000 },
  )
})

test.each([
  ['10.1.2.3/0', '0.0.0.0/0'],
  ['10.1.255.3/20', '10.1.240.0/20'],
  ['10.1.2.3/032', '10.1.2.3/32'],
  ['::ffff:10.1.2.3/120', '10.1.2.0/24'],
  ['FD00:0:0:1:8000::1/65', 'fd00:0:0:1:8000::/65'],
  ['10.1.2.3/33', undefined],
  ['10.1.2.3', undefined],
])('%s is in the network %p', (text, network) => {
  expect(networkText(text)).toBe(network as string)
})

test.each([
  ['10.0.0.1', true],
  ['192.168.0.1', true],
  ['8.8.8.8', true],
  ['fd00::1', true],
  ['2001:db8::1', true],
  ['0.0.0.0', false],
  ['127.0.0.1', false],
  ['169.254.1.1', false],
  ['224.0.0.1', false],
  ['239.255.255.255', false],
  ['255.255.255.255', false],
  ['240.0.0.1', true],
  ['::', false],
  ['::1', false],
  ['fe80::1', false],
  ['febf::1', false],
  ['fec0::1', true],
  ['ff02::1', false],
])('%s is global unicast as Go sees it: %p', (text, expected) => {
  expect(isGlobalUnicast(text)).toBe(expected)
})

test.each([
  ['127.0.0.1', true],
  ['127.255.0.1', true],
  ['::1', true],
  ['128.0.0.1', false],
  ['::2', false],
  ['localhost', false],
])('%s is loopback: %p', (text, expected) => {
  expect(isLoopback(text)).toBe(expected)
})

test.each([
  ['169.254.0.1', true, false],
  ['169.253.0.1', false, false],
  ['fe80::', true, false],
  ['febf:ffff::1', true, false],
  ['fec0::1', false, false],
  ['FE80::1', true, false],
  ['fe8::1', false, false],
  ['224.0.0.1', false, true],
  ['239.255.255.255', false, true],
  ['240.0.0.1', false, false],
  ['ff02::1', false, true],
  ['ff::1', false, false],
  ['::ffff:169.254.1.1', false, false],
  ['::ffff:224.0.0.1', false, false],
  ['eth0', false, false],
])('%s stays on its link: %p, goes to many: %p', (text, linkLocal, multicast) => {
  expect([isLinkLocal(text), isMulticast(text)]).toEqual([linkLocal, multicast])
})

test.each([
  ['10.1.0.1', '10.1.0.1'],
  ['FD00:0::1', 'fd00::1'],
  ['::ffff:10.1.0.1', '10.1.0.1'],
  ['0.0.0.0', undefined],
  ['::', undefined],
  ['::ffff:0.0.0.0', undefined],
  ['nonsense', undefined],
  [undefined, undefined],
])('the gateway %p is %p', (text, gateway) => {
  expect(realGateway(text)).toBe(gateway as string)
})
