/** Names in folders. */
import { afterAll, expect, test } from 'bun:test'
import {
  existsSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { errno } from '../../../chain/linux/libc/errno.ts'
import { close, O_DIRECTORY, O_RDONLY, open } from '../../../chain/linux/libc/file.ts'
import {
  link,
  linkTarget,
  makeFolder,
  readFolderEntries,
  readLink,
  removeFolder,
  rename,
  setModified,
  symbolicLink,
  unlink,
} from '../../../chain/linux/libc/folder.ts'

const folder = mkdtempSync('/run/libc-')
afterAll(() => rmSync(folder, { recursive: true }))

test('a name is deleted once; what is not there is absent, and a folder is no name to delete so', () => {
  writeFileSync(`${folder}/one`, '')
  expect([`${folder}/one`, `${folder}/one`, `${folder}/one/below`].map(unlink)).toEqual([
    'removed',
    'absent',
    'absent',
  ])
  expect(() => unlink(folder)).toThrow(`delete ${folder}`)
})

test('a link does not replace, a rename does', () => {
  writeFileSync(`${folder}/new`, 'new')
  writeFileSync(`${folder}/old`, 'old')
  expect(() => link(`${folder}/new`, `${folder}/old`)).toThrow('EEXIST')
  link(`${folder}/new`, `${folder}/second`)
  expect(statSync(`${folder}/second`).ino).toBe(statSync(`${folder}/new`).ino)
  rename(`${folder}/new`, `${folder}/old`)
  expect([readFileSync(`${folder}/old`, 'utf8'), existsSync(`${folder}/new`)]).toEqual(['new', false])
})

test('a symbolic link is what was written, whether that is there or not', () => {
  symbolicLink('../nowhere/ü', `${folder}/symbolic`)
  expect(readLink(`${folder}/symbolic`)).toBe('../nowhere/ü')
  expect(lstatSync(`${folder}/symbolic`).isSymbolicLink()).toBe(true)
  expect(() => readLink(folder)).toThrow('EINVAL')
})

test('where a link leads, or by which number there is none', () => {
  symbolicLink('there', `${folder}/lead`)
  const asked = [`${folder}/lead`, folder, `${folder}/none`].map(linkTarget)
  expect(asked).toEqual(['there', errno.EINVAL, errno.ENOENT])
  expect(() => readLink(folder)).toThrow(`readlink ${folder}: Invalid argument (EINVAL)`)
})

test('a folder is deleted when it is empty', () => {
  const path = `${folder}/below`
  makeFolder(path, 0o750)
  expect(statSync(path).mode & 0o777).toBe(0o750)
  writeFileSync(`${path}/file`, '')
  expect(() => removeFolder(path)).toThrow('ENOTEMPTY')
  unlink(`${path}/file`)
  removeFolder(path)
  expect(existsSync(path)).toBe(false)
})

test('the entries of a folder come until there are no more', () => {
  const path = `${folder}/entries`
  makeFolder(path, 0o700)
  const descriptor = open(path, O_RDONLY | O_DIRECTORY)
  const buffer = new Uint8Array(4096)
  const filled = readFolderEntries(descriptor, buffer)
  expect(filled).toBe(48) // "." and "..": 19 bytes and the name, in eights
  expect(readFolderEntries(descriptor, buffer)).toBe(0)
  close(descriptor)
})

test('the time of the last change is set to the nanosecond, that of the last access stays', () => {
  const path = `${folder}/timed`
  writeFileSync(path, '')
  utimesSync(path, 1000, 2000)
  setModified(path, { seconds: 1_700_000_000, nanoseconds: 123_456_789 })
  const { atimeMs, mtimeNs } = statSync(path, { bigint: true })
  expect([atimeMs, mtimeNs]).toEqual([1_000_000n, 1_700_000_000_123_456_789n])
})

test('a path with a zero inside names nothing', () => {
  expect(() => unlink(`${folder}/a\0b`)).toThrow(RangeError)
})
