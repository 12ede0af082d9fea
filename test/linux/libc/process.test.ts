/** The process itself and others. */
import { afterAll, expect, test } from 'bun:test'
import { existsSync, mkdtempSync, readlinkSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { close, O_DIRECTORY, O_RDONLY, open } from '../../../chain/linux/libc/file.ts'
import {
  changeFolder,
  enterFolder,
  kill,
  mount,
  setFileMask,
  unmount,
} from '../../../chain/linux/libc/process.ts'

const folder = mkdtempSync('/run/libc-')
afterAll(() => rmSync(folder, { recursive: true }))

const room = `${import.meta.dir}/../../../chain/linux/libc`

test('a signal reaches a process that is there, and is not an error where none is', async () => {
  const child = Bun.spawn(['cat'], { stdin: 'pipe' })
  expect(kill(child.pid, 0)).toBe(true)
  expect(kill(child.pid, 9)).toBe(true)
  await child.exited
  expect(child.signalCode).toBe('SIGKILL')
  expect(kill(child.pid, 0)).toBe(false)
  expect(() => kill(process.pid, 1000)).toThrow(`send signal 1000 to ${process.pid}`)
})

test('a file system is mounted over a folder, and is gone when it is unmounted', () => {
  writeFileSync(`${folder}/below`, '')
  mount('none', folder, { type: 'tmpfs', flags: 0 })
  expect(existsSync(`${folder}/below`)).toBe(false)
  unmount(folder, 0)
  expect(existsSync(`${folder}/below`)).toBe(true)
  expect(() => unmount(folder, 0)).toThrow(`unmount ${folder}`)
})

test('relative paths begin in the folder that was entered, by its path or open', () => {
  const [before, place] = [open('.', O_RDONLY | O_DIRECTORY), readlinkSync('/proc/self/cwd')]
  changeFolder(folder)
  expect(readlinkSync('/proc/self/cwd')).toBe(folder)
  enterFolder(before, 'before')
  expect(readlinkSync('/proc/self/cwd')).toBe(place)
  close(before)
  expect(() => changeFolder(`${folder}/none`)).toThrow(`enter folder ${folder}/none`)
})

test('the mask is answered when another is set, and counts for new files', () => {
  const before = setFileMask(0o027)
  writeFileSync(`${folder}/masked`, '', { mode: 0o666 })
  expect(setFileMask(before)).toBe(0o027)
  expect(statSync(`${folder}/masked`).mode & 0o777).toBe(0o640)
})

test('the path that was executed is known, whatever argv[0] says; an exit at once has its status', () => {
  const name = `${folder}/renamed`
  symlinkSync(process.execPath, name)
  const script = `
    import { writeAll } from '${room}/file.ts'
    import { exitAtOnce, startedPath } from '${room}/process.ts'
    process.on('exit', () => writeAll(1, Buffer.from('late')))
    writeAll(1, Buffer.from(startedPath()))
    exitAtOnce(7)`
  const child = Bun.spawnSync([name, '-e', script], { argv0: 'other', stderr: 'inherit' })
  expect([child.stdout.toString(), child.exitCode]).toEqual([name, 7])
})
