import { expect, test } from 'bun:test'
import { addVlans, listVlans, readPortVlans, removeVlans } from '../../../chain/linux/netlink/bridge-vlan.ts'
import { request } from '../../../chain/linux/netlink/socket.ts'
import { freshNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { testOn } from '../../kernel/features.ts'

const bytes = (annotated: string) => Uint8Array.fromHex(annotated.replaceAll(/#.*$|\s/gm, ''))

test('ranges are read as the VLANs that they stand for', () => {
  const payload = bytes(`
    07 00 00 00 05 00 00 00 00 00 00 00 00 00 00 00   # struct ifinfomsg: AF_BRIDGE, index 5
    08 00 0a 00 03 00 00 00                           # IFLA_MASTER 3
    1c 00 1a 80                                       # IFLA_AF_SPEC, nested
      08 00 02 00 06 00 01 00                         # VLAN 1, PVID and untagged
      08 00 02 00 08 00 64 00                         # VLAN 100, a range begins
      08 00 02 00 10 00 66 00                         # VLAN 102, it ends
  `)
  expect(readPortVlans(payload)).toEqual({
    link: 5,
    master: 3,
    vlans: [
      { id: 1, native: true, untagged: true },
      { id: 100, native: false, untagged: false },
      { id: 101, native: false, untagged: false },
      { id: 102, native: false, untagged: false },
    ],
  })
})

test('a bridge lists its own VLANs without a master', () => {
  const payload = bytes(`
    07 00 00 00 03 00 00 00 00 00 00 00 00 00 00 00   # struct ifinfomsg: AF_BRIDGE, index 3
    08 00 0a 00 03 00 00 00                           # IFLA_MASTER 3: itself
  `)
  expect(readPortVlans(payload)).toEqual({ link: 3, vlans: [] })
})

test('requests name the VLANs as ranges', () => {
  const tagged = (id: number) => ({ id, native: false, untagged: false })
  const vlans = [tagged(102), tagged(100), tagged(101), { id: 5, native: true, untagged: true }]
  expect(addVlans(5, vlans).operation).toBe('add VLAN 5, 100-102 to port 5')
  expect(Buffer.from(addVlans(5, vlans).payload)).toEqual(
    Buffer.from(
      bytes(`
        07 00 00 00 05 00 00 00 00 00 00 00 00 00 00 00   # struct ifinfomsg: AF_BRIDGE, index 5
        1c 00 1a 80                                       # IFLA_AF_SPEC, nested
          08 00 02 00 06 00 05 00                         # VLAN 5, PVID and untagged
          08 00 02 00 08 00 64 00                         # VLAN 100, a range begins
          08 00 02 00 10 00 66 00                         # VLAN 102, it ends
      `),
    ),
  )
})

/** What iproute2 says of a port: "5 PVID Egress Untagged". */
function shown(namespace: Namespace, port: string): string[] {
  const [found] = JSON.parse(namespace.run('bridge', '-j', 'vlan', 'show', 'dev', port)) as {
    vlans: { vlan: number; flags?: string[] }[]
  }[]
  return (found?.vlans ?? []).map(({ vlan, flags = [] }) => [vlan, ...flags].join(' '))
}

testOn(['bridge-vlan'], 'VLANs are added, changed, listed and deleted, as iproute2 sees them', () => {
  using namespace = freshNamespace()
  const { route } = namespace
  const bridge = namespace.createLink({ name: 'br0', kind: { type: 'bridge', vlanFiltering: true } })
  const port = namespace.createLink({
    name: 'port0',
    kind: { type: 'veth', peer: { name: 'far0' } },
    master: bridge.index,
  })
  const tagged = (id: number) => ({ id, native: false, untagged: false })
  expect(shown(namespace, 'port0')).toEqual(['1 PVID Egress Untagged'])
  request(route, removeVlans(port.index, [tagged(1)]))
  request(
    route,
    addVlans(port.index, [tagged(10), tagged(11), tagged(4094), { id: 5, native: true, untagged: true }]),
  )
  expect(shown(namespace, 'port0')).toEqual(['5 PVID Egress Untagged', '10', '11', '4094'])
  request(route, addVlans(port.index, [tagged(5)]))
  request(route, removeVlans(port.index, [tagged(10), tagged(11)]))
  expect(shown(namespace, 'port0')).toEqual(['5', '4094'])
  expect(listVlans(route)).toEqual([
    { link: bridge.index, vlans: [{ id: 1, native: true, untagged: true }] },
    { link: port.index, master: bridge.index, vlans: [tagged(5), tagged(4094)] },
  ])
  expect(() => request(route, removeVlans(port.index, [tagged(77)]))).not.toThrow()
})
