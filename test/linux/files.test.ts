import { afterAll, describe, expect, test } from 'bun:test'
import {
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import {
  createExclusively,
  ensureFolder,
  folderOf,
  listFolder,
  readFile,
  readState,
  removeFile,
  writeAtomically,
  writeExisting,
  writeInPlace,
} from '../../chain/linux/files.ts'
import { SystemError } from '../../chain/linux/libc/errno.ts'
import { takeLock } from '../../chain/linux/lock.ts'

const root = mkdtempSync(`${tmpdir()}/catena-files-`)
afterAll(() => rmSync(root, { recursive: true }))
const folder = () => mkdtempSync(`${root}/case-`)
const modeOf = (path: string) => (statSync(path).mode & 0o7777).toString(8)

describe('reading', () => {
  test.each([
    ['nothing', ''],
    ['a line', 'one\n'],
    ['more than one buffer', 'é'.repeat(100_000)],
  ])('gives %s as it was written', (_, text) => {
    const path = `${folder()}/file`
    writeFileSync(path, text)
    expect(readFile(path)).toBe(text)
  })

  test('tells a missing file, or one below what is no folder, from one that may not be read', () => {
    const here = folder()
    writeFileSync(`${here}/file`, '')
    expect([readFile(`${here}/none`), readFile(`${here}/file/none`)]).toEqual([undefined, undefined])
    expect(() => readFile(here)).toThrow(SystemError) // a folder is no file
  })

  test('a path with a zero byte is refused rather than cut short', () => {
    expect(() => readFile('/etc/passwd\0.json')).toThrow(RangeError)
  })
})

describe('replacing a file', () => {
  test('leaves the new text, the wanted permissions whatever the umask, and nothing else', () => {
    const here = folder()
    const umask = process.umask(0o077)
    try {
      writeAtomically(`${here}/file`, 'old', { mode: 0o644 })
      writeAtomically(`${here}/file`, 'new', { mode: 0o644, durable: false })
    } finally {
      process.umask(umask)
    }
    expect({
      text: readFileSync(`${here}/file`, 'utf8'),
      mode: modeOf(`${here}/file`),
      all: readdirSync(here),
    }).toEqual({
      text: 'new',
      mode: '644',
      all: ['file'],
    })
  })

  test('whoever reads meanwhile sees the old text or the new one, never a part', async () => {
    const here = folder()
    const path = `${here}/file`
    writeAtomically(path, 'a'.repeat(50_000))
    const reader = Bun.spawn(
      [
        process.execPath,
        '-e',
        `const { readFileSync, existsSync } = require('node:fs')
         console.log('ready')
         let bad = 0, seen = 0
         while (!existsSync('${here}/stop')) {
           const text = readFileSync('${path}', 'utf8'); seen++
           if (!/^(a{50000}|b{50000})$/.test(text)) bad++
         }
         console.log(JSON.stringify({ bad, some: seen > 0 }))`,
      ],
      { stdout: 'pipe' },
    )
    const output = reader.stdout.getReader()
    await output.read() // it is ready
    for (let round = 0; round < 100; round++) {
      writeAtomically(path, (round % 2 ? 'a' : 'b').repeat(50_000), { durable: false })
    }
    writeFileSync(`${here}/stop`, '')
    const { value } = await output.read()
    expect(JSON.parse(Buffer.from(value ?? []).toString())).toEqual({ bad: 0, some: true })
    expect(await reader.exited).toBe(0)
  })

  test('that cannot be written leaves the old text and no temporary one', () => {
    const here = folder()
    mkdirSync(`${here}/taken/by`, { recursive: true })
    expect(() => writeAtomically(`${here}/taken`, 'text')).toThrow(SystemError) // a folder that holds something is not replaced
    expect(() => writeAtomically(`${here}/none/file`, 'text')).toThrow(`open ${here}/none/`)
    expect(readdirSync(here)).toEqual(['taken'])
  })

  test('is durable by the order of its system calls: written, synchronized, renamed, folder synchronized', () => {
    const here = folder()
    const script = `import { writeAtomically } from '${import.meta.dir}/../../chain/linux/files.ts'
      writeAtomically('${here}/file', 'text')`
    writeFileSync(`${here}/script.ts`, script)
    const traced = Bun.spawnSync([
      'strace',
      '-f',
      '-o',
      `${here}/trace`,
      '-e',
      'trace=write,fsync,fdatasync,rename,renameat,renameat2',
      process.execPath,
      `${here}/script.ts`,
    ])
    expect(traced.exitCode).toBe(0)
    const calls = readFileSync(`${here}/trace`, 'utf8')
      .split('\n')
      .flatMap(line => /(fsync|rename)\w*\(|write\(\d+, "text"/.exec(line)?.[0].replace(/\(.*/, '') ?? [])
    expect(calls).toEqual(['write', 'fsync', 'rename', 'fsync'])
  })
})

describe('creating a file', () => {
  test('says whether the name was free; what is there stays', () => {
    const here = folder()
    const outcomes = [
      createExclusively(`${here}/10.1.0.2`, 'one'),
      createExclusively(`${here}/10.1.0.2`, 'other'),
    ]
    expect(outcomes).toEqual(['created', 'exists'])
    expect({ text: readFile(`${here}/10.1.0.2`), all: readdirSync(here) }).toEqual({
      text: 'one',
      all: ['10.1.0.2'],
    })
  })

  test('of many processes at once succeeds for exactly one', async () => {
    const here = folder()
    const script = `import { createExclusively } from '${import.meta.dir}/../../chain/linux/files.ts'
      for (let name = 0; name < 50; name++) console.log(name, createExclusively('${here}/' + name, String(process.pid)))`
    writeFileSync(`${here}/script.ts`, script)
    const outputs = await Promise.all(
      Array.from({ length: 4 }, () => {
        const child = Bun.spawn([process.execPath, `${here}/script.ts`], { stdout: 'pipe' })
        return new Response(child.stdout).text()
      }),
    )
    const created = outputs.flatMap(output => output.split('\n').filter(line => line.endsWith('created')))
    expect(created.map(line => Number.parseInt(line, 10)).sort((one, other) => one - other)).toEqual(
      Array.from({ length: 50 }, (_, name) => name),
    )
  })
})

describe('a folder', () => {
  test('with thousands of names is listed whole', () => {
    const here = folder()
    const names = Array.from(
      { length: 5000 },
      (_, index) => `10.22.${index >> 8}.${index & 255}-${'x'.repeat(index % 40)}`,
    )
    for (const name of names) writeFileSync(`${here}/${name}`, '')
    expect(listFolder(here)?.sort()).toEqual(names.sort())
  })

  test('may be listed in part, and gives then no name that is not there', () => {
    const here = folder()
    for (let index = 0; index < 500; index++) writeFileSync(`${here}/${index}`, '')
    const some = listFolder(here, 10) ?? []
    expect(some.length).toBeGreaterThanOrEqual(10)
    expect(some.every(name => Number(name) < 500)).toBe(true)
  })

  test('shows hidden names and those beyond ASCII, and neither itself nor the one above', () => {
    const here = folder()
    for (const name of ['.hidden', 'käse', 'x y']) writeFileSync(`${here}/${name}`, '')
    expect(listFolder(here)?.sort()).toEqual(['.hidden', 'käse', 'x y'].sort())
  })

  test('that is empty is told from one that is not there', () => {
    const here = folder()
    expect([listFolder(here), listFolder(`${here}/none`)]).toEqual([[], undefined])
  })

  test('is made with those above it; one that exists, also behind a link, is fine', () => {
    const here = folder()
    ensureFolder(`${here}/a/b/c`, 0o700)
    ensureFolder(`${here}/a/b/c`)
    symlinkSync(`${here}/a`, `${here}/link`)
    ensureFolder(`${here}/link/b/d`)
    expect([modeOf(`${here}/a/b/c`), readdirSync(`${here}/a/b`).sort()]).toEqual(['700', ['c', 'd']])
  })

  test.each([
    ['/a/b', '/a'],
    ['/a', '/'],
    ['a', '.'],
    ['a/b', 'a'],
  ])('that holds %s is %s', (path, folder) => expect(folderOf(path)).toBe(folder))
})

test('deleting a file twice is a success twice', () => {
  const here = folder()
  writeFileSync(`${here}/file`, '')
  expect([removeFile(`${here}/file`), removeFile(`${here}/file`), removeFile(`${here}/file/x`)]).toEqual([
    'removed',
    'absent',
    'absent',
  ])
})

test('what is in the place of a file goes too, but no folder that holds something, nor what a link leads to', () => {
  const here = folder()
  writeFileSync(`${here}/file`, 'kept')
  symlinkSync('file', `${here}/link`)
  mkdirSync(`${here}/empty`)
  expect([removeFile(`${here}/link`), removeFile(`${here}/empty`), removeFile(here)]).toEqual([
    'removed',
    'removed',
    'absent',
  ])
  expect(readFile(`${here}/file`)).toBe('kept')
})

/** What somebody may have put where a file of ours is to be. */
const meddled: Record<string, (path: string) => void> = {
  'a folder': path => mkdirSync(path),
  'a pipe': path => void Bun.spawnSync(['mkfifo', path]),
  'a link to nothing': path => symlinkSync('none', path),
  'a link to itself': path => symlinkSync(path, path),
  'a link to a file': path => symlinkSync('other', path),
  'another name of a file': path => linkSync(path.replace('state', 'other'), path),
  'a socket': path => void Bun.listen({ unix: path, socket: { data() {} } }).unref(),
}

describe.each(Object.entries(meddled))('where %s is', (_, put) => {
  function prepare(): string {
    const here = folder()
    writeFileSync(`${here}/other`, 'their text')
    put(`${here}/state`)
    return here
  }

  test('state reads as torn, or as what has another name', () => {
    expect(readState(`${prepare()}/state`)).toBeOneOf(['', 'their text'])
  })

  test.each([
    ['in place', writeInPlace],
    ['atomically', writeAtomically],
  ] as const)('state is written %s beside it, not into it', (_, write) => {
    const here = prepare()
    write(`${here}/state`, 'ours')
    expect(readState(`${here}/state`)).toBe('ours')
    expect(readFileSync(`${here}/other`, 'utf8')).toBe('their text')
    expect(readdirSync(here).sort()).toEqual(['other', 'state'])
  })

  test('a lock is taken, by one at a time, and leads to nothing else', () => {
    const here = prepare()
    using held = takeLock(`${here}/state`)
    expect(held.descriptor).toBeGreaterThan(2)
    expect(takeLock(`${here}/state`, { tryOnly: true })).toBeUndefined()
    expect(readFileSync(`${here}/other`, 'utf8')).toBe('their text')
    expect(readdirSync(here).sort()).toEqual(['other', 'state'])
  })
})

test('a file of the kernel or of an administrator may be a link, and must be a file', () => {
  const here = folder()
  writeFileSync(`${here}/file`, 'text')
  symlinkSync('file', `${here}/link`)
  Bun.spawnSync(['mkfifo', `${here}/pipe`])
  expect(readFile(`${here}/link`)).toBe('text')
  expect(readFile('/dev/null')).toBe('')
  expect(() => readFile(`${here}/pipe`)).toThrow(`read ${here}/pipe, which is not a file`)
  expect(() => readFile('/dev/zero')).toThrow('which is not a file')
})

test('a file that must exist is written in place, and not made', () => {
  const here = folder()
  expect(() => writeExisting(`${here}/file`, 'x')).toThrow(
    `open ${here}/file: No such file or directory (ENOENT)`,
  )
  writeFileSync(`${here}/file`, 'old')
  chmodSync(`${here}/file`, 0o640)
  writeExisting(`${here}/file`, 'new')
  expect([readFile(`${here}/file`), modeOf(`${here}/file`)]).toEqual(['new', '640'])
})
