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

test('an item that goes is blanked and off the table; the others stay where they are', () => {
  const file = packageOf({ 'de.res': 'German', 'en.res': 'English', 'fr.res': 'French', 'root.res': 'all' })
  const before = Buffer.from(file)
  expect(trimLocales(file)).toBe('GermanFrench'.length)
  const text = file.toString('latin1')
  expect(text).toContain(`${'\0'.repeat(6)}English${'\0'.repeat(6)}allbehind`)
  expect(file.length).toBe(before.length)
  const table = 'before'.length + 32
  expect([0, 4, 8, 12, 16].map(at => file.readUInt32LE(table + at))).toEqual([
    2,
    ...[12, 16, 28, 32].map(at => before.readUInt32LE(table + at)),
  ])
  expect(trimLocales(file)).toBe(0)
})

test('a program without the package, or with two, is refused', () => {
  const one = packageOf({ 'en.res': 'English' })
  expect(() => trimLocales(Buffer.from('none'))).toThrow('0 times')
  expect(() => trimLocales(Buffer.concat([one, one]))).toThrow('2 times')
})
