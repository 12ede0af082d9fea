import { expect, test } from 'bun:test'
import { errno } from '../../../chain/linux/libc/errno.ts'
import { addAddress, listAddresses, newAddress, removeAddress } from '../../../chain/linux/netlink/address.ts'
import { messages } from '../../../chain/linux/netlink/codec.ts'
import { isRefusal } from '../../../chain/linux/netlink/socket.ts'
import { freshNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { addAddress as captured } from './captured.ts'

function withLink(): Namespace & { index: number } {
  const host = freshNamespace()
  const { index } = host.createLink({ name: 'one', kind: { type: 'veth', peer: { name: 'two' } } })
  return { ...host, index }
}

test('an address is added by the very bytes that `ip address add … brd +` sends', () => {
  const { type, payload } = newAddress({ link: 4, address: '10.22.0.1', prefixLength: 16 })
  const [theirs] = messages(captured)
  expect({ type, payload: Buffer.from(payload).toHex() }).toEqual({
    type: theirs?.type ?? 0,
    payload: Buffer.from(theirs?.payload ?? []).toHex(),
  })
})

test.each([
  { address: '10.22.0.5', prefixLength: 16, broadcast: '10.22.255.255' },
  { address: '10.22.0.5', prefixLength: 30, broadcast: '10.22.0.7' },
  { address: '255.255.255.5', prefixLength: 8, broadcast: '255.255.255.255' },
  { address: '10.22.0.5', prefixLength: 31, broadcast: undefined },
  { address: '10.22.0.5', prefixLength: 32, broadcast: undefined },
  { address: 'fd00::5', prefixLength: 64, broadcast: undefined },
])('$address/$prefixLength is there as it was added, with broadcast $broadcast', row => {
  using host = withLink()
  const { address, prefixLength, broadcast } = row
  addAddress(host.route, { link: host.index, address, prefixLength, skipDetection: true })
  expect(host.addresses('one')).toEqual([`${address}/${prefixLength}`])
  const shown = host.run('ip', 'address', 'show', 'one')
  expect(/brd (\d+\.\S+) scope/.exec(shown)?.[1]).toBe(broadcast)
})

test('an IPv6 address without duplicate detection can be used at once, one with it is tentative', () => {
  using host = withLink()
  addAddress(host.route, { link: host.index, address: 'fd00::1', prefixLength: 64, skipDetection: true })
  addAddress(host.route, { link: host.index, address: 'fd00::2', prefixLength: 64 })
  const tentative = listAddresses(host.route, host.index, [10])
    .filter(({ address }) => address.startsWith('fd00'))
    .map(({ address, tentative }) => [address, tentative])
  expect(Object.fromEntries(tentative)).toEqual({ 'fd00::1': false, 'fd00::2': true })
})

test('an address that is there already is refused with EEXIST', () => {
  using host = withLink()
  const wanted = { link: host.index, address: '10.1.0.1', prefixLength: 24 }
  addAddress(host.route, wanted)
  let thrown: unknown
  try {
    addAddress(host.route, wanted)
  } catch (error) {
    thrown = error
  }
  expect(isRefusal(thrown, errno.EEXIST)).toBe(true)
})

test.each([
  { family: 'IPv4', address: '10.1.0.1', prefixLength: 24 },
  { family: 'IPv6', address: 'fd00::1', prefixLength: 64 },
])('removing an $family address twice is a success twice, and so is it where the link is gone', wanted => {
  using host = withLink()
  addAddress(host.route, { link: host.index, ...wanted })
  const remove = (link: number) => removeAddress(host.route, { link, ...wanted })
  expect([remove(host.index), remove(host.index), remove(4711)]).toEqual(['removed', 'absent', 'absent'])
  expect(host.addresses('one')).toEqual([])
})

test('addresses are listed of one link or of all, of both families or of one', () => {
  using host = withLink()
  host.addAddress('one', '10.1.0.1/24')
  host.addAddress('one', 'fd00::1/64')
  const given = (found: { address: string }[]) =>
    found.map(({ address }) => address).filter(address => !address.startsWith('fe80'))
  expect(given(listAddresses(host.route, host.index))).toEqual(['10.1.0.1', 'fd00::1'])
  expect(given(listAddresses(host.route, host.index, [10]))).toEqual(['fd00::1'])
  expect(given(listAddresses(host.route))).toEqual(['127.0.0.1', '10.1.0.1', '::1', 'fd00::1'])
})
