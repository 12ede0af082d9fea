/** Which kinds of link the kernel can make, asked without one being made. */
import { expect, test } from 'bun:test'
import { hasKind } from '../../../chain/linux/netlink/link-probe.ts'
import { freshNamespace } from '../../fixtures/namespace.ts'
import { difference, snapshot } from '../../fixtures/snapshot.ts'
import { runUnprivileged } from '../../fixtures/unprivileged.ts'
import { type Feature, hasFeature } from '../../kernel/features.ts'

test('no link comes to be, whatever the answer', () => {
  using host = freshNamespace()
  const before = snapshot(host)
  expect({ veth: hasKind(host.route, 'veth'), warp: hasKind(host.route, 'warp') }).toEqual({
    veth: true,
    warp: false,
  })
  expect(difference(before, snapshot(host))).toEqual({ added: [], gone: [] })
})

test('the answer is what comes of making one', () => {
  using host = freshNamespace()
  const kinds = ['bridge', 'dummy', 'ifb', 'ipvlan', 'macvlan', 'vlan', 'vrf'] satisfies Feature[]
  expect(kinds.map(kind => `${kind} ${hasKind(host.route, kind)}`)).toEqual(
    kinds.map(kind => `${kind} ${hasFeature(kind)}`),
  )
})

test('a socket that may not make links at all is no answer', () => {
  const told = runUnprivileged(`
    import { hasKind } from '/chain/linux/netlink/link-probe.ts'
    import { openRoute } from '/chain/linux/netlink/socket.ts'
    try { hasKind(openRoute(), 'veth') } catch (thrown) { console.log(thrown.message) }`)
  expect(told).toMatch(/^ask for veth: Operation not permitted/)
})
