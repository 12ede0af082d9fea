/** SELinux contexts of the calling thread, where there is no SELinux. */
import { expect, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import { SystemError } from '../../chain/linux/libc/errno.ts'
import { inContext } from '../../chain/linux/selinux.ts'

test('where the context is not taken nothing is done in its name', () => {
  let isDone = false
  const attempt = () =>
    inContext('system_u:object_r:no_such_type_t:s0', () => {
      isDone = true
    })
  expect(attempt).toThrow(SystemError)
  expect(isDone).toBe(false)
})

test('the thread has its own context afterwards', () => {
  const own = () => {
    try {
      return readFileSync('/proc/thread-self/attr/current', 'utf8')
    } catch (thrown) {
      return (thrown as NodeJS.ErrnoException).code
    }
  }
  const before = own()
  try {
    inContext('x', () => undefined)
  } catch {}
  expect(own()).toBe(before)
})
