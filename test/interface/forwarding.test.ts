/** What lets the host route between its links. */
import { expect, test } from 'bun:test'
import { enableForwarding, prepareHostLink } from '../../chain/interface/forwarding.ts'
import { freshNamespace } from '../fixtures/namespace.ts'

const keys = ['net/ipv4/ip_forward', 'net/ipv6/conf/all/forwarding']

test.each([
  { addresses: [], on: [false, false] },
  { addresses: ['10.1.0.2'], on: [true, false] },
  { addresses: ['fd00::2'], on: [false, true] },
  { addresses: ['fd00::2', '10.1.0.2'], on: [true, true] },
])('forwarding is switched on for the families of $addresses: $on', ({ addresses, on }) => {
  using namespace = freshNamespace()
  for (const key of keys) namespace.setSysctl(key, '0')
  namespace.inside(() => enableForwarding(addresses))
  expect(keys.map(key => namespace.sysctl(key) === '1')).toEqual([...on])
})

test('a link of the host takes no router’s word, and need not prove its own address unique', () => {
  using namespace = freshNamespace()
  namespace.createLink({ name: 'br0', kind: { type: 'bridge' }, up: false })
  namespace.inside(() => prepareHostLink('br0'))
  expect(['accept_ra', 'accept_dad'].map(key => namespace.sysctl(`net/ipv6/conf/br0/${key}`))).toEqual([
    '0',
    '0',
  ])
})
