import { beforeAll, describe, expect, test } from 'bun:test'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import { conflistOf } from '../../tools/docs/markdown.ts'
import { pages } from '../../tools/docs/pages.ts'
import { schemaFiles, types } from '../../tools/docs/schemas.ts'
import { ours } from '../fixtures/plugin.ts'

const root = `${import.meta.dir}/../..`

let validate: ValidateFunction

beforeAll(async () => {
  const file = Bun.file(`${ours}/schemas/conflist.json`)
  validate = new Ajv2020({ strictTypes: false }).compile(await file.json())
})

/** What an editor would underline: places and sentences. */
function faultsOf(list: unknown): string[] {
  if (validate(list)) return []
  const inner = (validate.errors ?? []).filter(({ keyword }) => keyword !== 'if')
  return inner.map(({ instancePath, message }) => `${instancePath} ${message}`)
}

const shipped = ['fixtures/conflists', 'demo'].flatMap(folder => [
  ...new Bun.Glob(`test/${folder}/*.conflist`).scanSync({ cwd: root }),
])

test.each(shipped)('%s passes', async path => {
  expect(faultsOf(await Bun.file(`${root}/${path}`).json())).toEqual([])
})

test('what distributions ship is among what is tried', () => {
  expect(shipped.length).toBeGreaterThanOrEqual(9)
})

test.each(Object.keys(pages))('the example of the page on %s passes', type => {
  const example = pages[type]?.example
  if (!example) throw new Error(`no example of ${type}`)
  expect(faultsOf(conflistOf(type, example))).toEqual([])
})

const list = (...plugins: object[]) => ({ cniVersion: '1.1.0', name: 'net', plugins })
const bridge = (more: object) => list({ type: 'bridge', ...more })

describe('what a plugin refuses is underlined where it stands', () => {
  test.each([
    ['text for a number', bridge({ vlan: '7' }), '/plugins/0/vlan must be integer'],
    ['a number that is too large', bridge({ vlan: 5000 }), '/plugins/0/vlan must be <= 4094'],
    [
      'a backend that is none',
      bridge({ ipMasqBackend: 'pf' }),
      '/plugins/0/ipMasqBackend must be equal to one of the allowed values',
    ],
    [
      'a key of the IPAM plugin',
      bridge({ ipam: { type: 'host-local', ranges: [{ subnet: '10.1.0.0/16' }] } }),
      '/plugins/0/ipam/ranges/0 must be array',
    ],
    [
      'what an entry must have',
      bridge({ ipam: { type: 'static', routes: [{}] } }),
      "/plugins/0/ipam/routes/0 must have required property 'dst'",
    ],
    [
      'the second plugin',
      list({ type: 'loopback' }, { type: 'tuning', sysctl: { 'net.core.somaxconn': 512 } }),
      '/plugins/1/sysctl/net.core.somaxconn must be string',
    ],
    ['a plugin without type', list({ bridge: 'cni0' }), "/plugins/0 must have required property 'type'"],
  ])('%s', (_, given, fault) => {
    expect(faultsOf(given)).toEqual([fault])
  })
})

test('a plugin that is not ours passes, and so does an unknown key', () => {
  expect(faultsOf(list({ type: 'calico', anything: 7 }, { type: 'portmap', more: true }))).toEqual([])
  expect(faultsOf(bridge({ ipam: { type: 'whereabouts', range: 7 } }))).toEqual([])
})

test('the build has written what the schemas say, a file for each plugin, and each is a schema', async () => {
  const files = await schemaFiles()
  expect(Object.keys(files).toSorted()).toEqual(
    ['conflist.json', ...types.map(type => `${type}.json`)].toSorted(),
  )
  for (const [name, schema] of Object.entries(files)) {
    expect(await Bun.file(`${ours}/schemas/${name}`).json()).toEqual(JSON.parse(JSON.stringify(schema)))
    expect(schema.$schema).toBe('https://json-schema.org/draft/2020-12/schema')
    new Ajv2020({ strictTypes: false }).compile(schema)
  }
})
