/** What belongs to a kind of link, written and read. */
import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { attributeMap, attributes, CodecError, join, readText } from '../../../chain/linux/netlink/codec.ts'
import {
  ipvlanModes,
  type Kind,
  kindAttributes,
  macvlanModes,
  readKindData,
} from '../../../chain/linux/netlink/link-kind.ts'

const noPeer = () => new Uint8Array(0)
const bytesOf = (kind: Kind) => join(...kindAttributes(kind, noPeer).data)

test.each<[Kind, object]>([
  [{ type: 'bridge' }, {}],
  [{ type: 'bridge', vlanFiltering: true }, { vlanFiltering: true }],
  [{ type: 'bridge', vlanFiltering: false }, { vlanFiltering: false }],
  [{ type: 'macvlan', mode: macvlanModes.passthru }, { mode: 8 }],
  [{ type: 'ipvlan', mode: ipvlanModes.l3s }, { mode: 2 }],
  [
    { type: 'vlan', id: 4094 },
    { vlan: 4094, vlanProtocol: 0x8100 },
  ],
  [{ type: 'vrf', table: 0xfffffffe }, { table: 0xfffffffe }],
  [{ type: 'dummy' }, {}],
  [{ type: 'ifb' }, {}],
])('%j is read as it was written', (kind, data) => {
  expect(kindAttributes(kind, noPeer).type).toBe(kind.type)
  expect(readKindData(kind.type, bytesOf(kind))).toEqual(data)
})

test('modes and numbers are read as they were, whatever they are', () => {
  fc.assert(
    fc.property(fc.nat(0xffff), fc.nat(0xffffffff), (small, large) => {
      expect(readKindData('macvlan', bytesOf({ type: 'macvlan', mode: large }))).toEqual({ mode: large })
      expect(readKindData('ipvlan', bytesOf({ type: 'ipvlan', mode: small }))).toEqual({ mode: small })
      expect(readKindData('vlan', bytesOf({ type: 'vlan', id: small }))).toMatchObject({ vlan: small })
    }),
  )
})

test('a queue for broadcasts is asked for where it has a length, and left to the kernel else', () => {
  const mode = macvlanModes.bridge
  const plain = bytesOf({ type: 'macvlan', mode })
  expect(bytesOf({ type: 'macvlan', mode, broadcastQueueLength: 0 })).toEqual(plain)
  expect(attributes(plain).map(({ type }) => type)).toEqual([1]) // IFLA_MACVLAN_MODE
  const longer = attributeMap(bytesOf({ type: 'macvlan', mode, broadcastQueueLength: 2000 }))
  expect(new DataView(longer.get(7)?.slice().buffer as ArrayBuffer).getUint32(0, true)).toBe(2000) // IFLA_MACVLAN_BC_QUEUE_LEN
})

test('a veth’s other end is written by whoever knows links', () => {
  const peer = { name: 'eth0', mtu: 1400 }
  const { data } = kindAttributes({ type: 'veth', peer }, settings => Buffer.from(`the end ${settings.name}`))
  expect(readText(attributeMap(join(...data)).get(1) ?? new Uint8Array(0))).toBe('the end eth0') // VETH_INFO_PEER
})

test('of a kind that is not known nothing is read, and what is too short is refused', () => {
  expect(readKindData('vxlan', bytesOf({ type: 'vlan', id: 7 }))).toEqual({})
  expect(readKindData('vlan', new Uint8Array(0))).toEqual({})
  const cut = Uint8Array.from([5, 0, 1, 0, 7, 0, 0, 0]) // an attribute of one byte where two belong
  expect(() => readKindData('vlan', cut)).toThrow(CodecError)
})
