/** Refused system calls, in words and numbers. */
import { expect, test } from 'bun:test'
import { checked, describeErrno, errno, isErrno, SystemError } from '../../../chain/linux/libc/errno.ts'
import { open } from '../../../chain/linux/libc/file.ts'

test.each([
  [errno.ENOENT, 'No such file or directory (ENOENT)'],
  [errno.EBUSY, 'Device or resource busy (EBUSY)'],
  [errno.EDQUOT, 'Disk quota exceeded (EDQUOT)'],
  [37, 'No locks available (errno 37)'], // ENOLCK has no name among ours
])('errno %p is "%s"', (number, description) => {
  expect(describeErrno(number)).toBe(description)
})

test('a refusal says what was being done, and is told by its number', () => {
  const refused = (() => {
    try {
      return open('/none/at/all', 0)
    } catch (thrown) {
      return thrown
    }
  })()
  expect(refused).toBeInstanceOf(SystemError)
  expect(refused).toMatchObject({
    message: expect.stringContaining('open /none/at/all: No such file or directory (ENOENT)'),
    errno: errno.ENOENT,
  })
  expect([isErrno(refused, errno.EPERM, errno.ENOENT), isErrno(refused, errno.EPERM)]).toEqual([true, false])
  expect(isErrno(new Error('open: ENOENT'), errno.ENOENT)).toBe(false)
})

test('a result is passed on as a number, and what was being done is not asked', () => {
  const unasked = () => {
    throw new Error('asked')
  }
  expect([checked(7, unasked), checked(0, unasked), checked(8n, unasked)]).toEqual([7, 0, 8])
})
