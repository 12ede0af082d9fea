/** Open files, and whatever else has a descriptor. */
import { afterAll, expect, test } from 'bun:test'
import {
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { errno } from '../../../chain/linux/libc/errno.ts'
import {
  changeMode,
  close,
  duplicate,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  lock,
  lockPlace,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  open,
  openIfPresent,
  openIn,
  openThroughPaths,
  readAll,
  waitReadable,
  writeAll,
} from '../../../chain/linux/libc/file.ts'

const folder = mkdtempSync('/run/libc-')
afterAll(() => rmSync(folder, { recursive: true }))

function refusal(body: () => unknown): unknown {
  try {
    return body()
  } catch (thrown) {
    return thrown
  }
}

test('what is written is read, also where it is more than a buffer', () => {
  const path = `${folder}/long`
  const bytes = new Uint8Array(100_000).map((_, at) => at % 251)
  const written = open(path, O_WRONLY | O_CREAT | O_EXCL, 0o640)
  writeAll(written, bytes, path)
  close(written)
  const read = open(path, O_RDONLY)
  expect(readAll(read, path)).toEqual(bytes)
  close(read)
  expect(statSync(path).mode & 0o777).toBe(0o640)
  expect(refusal(() => open(path, O_WRONLY | O_CREAT | O_EXCL))).toMatchObject({ errno: errno.EEXIST })
})

test.each([
  ['opened', () => open('/dev/null', O_RDONLY)],
  ['opened from a folder on', () => openIn(-1, '/dev/null', O_RDONLY)],
  ['opened to be looked at', () => openThroughPaths('/dev/null') ?? -1],
])('a descriptor that was %s is not handed to programs that are started', (_, opened) => {
  const descriptor = opened()
  const text = readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8')
  close(descriptor)
  expect(Number.parseInt(/flags:\s*(\d+)/.exec(text)?.[1] ?? '', 8) & 0o2000000).toBe(0o2000000) // O_CLOEXEC
})

test('what is not there is said without an exception, and so is what lies below a file; anything else is refused', () => {
  writeFileSync(`${folder}/file`, '')
  symlinkSync('file', `${folder}/link`)
  expect(openIfPresent(`${folder}/none`, O_RDONLY)).toBeUndefined()
  expect(openIfPresent(`${folder}/file/below`, O_RDONLY)).toBeUndefined()
  expect(refusal(() => openIfPresent(`${folder}/link`, O_RDONLY | O_NOFOLLOW))).toMatchObject({
    errno: errno.ELOOP,
  })
})

test('a path is opened from an open folder on', () => {
  const opened = open(folder, O_RDONLY | O_DIRECTORY)
  writeFileSync(`${folder}/within`, 'text')
  const descriptor = openIn(opened, 'within', O_RDONLY)
  expect(readAll(descriptor)).toEqual(Buffer.from('text'))
  expect(refusal(() => openIn(opened, 'nothing', O_RDONLY))).toMatchObject({ errno: errno.ENOENT })
  for (const each of [descriptor, opened]) close(each)
})

test('what links that are paths lead to is found, what only the kernel can follow is not', () => {
  symlinkSync('/proc/self', `${folder}/own`)
  symlinkSync('/dev/null', `${folder}/device`)
  const found = (path: string) => {
    const descriptor = openThroughPaths(path)
    if (descriptor === undefined) return undefined
    const target = readlinkSync(`/proc/self/fd/${descriptor}`)
    close(descriptor)
    return target
  }
  expect(found(`${folder}/device`)).toBe('/dev/null')
  expect(found(`${folder}/own`)).toBe(`/proc/${process.pid}`)
  expect([`${folder}/own/ns/net`, '/proc/self/root/etc', `${folder}/nothing`].map(found)).toEqual([
    undefined,
    undefined,
    undefined,
  ])
})

test('a duplicate stays when the first is closed', () => {
  const first = open(`${folder}/file`, O_RDWR | O_CREAT, 0o600)
  const second = duplicate(first)
  close(first)
  writeAll(second, Uint8Array.of(1))
  changeMode(second, 0o604, 'file')
  close(second)
  expect(statSync(`${folder}/file`)).toMatchObject({ size: 1, mode: 0o100604 })
  expect(refusal(() => close(second))).toMatchObject({
    errno: 9,
    message: expect.stringContaining(`close descriptor ${second}`),
  })
})

test('a pipe is waited for until it can be read, and no longer than asked', () => {
  const pipe = `${folder}/pipe`
  Bun.spawnSync(['mkfifo', pipe])
  const descriptor = open(pipe, O_RDWR | O_NONBLOCK)
  expect(waitReadable(descriptor, 0)).toBe(false)
  writeAll(descriptor, Uint8Array.of(1))
  expect(waitReadable(descriptor, 10_000)).toBe(true)
  close(descriptor)
})

test('a lock of a whole file is refused while another open file has it', () => {
  const [one, other] = [0, 1].map(() => open(`${folder}/lock`, O_RDWR | O_CREAT, 0o600)) as [number, number]
  expect([
    lock(one, LOCK_SH | LOCK_NB, 'lock'),
    lock(other, LOCK_SH | LOCK_NB, 'lock'),
    lock(other, LOCK_EX | LOCK_NB, 'lock'),
  ]).toEqual([true, true, false])
  close(one)
  expect(lock(other, LOCK_EX | LOCK_NB, 'lock')).toBe(true)
  close(other)
})

test('places of one file are locked apart from one another, far beyond its end', () => {
  const [one, other] = [0, 1].map(() => open(`${folder}/places`, O_RDWR | O_CREAT, 0o600)) as [number, number]
  const place = { high: 0x7fffffff, low: 0xfffffffe }
  expect([
    lockPlace(one, place, { type: 'exclusive', what: 'place' }),
    lockPlace(other, place, { type: 'shared', what: 'place' }),
    lockPlace(other, { ...place, low: 0xfffffffd }, { type: 'exclusive', what: 'place' }),
    lockPlace(other, { ...place, high: 0x7ffffffe }, { type: 'exclusive', what: 'place' }),
    lockPlace(one, place, { type: 'none', what: 'place' }),
    lockPlace(other, place, { type: 'shared', what: 'place' }),
  ]).toEqual([true, false, true, true, true, true])
  close(one)
  close(other)
  expect(statSync(`${folder}/places`).size).toBe(0)
})
