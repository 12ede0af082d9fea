import { expect, test } from 'bun:test'
import { errno, isErrno } from '../../chain/linux/libc/errno.ts'
import { ensureSysctl, readSysctl, writeSysctl } from '../../chain/linux/sysctl.ts'
import { freshNamespace } from '../fixtures/namespace.ts'

const SOMAXCONN = 'net/core/somaxconn'

test('a parameter of the network is that of the namespace in which it is read and written', () => {
  using one = freshNamespace()
  using other = freshNamespace()
  const before = readSysctl(SOMAXCONN)
  one.inside(() => writeSysctl(SOMAXCONN, '777'))
  expect([one.sysctl(SOMAXCONN), other.sysctl(SOMAXCONN), readSysctl(SOMAXCONN)]).toEqual([
    '777',
    before,
    before,
  ])
})

test('a value that is there already is not written again', () => {
  using one = freshNamespace()
  const ensure = (value: string) => one.inside(() => ensureSysctl(SOMAXCONN, value))
  expect([ensure('555'), ensure('555'), ensure('556')]).toEqual(['written', 'unchanged', 'written'])
})

test('a parameter of an interface whose name has a dot is found', () => {
  using one = freshNamespace()
  one.createLink({ name: 'eth0.100', kind: { type: 'bridge' } })
  one.inside(() => writeSysctl('net/ipv4/conf/eth0.100/arp_notify', '1'))
  expect(one.sysctl('net/ipv4/conf/eth0.100/arp_notify')).toBe('1')
})

test('values of several words are given as the kernel gives them', () => {
  using one = freshNamespace()
  expect(one.sysctl('net/ipv4/ip_local_port_range')).toMatch(/^\d+\t\d+$/)
})

test.each([
  {
    name: 'a parameter that the kernel does not have',
    key: 'net/core/none',
    value: '1',
    number: errno.ENOENT,
  },
  { name: 'a value that the kernel does not take', key: SOMAXCONN, value: 'many', number: errno.EINVAL },
])('$name is refused, and named', ({ key, value, number }) => {
  using one = freshNamespace()
  let thrown: unknown
  try {
    one.inside(() => writeSysctl(key, value))
  } catch (error) {
    thrown = error
  }
  expect(isErrno(thrown, number)).toBe(true)
  expect(String(thrown)).toContain(`/proc/sys/${key}`)
})

test('a parameter that the kernel does not have reads as nothing', () => {
  expect(readSysctl('net/core/none')).toBeUndefined()
})
