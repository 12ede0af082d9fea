/** Waiting until a link carries frames. */
import { expect, test } from 'bun:test'
import { awaitLink } from '../../chain/interface/ready.ts'
import { setLink } from '../../chain/linux/netlink/link.ts'
import { connect, freshNamespace } from '../fixtures/namespace.ts'

test('a link is answered once it is as wanted', () => {
  using one = freshNamespace()
  using other = freshNamespace()
  connect({ namespace: one, name: 'veth0' }, { namespace: other, name: 'veth0' })
  expect(awaitLink(one.route, one.link('veth0').index)).toMatchObject({ name: 'veth0', state: 'up' })
})

test('a link that is gone is not waited for', () => {
  using one = freshNamespace()
  expect(awaitLink(one.route, 4711)).toBeUndefined()
})

test('one that never is as wanted is answered as it is, after the patience', () => {
  using one = freshNamespace()
  using other = freshNamespace()
  connect({ namespace: one, name: 'veth0' }, { namespace: other, name: 'veth0' })
  setLink(other.route, 'veth0', { up: false })
  const started = performance.now()
  expect(awaitLink(one.route, one.link('veth0').index)?.state).not.toBe('up')
  expect(performance.now() - started).toBeGreaterThan(2500)
})
