import { expect, test } from 'bun:test'
import { explainKind, findMaster, requireReady } from '../../chain/interface/master.ts'
import { errno } from '../../chain/linux/libc/errno.ts'
import { createLink } from '../../chain/linux/netlink/link.ts'
import { KernelError } from '../../chain/linux/netlink/socket.ts'
import { freshNamespace } from '../fixtures/namespace.ts'

/** A kind of link that no kernel has. */
const unknown = 'warp' as 'vlan'

const unavailable = 'failed to create warp: operation not supported: the kernel has no warp links'

test('a kind of link that the kernel lacks is named as the reason, by STATUS and by ADD', () => {
  expect(() => requireReady(unknown)).toThrow(unavailable)
  expect(() => requireReady('veth')).not.toThrow()
  const refusal = new KernelError('create warp eth0', errno.EOPNOTSUPP)
  expect(explainKind(refusal, unknown)).toMatchObject({ code: 50, message: unavailable })
  expect(explainKind(refusal, 'veth')).toBe(refusal)
})

test('an unreachable default route has no device to stand on', () => {
  using container = freshNamespace()
  createLink(container.route, { name: 'eth0', kind: { type: 'bridge' }, up: true })
  container.run('ip', 'route', 'add', 'unreachable', 'default', 'metric', '1')
  const choice = { linkInContainer: true }
  expect(() => findMaster(choice, container.path)).toThrow('master: no default route interface found')
  container.addAddress('eth0', '10.1.0.2/24')
  container.run('ip', 'route', 'add', 'default', 'via', '10.1.0.1', 'metric', '2')
  expect(findMaster(choice, container.path)).toMatchObject({ inContainer: true, link: { name: 'eth0' } })
})
