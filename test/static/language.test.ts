/** What is taken out of ICU's data is what other languages need, and nothing else. */
import { expect, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { compile } from '../../tools/static/compile.ts'
import { isKept, trimLocales } from '../../tools/static/icu.ts'
import { targets, thisMachine } from '../../tools/static/targets.ts'

test('a program has Unicode, English, time zones and domain names whatever the language of its caller; others are the root of all', () => {
  const folder = mkdtempSync('/run/language-')
  try {
    const ask = (words: string[], language: string) => {
      const { exitCode, stdout, stderr } = Bun.spawnSync(words, {
        env: { LC_ALL: language, TZ: 'Europe/Paris' },
      })
      expect({ exitCode, stderr: `${stderr}` }).toEqual({ exitCode: 0, stderr: '' })
      return JSON.parse(stdout.toString())
    }
    const entry = `${import.meta.dir}/language.ts`
    compile(entry, `${folder}/language`, targets[thisMachine])
    const whole = ask([process.execPath, entry], 'C.UTF-8')
    const others = { sortedBy: ['a', 'ä', 'z'], numbered: ['1,234,567.5', '1234567.5'] }
    expect(whole).not.toMatchObject(others)
    expect(ask([`${folder}/language`], 'C.UTF-8')).toEqual({ ...whole, ...others })
    expect(ask([`${folder}/language`], 'ja_JP.UTF-8')).toMatchObject({
      local: whole.local,
      listed: whole.listed,
    })
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test.each([
  'root.res',
  'en_US.res',
  'pool.res',
  'supplementalData.res',
  'zoneinfo64.res',
  'uts46.nrm',
  'coll/root.res',
  'coll/ucadata.icu',
  'brkitr/char.brk',
  'lang/en.res',
])('%s stays', name => expect(isKept(name)).toBe(true))

test.each([
  'de.res',
  'zh_Hant_TW.res',
  'fil.res',
  'coll/zh.res',
  'brkitr/cjdict.dict',
  'unit/en_GB.res',
  'lang/pa_Arab.res',
])('%s goes', name => expect(isKept(name)).toBe(false))

/** ICU's format: a header, the number of items, their offsets, their names, themselves. */
function packageOf(items: Record<string, string>): Buffer {
  const names = Object.keys(items).map(name => `icudt78l/${name}\0`)
  const table = Buffer.alloc(4 + 8 * names.length)
  table.writeUInt32LE(names.length)
  let [nameAt, dataAt] = [table.length, table.length + names.join('').length]
  Object.values(items).forEach((text, index) => {
    table.writeUInt32LE(nameAt, 4 + 8 * index)
    table.writeUInt32LE(dataAt, 8 + 8 * index)
    nameAt += names[index]?.length ?? 0
    dataAt += text.length
  })
  const header = Buffer.from(
    '\x20\x00\xda\x27\x14\x00\x00\x00\x00\x00\x02\x00CmnD'.padEnd(32, '\0'),
    'latin1',
  )
  return Buffer.concat([
    Buffer.from('before'),
    header,
    table,
    Buffer.from([...names, ...Object.values(items), 'behind'].join('')),
  ])
}

test('items that go leave one hole behind those that stay, which keep their bytes and their alignment; the last one stays in its place', () => {
  const texts = {
    'de.res': 'German',
    'en.res': 'English',
    'fr.res': 'French'.repeat(90),
    'pool.res': 'pool',
    'root.res': 'all',
  }
  const file = packageOf(texts)
  const length = file.length
  const table = 'before'.length + 32
  const itemsOf = () => {
    const numbers = Array.from({ length: file.readUInt32LE(table) }, (_, index) =>
      [4, 8].map(at => file.readUInt32LE(table + at + 8 * index)),
    )
    return numbers.map(([name = 0, offset = 0]) => ({
      name: file.toString('latin1', table + name, file.indexOf(0, table + name)),
      offset,
      text: file.toString('latin1', table + offset, table + offset + 7),
    }))
  }
  const before = Object.fromEntries(itemsOf().map(({ name, ...item }) => [name, item]))
  const hole = trimLocales(file)
  const after = itemsOf()
  expect(after.map(({ name }) => name)).toEqual(['en', 'pool', 'root'].map(name => `icudt78l/${name}.res`))
  for (const { name, offset, text } of after) {
    expect({ name, rest: offset % 16 }).toEqual({ name, rest: (before[name]?.offset ?? 0) % 16 })
    const own = texts[name.slice('icudt78l/'.length) as keyof typeof texts]
    expect(text).toStartWith(own)
  }
  expect(after[2]?.offset).toBe(before['icudt78l/root.res']?.offset ?? 0)
  expect(hole.offset + hole.length).toBe(table + (after[2]?.offset ?? 0))
  expect(hole.length).toBeGreaterThan(500)
  expect(file.subarray(hole.offset, hole.offset + hole.length).every(byte => byte === 0)).toBe(true)
  expect({ length: file.length, end: file.toString('latin1').slice(-6) }).toEqual({ length, end: 'behind' })
})

test('a program without the package, or with two, is refused', () => {
  const one = packageOf({ 'en.res': 'English' })
  expect(() => trimLocales(Buffer.from('none'))).toThrow('0 times')
  expect(() => trimLocales(Buffer.concat([one, one]))).toThrow('2 times')
})
