import { afterAll, describe, expect, test } from 'bun:test'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { encodeText } from '../../chain/linux/bytes.ts'
import { errno } from '../../chain/linux/libc/errno.ts'
import { close, O_RDONLY, open } from '../../chain/linux/libc/file.ts'
import { link, rename, symbolicLink } from '../../chain/linux/libc/folder.ts'

const ROUNDS = process.env.CATENA_LONG ? 500 : 20
const folder = mkdtempSync('/run/collected-')
afterAll(() => rmSync(folder, { recursive: true }))

/** Everything that is not referred to is collected, and its memory given to others, while this text is made into bytes. */
function collecting(text: string): string {
  const collect = () => {
    Bun.gc(true)
    for (let each = 0; each < 2000; each++) encodeText('X'.repeat(20 + (each % 100)))
    return false
  }
  return { includes: collect, toString: () => text } as unknown as string
}

const paths = (round: number) =>
  [`${folder}/from-${'a'.repeat(round)}`, `${folder}/to-${'b'.repeat(round)}`] as const

describe('what a call of the C library points to stays until the call is over, whatever is collected meanwhile:', () => {
  test.each([
    { name: 'rename', act: rename, look: (_from: string, to: string) => readFileSync(to, 'utf8') },
    { name: 'link', act: link, look: (_from: string, to: string) => readFileSync(to, 'utf8') },
    {
      name: 'symbolicLink',
      act: symbolicLink,
      look: (_from: string, to: string) => readFileSync(to, 'utf8'),
    },
  ])('$name', ({ act, look }) => {
    for (let round = 1; round <= ROUNDS; round++) {
      const [from, to] = paths(round)
      writeFileSync(from, `round ${round}`)
      act(from, collecting(to))
      expect(look(from, to)).toBe(`round ${round}`)
      for (const path of readdirSync(folder)) rmSync(`${folder}/${path}`)
    }
  })
})

test('an error has the number of the call that failed, whatever is called while its words are found', () => {
  const path = `${folder}/none`
  const failing = () => {
    try {
      close(-1) // EBADF
    } catch {}
    return path
  }
  const disturbing = { includes: () => false, toString: failing } as unknown as string
  for (const act of [
    () => open(disturbing, O_RDONLY),
    () => rename(disturbing, disturbing),
    () => link(disturbing, disturbing),
  ]) {
    let thrown: unknown
    try {
      act()
    } catch (caught) {
      thrown = caught
    }
    expect(thrown).toMatchObject({ errno: errno.ENOENT })
  }
})
