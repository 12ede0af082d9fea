/** What the build refuses: a musl that its edits do not fit, a program and a loader that do not belong together. */
import { expect, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import { edited, edits } from '../../tools/static/edits.ts'
import { PT, type Segment, segmentsOf, setSegments } from '../../tools/static/elf.ts'
import { embed } from '../../tools/static/embed.ts'
import { ourExecutable } from '../fixtures/plugin.ts'

const root = `${import.meta.dir}/../..`
const dlstart = ['hidden void _dlstart_c(size_t *sp, size_t *dynv)', '{', '\tint argc = *sp;', '}']

test('an edit goes before its line, wherever that is', () => {
  expect(edited('ldso/dlstart.c', dlstart.join('\n')).split('\n')).toEqual([
    'hidden void __embedded_start(size_t *);',
    dlstart[0] ?? '',
    '{',
    '__embedded_start(sp);',
    '\tint argc = *sp;',
    '}',
  ])
  expect(edited('ldso/other.c', 'as it was')).toBe('as it was')
})

test.each([
  { how: 'has lost', text: dlstart.slice(0, 2), says: 'not at all' },
  { how: 'has twice', text: [...dlstart, '  int argc = *sp;'], says: 'more than once' },
])('a musl that $how a line is refused by name of file and line', ({ text, says }) => {
  expect(() => edited('ldso/dlstart.c', text.join('\n'))).toThrow(`"int argc = *sp;" ${says}`)
})

test('what is not TypeScript in the executable stays below 400 lines, and what asks the service below 200', () => {
  const files = [...new Bun.Glob('tools/static/*.{c,cc,h}').scanSync({ cwd: root })]
  const lines = new Map(files.map(file => [file, readFileSync(`${root}/${file}`, 'utf8').split('\n').length]))
  const asking = lines.get('tools/static/warm.c') ?? 0
  expect(asking).toBeWithin(20, 200)
  expect(files.length).toBeGreaterThan(3)
  expect([...lines.values()].reduce((sum, each) => sum + each, edits.length) - asking).toBeLessThan(400)
})

test('code and constants lie so that a page of 2 MB of the file is one of memory', () => {
  const header = Buffer.from(readFileSync(ourExecutable('catena')).subarray(0, 4096))
  const large = segmentsOf(header).filter(
    ({ type, flags, fileSize }) => type === 1 && (flags & 2) === 0 && fileSize > 4 << 20,
  )
  expect(large).toHaveLength(3) // constants are two, around what is left out of ICU
  for (const { offset, address } of large) expect((address - offset) % (2 << 20)).toBe(0)
})

test('what the program does not need is neither in the file nor in memory, and the segments around it stay at their addresses', () => {
  const [page, huge] = [65536, 2 << 20]
  const segment = (type: number, flags: number, offset: number, size: number): Segment => {
    const address = 0x200000 + offset
    return { type, flags, offset, address, fileSize: size, memorySize: size, alignment: page }
  }
  const file = (segments: Segment[], length: number) => {
    const made = Buffer.alloc(length, 1)
    made.writeUInt16LE(2, 16) // ET_EXEC
    made.writeUInt16LE(62, 18) // EM_X86_64
    made.writeBigUInt64LE(64n, 32)
    made.writeUInt16LE(segments.length, 56)
    setSegments(made, segments)
    return made
  }
  const [whole, hole] = [6 * huge, { offset: page - 7, length: 3 * huge + 9 }]
  const notes = [segment(PT.PHDR, 4, 64, 280), segment(PT.INTERP, 4, 512, 8), segment(PT.NOTE, 4, 520, 8)]
  const program = file(
    [...notes, segment(PT.LOAD, 4, 0, whole), segment(PT.LOAD, 6, whole, page)],
    whole + page,
  )
  program.fill(0, hole.offset, hole.offset + hole.length)
  program.fill(2, hole.offset + hole.length)
  const loaders = [segment(PT.LOAD, 5, 0, page), segment(PT.LOAD, 6, page, page)]
  const loader = file(
    loaders.map(each => ({ ...each, address: each.offset })),
    2 * page,
  )
  const embedded = embed(program, loader, hole)
  const loaded = segmentsOf(embedded).filter(({ type }) => type === PT.LOAD)
  expect(loaded.slice(0, 3).map(({ address, fileSize }) => [address, fileSize])).toEqual([
    [0x200000, page],
    [0x200000 + page + 3 * huge, whole - page - 3 * huge],
    [0x200000 + whole, page],
  ])
  for (const { address, offset, flags } of loaded.slice(0, 3))
    expect((address - offset) % (flags === 4 ? huge : page)).toBe(0)
  const [, second] = loaded
  expect(
    embedded
      .subarray(second?.offset ?? 0)
      .subarray(2, huge) // behind the hole's last two bytes, which share a page with what stays
      .every(byte => byte === 2),
  ).toBe(true)
  expect(embedded.length).toBeLessThan(program.length + loader.length - 2 * huge)
  expect(segmentsOf(embed(program, loader)).filter(({ type }) => type === PT.LOAD)).toHaveLength(4)
})

test('a program that is for another machine than the loader, or has no fixed addresses, is refused', () => {
  const program = Buffer.alloc(64)
  program.writeUInt16LE(2, 16) // ET_EXEC
  program.writeUInt16LE(62, 18) // EM_X86_64
  const loader = Buffer.from(program)
  loader.writeUInt16LE(183, 18) // EM_AARCH64
  expect(() => embed(program, loader)).toThrow('another machine')
  program.writeUInt16LE(3, 16) // ET_DYN
  expect(() => embed(program, program)).toThrow('no fixed addresses')
})

test.each([
  { words: ['--target', 'mips'], says: 'no target mips: there are x64, x64-baseline, arm64' },
  { words: ['--targets'], says: "Unknown option '--targets'" },
])('the build refuses $words in a sentence', ({ words, says }) => {
  const { exitCode, stdout, stderr } = Bun.spawnSync(['bun', `${root}/tools/build.ts`, ...words])
  expect({ exitCode, stdout: stdout.toString() }).toEqual({ exitCode: 1, stdout: '' })
  expect(stderr.toString()).toStartWith('build: ')
  expect(stderr.toString()).toContain(says)
  expect(stderr.toString()).not.toMatch(/^\s+at /m)
})
