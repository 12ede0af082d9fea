import { expect, test } from 'bun:test'
import { filesOnTheWay } from '../../tools/docs/architecture.ts'
import { generatedFiles } from '../../tools/docs.ts'

const root = `${import.meta.dir}/../..`

const files = await generatedFiles()

test.each(Object.keys(files))('%s is what `bun tools/docs.ts` makes', async path => {
  expect(await Bun.file(`${root}/${path}`).text()).toBe(files[path] ?? '')
})

test('no page is left of a plugin that is no more', () => {
  const pages = [...new Bun.Glob('docs/plugins/*').scanSync({ cwd: root })]
  expect(pages.filter(path => !Object.hasOwn(files, path))).toEqual([])
})

test('a stranger follows a host port to the kernel in five files at most', () => {
  expect(filesOnTheWay().length).toBeLessThanOrEqual(5)
})
