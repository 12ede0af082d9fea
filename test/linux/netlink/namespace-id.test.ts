/** The number by which one namespace knows another. */
import { expect, test } from 'bun:test'
import { readdirSync } from 'node:fs'
import { close } from '../../../chain/linux/libc/file.ts'
import { namespaceNumber, ownNamespaceId } from '../../../chain/linux/netlink/namespace-id.ts'
import { openNamespace, removeNamespace } from '../../../chain/linux/netns.ts'
import { connect, freshNamespace, hostNamespace } from '../../fixtures/namespace.ts'

test('a container knows its host by one number, asked once or twice', () => {
  using host = hostNamespace()
  using container = freshNamespace()
  const number = ownNamespaceId(container.route)
  expect(number).toBeGreaterThanOrEqual(0)
  expect(ownNamespaceId(container.route)).toBe(number)
  connect({ namespace: host, name: 'number0' }, { namespace: container, name: 'eth0' })
  expect(container.link('eth0').parentNamespace).toBe(number)
})

test('namespaces are known by numbers of their own', () => {
  using container = freshNamespace()
  using one = freshNamespace()
  using other = freshNamespace()
  const numbers = [one, other].map(each => each.inside(() => ownNamespaceId(container.route)))
  expect(new Set([...numbers, ownNamespaceId(container.route)]).size).toBe(3)
  connect({ namespace: other, name: 'far0' }, { namespace: container, name: 'eth0' })
  expect(container.link('eth0').parentNamespace).toBe(numbers[1] as number)
})

test('a number that somebody has chosen is the one that is told', () => {
  using host = hostNamespace()
  using container = freshNamespace()
  const named = '/run/netns/as-the-host'
  host.run('touch', named)
  host.run('mount', '--bind', `/proc/${process.pid}/ns/net`, named)
  using _name = { [Symbol.dispose]: () => void removeNamespace(named) }
  container.run('ip', 'netns', 'set', 'as-the-host', '4711')
  expect(ownNamespaceId(container.route)).toBe(4711)
  connect({ namespace: host, name: 'number1' }, { namespace: container, name: 'eth0' })
  expect(container.link('eth0').parentNamespace).toBe(4711)
})

test('no descriptor stays open', () => {
  using container = freshNamespace()
  const before = readdirSync('/proc/self/fd').length
  for (let count = 0; count < 3; count++) ownNamespaceId(container.route)
  expect(readdirSync('/proc/self/fd')).toHaveLength(before)
})

test('another namespace’s number is looked up, and none is given to it by that', () => {
  using one = freshNamespace()
  using other = freshNamespace()
  const descriptor = openNamespace(other.path)
  try {
    expect(namespaceNumber(one.route, descriptor)).toBeUndefined()
    expect(namespaceNumber(one.route, descriptor)).toBeUndefined()
    const given = other.inside(() => ownNamespaceId(one.route))
    expect(namespaceNumber(one.route, descriptor)).toBe(given)
  } finally {
    close(descriptor)
  }
})
