import { expect, test } from 'bun:test'
import { filesOnTheWay } from '../../tools/docs/architecture.ts'
import { jsonSchemaOf, withWords } from '../../tools/docs/schemas.ts'
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

test('a key of which nothing is said, and words about no key, end the making', async () => {
  const trunk = { type: 'array', items: { type: 'object', properties: { id: { type: 'integer' } } } }
  const schema = () => structuredClone({ type: 'object', properties: { vlan: { type: 'integer' }, trunk } })
  const words = { vlan: 'The VLAN.', 'trunk[].id': 'Another.' }
  expect(withWords(schema(), words).properties?.vlan?.description).toBe('The VLAN.')
  expect(() => withWords(schema(), { vlan: 'The VLAN.' })).toThrow('nothing is said about the key trunk[].id')
  expect(() => withWords(schema(), { ...words, gone: 'It was.' })).toThrow('there is no key gone')
})

test("zod's bounds of every integer are in no schema, the plugin's are", async () => {
  const { properties } = await jsonSchemaOf('macvlan')
  expect(properties?.bcqueuelen).toMatchObject({
    type: 'integer',
    minimum: 0,
    maximum: 4294967295,
    default: 0,
  })
  expect(properties?.mtu).toMatchObject({ maximum: 2147483647 })
  expect(properties?.mtu?.minimum).toBeUndefined()
})
