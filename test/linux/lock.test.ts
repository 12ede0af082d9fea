import { afterAll, describe, expect, test } from 'bun:test'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { readFile } from '../../chain/linux/files.ts'
import { takeLock, withLock } from '../../chain/linux/lock.ts'

const root = mkdtempSync(`${tmpdir()}/catena-lock-`)
afterAll(() => rmSync(root, { recursive: true }))
const folder = () => mkdtempSync(`${root}/case-`)
const modeOf = (path: string) => (statSync(path).mode & 0o7777).toString(8)

describe('a lock', () => {
  /** Another process that holds the lock until it is told to let go. */
  async function holder(path: string, shared = false) {
    const script = `import { takeLock } from '${import.meta.dir}/../../chain/linux/lock.ts'
      const held = takeLock('${path}', { shared: ${shared} })
      console.log('held')
      await Bun.stdin.text()
      held[Symbol.dispose]()`
    const file = `${folder()}/script.ts`
    writeFileSync(file, script)
    const child = Bun.spawn([process.execPath, file], { stdin: 'pipe', stdout: 'pipe' })
    await child.stdout.getReader().read()
    return {
      release: () => {
        child.stdin.end()
        return child.exited
      },
      kill: () => {
        child.kill('SIGKILL')
        return child.exited
      },
    }
  }

  const isFree = (path: string, shared = false) => {
    using held = takeLock(path, { tryOnly: true, shared })
    return held !== undefined
  }

  test('is held by one process at a time, and free when that one lets go', async () => {
    const path = `${folder()}/lock`
    const other = await holder(path)
    expect(isFree(path)).toBe(false)
    await other.release()
    expect(isFree(path)).toBe(true)
  })

  test('is free again when the process that holds it is killed', async () => {
    const path = `${folder()}/lock`
    const other = await holder(path)
    await other.kill()
    expect(isFree(path)).toBe(true)
  })

  test('may be shared by those who only read', async () => {
    const path = `${folder()}/lock`
    const other = await holder(path, true)
    expect([isFree(path, true), isFree(path)]).toEqual([true, false])
    await other.release()
  })

  test('is waited for: what is counted under it is counted once', async () => {
    const here = folder()
    const script = `import { withLock } from '${import.meta.dir}/../../chain/linux/lock.ts'
      import { readFile } from '${import.meta.dir}/../../chain/linux/files.ts'
      import { writeFileSync } from 'node:fs'
      for (let round = 0; round < 200; round++) withLock('${here}/lock', () =>
        writeFileSync('${here}/count', String(Number(readFile('${here}/count') ?? 0) + 1)))`
    writeFileSync(`${here}/script.ts`, script)
    const children = Array.from({ length: 3 }, () => Bun.spawn([process.execPath, `${here}/script.ts`]))
    expect(await Promise.all(children.map(child => child.exited))).toEqual([0, 0, 0])
    expect(readFile(`${here}/count`)).toBe('600')
  })

  test('is let go when the body under it throws, and its file stays', () => {
    const path = `${folder()}/lock`
    expect(() =>
      withLock(path, () => {
        throw new Error('mine')
      }),
    ).toThrow('mine')
    expect([isFree(path), readFile(path), modeOf(path)]).toEqual([true, '', '600'])
  })
})
