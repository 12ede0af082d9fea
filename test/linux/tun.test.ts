/** TAP devices: whole when they are prepared, and gone where that fails. */
import { expect } from 'bun:test'
import { errno } from '../../chain/linux/libc/errno.ts'
import { setLink } from '../../chain/linux/netlink/link.ts'
import { createTap, type NewTap } from '../../chain/linux/tun.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { testOn } from '../kernel/features.ts'

const plain: NewTap = { name: 'tap0', multiQueue: false, virtioHeader: false }
const names = ({ links }: Namespace) =>
  links()
    .map(({ name }) => name)
    .filter(name => name !== 'lo')
const create = (container: Namespace, tap: NewTap, prepare: () => void = () => {}) =>
  container.inside(() => createTap(tap, prepare))

testOn(
  ['tun'],
  'a device stays when its maker has let go of it, and is there already when it is prepared',
  () => {
    using container = freshNamespace()
    create(container, plain, () => setLink(container.route, 'tap0', { mtu: 1400 }))
    expect(container.link('tap0')).toMatchObject({ kind: 'tun', mtu: 1400 })
  },
)

testOn(['tun'], 'what fails while it is prepared leaves none', () => {
  using container = freshNamespace()
  const failing = () => {
    expect(names(container)).toEqual(['tap0'])
    throw new Error('no such group')
  }
  expect(() => create(container, plain, failing)).toThrow('no such group')
  expect(names(container)).toEqual([])
})

testOn(['tun'], 'a name that is taken is refused with EBUSY, be it by another device or by a link', () => {
  using container = freshNamespace()
  create(container, plain)
  container.createLink({ name: 'br0', kind: { type: 'bridge' } })
  for (const name of ['tap0', 'br0']) {
    const refused = () => create(container, { ...plain, name }, () => expect.unreachable())
    expect(refused).toThrow(
      expect.objectContaining({ errno: name === 'tap0' ? errno.EBUSY : expect.any(Number) }),
    )
    expect(refused).toThrow(`creation of tap ${name}`)
  }
  expect(names(container).sort()).toEqual(['br0', 'tap0'])
})

testOn(['tun'], 'it belongs to whom it was given, and to root alone else', () => {
  using container = freshNamespace()
  create(container, { ...plain, owner: 0, group: 0 })
  create(container, { ...plain, name: 'tap1' })
  const told = container.run('ip', '-d', '-j', 'link', 'show')
  const data = Object.fromEntries(
    (JSON.parse(told) as { ifname: string; linkinfo?: { info_data: Record<string, unknown> } }[]).map(
      each => [each.ifname, each.linkinfo?.info_data],
    ),
  )
  expect(data.tap0).toMatchObject({ type: 'tap', user: 'root', group: 'root', persist: true })
  expect(data.tap1).not.toHaveProperty('user')
})

testOn(['tun'], 'queues and headers are those that are asked for', () => {
  using container = freshNamespace()
  const wanted = [
    [false, false],
    [true, false],
    [false, true],
  ] as const
  for (const [at, [multiQueue, virtioHeader]] of wanted.entries()) {
    const name = `tap${at}`
    create(container, { name, multiQueue, virtioHeader })
    const told = container.run('ip', '-d', '-j', 'link', 'show', name)
    expect(JSON.parse(told)[0].linkinfo.info_data).toMatchObject({
      multi_queue: multiQueue,
      vnet_hdr: virtioHeader,
      pi: false,
    })
  }
})
