import { expect, test } from 'bun:test'
import { closeSync, openSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { errno, isErrno } from '../../chain/linux/libc/errno.ts'
import { close } from '../../chain/linux/libc/file.ts'
import { createLink, findLink } from '../../chain/linux/netlink/link.ts'
import { openRoute } from '../../chain/linux/netlink/socket.ts'
import {
  createNamespace,
  inNamespace,
  namespaceIdentity,
  namespaceState,
  openNewNamespace,
  ownNamespaceIdentity,
  removeNamespace,
} from '../../chain/linux/netns.ts'
import { freshNamespace } from '../fixtures/namespace.ts'

const PATH = `/run/netns/netns-test-${process.pid}`
const home = ownNamespaceIdentity()
const descriptors = () => readdirSync('/proc/self/fd').length

function thrownBy(body: () => unknown): unknown {
  try {
    body()
  } catch (thrown) {
    return thrown
  }
  throw new Error('nothing was thrown')
}

test('a body runs inside, and the thread is home again after it', () => {
  using namespace = freshNamespace()
  const inside = inNamespace(namespace.path, ownNamespaceIdentity)
  expect([inside, ownNamespaceIdentity()]).toEqual([namespaceIdentity(namespace.path), home])
  expect(inside).not.toBe(home)
})

test('the thread is home again after a body that throws, and the error is its own', () => {
  using namespace = freshNamespace()
  const mine = new Error('mine')
  const fail = () => {
    throw mine
  }
  expect(thrownBy(() => inNamespace(namespace.path, fail))).toBe(mine)
  expect(ownNamespaceIdentity()).toBe(home)
})

test('bodies may be nested, and each level comes home', () => {
  using one = freshNamespace()
  using other = freshNamespace()
  const seen = inNamespace(one.path, () => [
    inNamespace(other.path, ownNamespaceIdentity),
    ownNamespaceIdentity(),
  ])
  expect(seen).toEqual([namespaceIdentity(other.path), namespaceIdentity(one.path)])
})

test('a body that goes on after it came home does not compile', () => {
  using namespace = freshNamespace()
  // @ts-expect-error a promise would be resolved outside of the namespace
  const answered: unknown = inNamespace(namespace.path, async () => 'later')
  // @ts-expect-error the same for a thenable that is returned
  const other: unknown = inNamespace(namespace.path, () => Promise.resolve('later'))
  expect([answered, other]).toEqual([expect.any(Promise), expect.any(Promise)])
})

test('entering leaves no descriptor open, whether it succeeds, fails, or cannot begin', () => {
  using namespace = freshNamespace()
  const before = descriptors()
  inNamespace(namespace.path, () => 1)
  thrownBy(() =>
    inNamespace(namespace.path, () => {
      throw new Error()
    }),
  )
  expect(
    isErrno(
      thrownBy(() => inNamespace('/run/netns/none', () => 1)),
      errno.ENOENT,
    ),
  ).toBe(true)
  expect(
    isErrno(
      thrownBy(() => inNamespace('/proc/self/status', () => 1)),
      errno.EINVAL,
    ),
  ).toBe(true)
  expect(descriptors()).toBe(before)
  expect(ownNamespaceIdentity()).toBe(home)
})

test('what is no namespace is refused by the path that it was called by', () => {
  expect(String(thrownBy(() => inNamespace('/proc/self/status', () => 1)))).toContain('/proc/self/status')
})

test('a namespace without a path lives as long as its descriptor, and can be entered by it', () => {
  const namespace = openNewNamespace()
  try {
    inNamespace(namespace, () => {
      using route = openRoute()
      createLink(route, { name: 'inner0', kind: { type: 'bridge' } })
    })
    const found = inNamespace(namespace, () => {
      using route = openRoute()
      return findLink(route, 'inner0')?.kind
    })
    expect(found).toBe('bridge')
    expect(ownNamespaceIdentity()).toBe(home)
  } finally {
    close(namespace)
  }
})

test('a namespace is made at a path, is a new one, and goes when it is removed, twice', () => {
  const before = descriptors()
  createNamespace(PATH)
  try {
    expect(namespaceState(PATH)).toBe('present')
    expect(namespaceIdentity(PATH)).not.toBe(home)
    expect(ownNamespaceIdentity()).toBe(home)
  } finally {
    expect([removeNamespace(PATH), removeNamespace(PATH)]).toEqual(['removed', 'absent'])
  }
  expect(namespaceState(PATH)).toBe('absent')
  expect(descriptors()).toBe(before)
})

test('a path that is taken is refused, and what is there stays as it was', () => {
  using namespace = freshNamespace()
  const identity = namespaceIdentity(namespace.path)
  expect(
    isErrno(
      thrownBy(() => createNamespace(namespace.path)),
      errno.EEXIST,
    ),
  ).toBe(true)
  expect(namespaceIdentity(namespace.path)).toBe(identity)
})

test('a namespace cannot be made where there is no folder, and nothing is left', () => {
  const before = descriptors()
  expect(
    isErrno(
      thrownBy(() => createNamespace('/run/no/folder')),
      errno.ENOENT,
    ),
  ).toBe(true)
  expect([descriptors(), ownNamespaceIdentity()]).toEqual([before, home])
})

test('a namespace that is still in use is removed from its path; its users keep it', () => {
  createNamespace(PATH)
  const user = openSync(PATH, 'r')
  try {
    expect(removeNamespace(PATH)).toBe('removed')
    expect(namespaceState(PATH)).toBe('absent')
    expect(inNamespace(user, () => readlinkSync('/proc/thread-self/ns/net'))).toMatch(/^net:/)
  } finally {
    closeSync(user)
  }
})

test('what an unclean end left at a path is told from a namespace, and can be removed', () => {
  writeFileSync(PATH, '')
  try {
    expect(namespaceState(PATH)).toBe('not a namespace')
    expect(removeNamespace(PATH)).toBe('removed')
  } finally {
    rmSync(PATH, { force: true })
  }
})

test.each([
  ['', 'absent'],
  ['/run/netns/none', 'absent'],
  ['/run/netns/none/deeper', 'absent'],
  ['/proc/2147483647/ns/net', 'absent'],
  ['/proc/self/ns/net', 'present'],
] as const)('the state of %j is %s', (path, state) => {
  expect(namespaceState(path)).toBe(state)
})
