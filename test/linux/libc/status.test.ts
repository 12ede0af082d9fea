/** What is known of a file without opening it. */
import { afterAll, expect, test } from 'bun:test'
import { mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { close, O_DIRECTORY, O_RDONLY, open } from '../../../chain/linux/libc/file.ts'
import {
  FileStatus,
  fileSystemType,
  fileSystemTypeOf,
  roomIn,
  status,
  statusFrom,
  statusOf,
} from '../../../chain/linux/libc/status.ts'

const folder = mkdtempSync('/run/libc-')
afterAll(() => rmSync(folder, { recursive: true }))

test('a status is what others see', () => {
  const path = `${folder}/file`
  writeFileSync(path, 'four', { mode: 0o640 })
  const theirs = statSync(path, { bigint: true })
  const ours = status(path)
  expect(ours).toMatchObject({
    kind: 'file',
    size: 4,
    mode: Number(theirs.mode),
    inode: `${theirs.ino}`,
  })
  expect(ours?.modified).toBe(Number(theirs.mtimeNs / 1_000_000n))
  const [, low = '', nanoseconds = ''] = ours?.modifiedExactly.split('-') ?? []
  expect(BigInt(`0x${low}`) * 1_000_000_000n + BigInt(`0x${nanoseconds}`)).toBe(theirs.mtimeNs)
})

test('a link is followed unless it is meant itself; what is not there has no status', () => {
  symlinkSync('nowhere', `${folder}/link`)
  expect(status(`${folder}/link`)).toBeUndefined()
  expect(status(`${folder}/link`, { follow: false })?.kind).toBe('other')
  expect(status(`${folder}/file/below`)).toBeUndefined()
})

test('a status is found from an open folder on, and its inode is exact beyond 32 bits', () => {
  const descriptor = open('/proc/self', O_RDONLY | O_DIRECTORY)
  const [found, same] = [statusFrom(descriptor, 'ns/net'), status('/proc/self/ns/net')]
  expect(same && found?.isOf(same)).toBe(true)
  expect(found && status('/proc/self/ns/mnt')?.isOf(found)).toBe(false)
  expect(statusFrom(descriptor, 'nothing')).toBeUndefined()
  expect(fileSystemTypeOf(descriptor)).toBe(0x9fa0) // PROC_SUPER_MAGIC
  close(descriptor)
  const words = new Uint32Array(64)
  words.set([0xfffffffe, 0x80000001], 8)
  expect(new FileStatus(words).inode).toBe(String(2n ** 63n + 2n ** 32n + 0xfffffffen))
})

test('a time before 1970 is one', () => {
  const path = `${folder}/old`
  Bun.spawnSync(['touch', '-d', '@-2', path])
  expect(status(path)?.modified).toBe(-2000)
})

test('kinds are told apart, by path and by descriptor, and the same file is known again', () => {
  expect([folder, '/dev/null', '/proc/self/ns/net'].map(path => status(path)?.kind)).toEqual([
    'folder',
    'other',
    'file',
  ])
  const descriptor = open('/proc/self/ns/net', O_RDONLY)
  const [one, other] = [statusOf(descriptor), status('/proc/self/ns/net')]
  close(descriptor)
  expect([one.device, one.inode]).toEqual([other?.device as string, other?.inode as string])
  expect(() => statusOf(descriptor)).toThrow(`stat descriptor ${descriptor}`)
})

test('file systems are told by their magic numbers, and say what room they have', () => {
  expect([fileSystemType('/proc'), fileSystemType(folder)]).toEqual([0x9fa0, 0x01021994]) // PROC_, TMPFS_MAGIC
  expect(roomIn(folder)).toMatchObject({ isReadOnly: false })
  expect(roomIn(folder).bytes).toBeGreaterThan(0)
})
