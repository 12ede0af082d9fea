import { afterAll, afterEach, describe, expect, test } from 'bun:test'
import { mkdtempSync, readdirSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { readFile } from '../../chain/linux/files.ts'
import {
  BusyError,
  holdName,
  openNames,
  patience,
  takeLock,
  unlessUnwritable,
} from '../../chain/linux/lock.ts'

const root = mkdtempSync(`${tmpdir()}/catena-lock-`)
afterAll(() => rmSync(root, { recursive: true }))
const folder = () => mkdtempSync(`${root}/case-`)
const modeOf = (path: string) => (statSync(path).mode & 0o7777).toString(8)

/** Another process that holds something until it is told to let go. */
async function locked(take: string) {
  const script = `import { holdName, openNames, takeLock } from '${import.meta.dir}/../../chain/linux/lock.ts'
    const held = await ${take}
    console.log('held')
    await Bun.stdin.text()
    held[Symbol.dispose]()`
  const file = `${folder()}/script.ts`
  writeFileSync(file, script)
  const child = Bun.spawn([process.execPath, file], { stdin: 'pipe', stdout: 'pipe' })
  await child.stdout.getReader().read()
  return {
    pid: child.pid,
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

const usual = patience.milliseconds
afterEach(() => {
  patience.milliseconds = usual
})

describe('a lock', () => {
  const holder = (path: string, shared = false) => locked(`takeLock('${path}', { shared: ${shared} })`)

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
    const script = `import { takeLock } from '${import.meta.dir}/../../chain/linux/lock.ts'
      import { readFile } from '${import.meta.dir}/../../chain/linux/files.ts'
      import { writeFileSync } from 'node:fs'
      for (let round = 0; round < 200; round++) {
        using _held = takeLock('${here}/lock')
        writeFileSync('${here}/count', String(Number(readFile('${here}/count') ?? 0) + 1))
      }`
    writeFileSync(`${here}/script.ts`, script)
    const children = Array.from({ length: 3 }, () => Bun.spawn([process.execPath, `${here}/script.ts`]))
    expect(await Promise.all(children.map(child => child.exited))).toEqual([0, 0, 0])
    expect(readFile(`${here}/count`)).toBe('600')
  })

  test('is let go when the body under it throws, and its file stays', () => {
    const path = `${folder()}/lock`
    const failing = () => {
      using _held = takeLock(path)
      throw new Error('mine')
    }
    expect(failing).toThrow('mine')
    expect([isFree(path), readFile(path), modeOf(path)]).toEqual([true, '', '600'])
  })

  test('that another process does not let go is given up in the end, and the error says who has it', async () => {
    const path = `${folder()}/lock`
    const other = await holder(path)
    patience.milliseconds = 60
    expect(() => takeLock(path)).toThrow(BusyError)
    const who = `process ${other.pid} \\(.*script\\.ts, running for \\d+ s\\)`
    expect(() => takeLock(path)).toThrow(new RegExp(`^${path} is locked by ${who}: gave up after 0 s$`))
    await other.release()
  })

  test('whose file is a pipe is not waited for', () => {
    const path = `${folder()}/pipe`
    Bun.spawnSync(['mkfifo', path])
    using held = takeLock(path, { tryOnly: true })
    expect(held).toBeDefined()
  })

  test('that cannot be made is unowned for who takes away', () => {
    const path = `${folder()}/full`
    Bun.spawnSync(['mkdir', path])
    Bun.spawnSync(['mount', '-t', 'tmpfs', '-o', 'nr_inodes=1', 'none', path])
    expect(() => takeLock(`${path}/lock`)).toThrow(/No space left on device/)
    expect(unlessUnwritable(() => takeLock(`${path}/lock`))).toBeUndefined()
    Bun.spawnSync(['umount', path])
  })
})

describe('a name', () => {
  const taking = (file: string, name: string, shared = false) =>
    `holdName('${name}', { shared: ${shared} }, openNames('${file}'))`

  /** Tells at once. */
  async function isFree(file: string, name: string, shared = false): Promise<boolean> {
    patience.milliseconds = -1
    try {
      using _held = await holdName(name, { shared }, openNames(file))
      return true
    } catch (thrown) {
      if (thrown instanceof BusyError) return false
      throw thrown
    } finally {
      patience.milliseconds = usual
    }
  }

  test('is held by one process at a time, whatever becomes of other names in the file', async () => {
    const file = `${folder()}/names`
    const other = await locked(taking(file, 'one'))
    expect([await isFree(file, 'one'), await isFree(file, 'two')]).toEqual([false, true])
    await other.release()
    expect(await isFree(file, 'one')).toBe(true)
  })

  test('is free again when the process that holds it is killed', async () => {
    const file = `${folder()}/names`
    const other = await locked(taking(file, 'one'))
    await other.kill()
    expect(await isFree(file, 'one')).toBe(true)
  })

  test('may be shared', async () => {
    const file = `${folder()}/names`
    const other = await locked(taking(file, 'one', true))
    expect([await isFree(file, 'one', true), await isFree(file, 'one')]).toEqual([true, false])
    await other.release()
  })

  test('is exclusive within a process too, and free when it is released', async () => {
    const file = `${folder()}/names`
    using names = await holdName('one', {}, openNames(file))
    expect(await isFree(file, 'one')).toBe(false)
    names.release('one')
    expect(await isFree(file, 'one')).toBe(true)
  })

  test('is waited for without stopping the thread: who holds it may be in the same process', async () => {
    const file = `${folder()}/names`
    const names = await holdName('one', {}, openNames(file))
    const order: string[] = []
    const waiting = holdName('one', {}, openNames(file)).then(held => {
      order.push('second')
      held[Symbol.dispose]()
    })
    setTimeout(() => {
      order.push('first')
      names[Symbol.dispose]()
    }, 30)
    await waiting
    expect(order).toEqual(['first', 'second'])
  })

  test('that another process does not let go is given up in the end, and the error says who has it', async () => {
    const file = `${folder()}/names`
    const other = await locked(taking(file, 'eth0 of container c1'))
    patience.milliseconds = 60
    const waiting = holdName('eth0 of container c1', {}, openNames(file))
    expect(await waiting.catch(thrown => thrown)).toMatchObject({
      isTemporary: true,
      message: expect.stringMatching(
        new RegExp(
          `^eth0 of container c1 is locked by process ${other.pid} \\(.*script\\.ts, running for \\d+ s\\)`,
        ),
      ),
    })
    await other.release()
  })

  test('is not waited for when the caller gives up', async () => {
    const file = `${folder()}/names`
    using _names = await holdName('one', {}, openNames(file))
    const controller = new AbortController()
    const waiting = holdName('one', { signal: controller.signal }, openNames(file))
    controller.abort(new Error('the pod is gone'))
    expect(await waiting.catch(thrown => thrown.message)).toBe('the pod is gone')
  })

  test('is no affair of children', async () => {
    const file = `${folder()}/names`
    using _names = await holdName('one', {}, openNames(file))
    const child = Bun.spawn(['bash', '-c', 'echo; read'], { stdin: 'pipe', stdout: 'pipe' })
    await child.stdout.getReader().read()
    const opened = readdirSync(`/proc/${child.pid}/fd`).map(name =>
      readlinkSync(`/proc/${child.pid}/fd/${name}`),
    )
    expect(opened).not.toContain(file)
    child.stdin.end()
    await child.exited
  })
})
