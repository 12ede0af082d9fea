/** Network configurations from disk: what libcni finds, ours finds. */
import { expect, test } from 'bun:test'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { loadNetworkList, parseNetwork, parseNetworkList } from '../../chain/runtime/network.ts'

function folderWith(files: Record<string, object | string>) {
  const path = mkdtempSync('/run/configurations-')
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(`${path}/${name}`), { recursive: true })
    writeFileSync(`${path}/${name}`, typeof content === 'string' ? content : JSON.stringify(content))
  }
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) }
}

const plugin = (type: string) => ({ type })
const list = (name: string, ...types: string[]) => ({ cniVersion: '1.1.0', name, plugins: types.map(plugin) })

test.each([
  {
    name: 'of several files with the same network the first by name wins',
    files: { '20.conflist': list('net', 'second'), '10.conflist': list('net', 'first') },
    types: ['first'],
  },
  {
    name: 'a .conflist is taken before a .conf, whatever their names',
    files: { '10.conf': { name: 'net', type: 'single' }, '99.conflist': list('net', 'listed') },
    types: ['listed'],
  },
  {
    name: 'a .conf is a list of one',
    files: { '10.conf': { cniVersion: '1.0.0', name: 'net', type: 'single' } },
    types: ['single'],
  },
  {
    name: 'a .json is taken as a .conf',
    files: { '10.json': { name: 'net', type: 'single' } },
    types: ['single'],
  },
  {
    name: 'a .conf without a name is another network, not an error',
    files: { '10.conf': { type: 'nameless' }, '20.conf': { name: 'net', type: 'single' } },
    types: ['single'],
  },
  {
    name: 'plugins in the folder of the network come after those of the list, in the order of their names',
    files: {
      'a.conflist': list('net', 'inline'),
      'net/20.conf': plugin('later'),
      'net/10.conf': plugin('sooner'),
      'net/05.json': plugin('ignored'),
    },
    types: ['inline', 'sooner', 'later'],
  },
  {
    name: 'the folder alone may hold the plugins',
    files: { 'a.conflist': { cniVersion: '1.1.0', name: 'net' }, 'net/10.conf': plugin('only') },
    types: ['only'],
  },
  {
    name: 'loadOnlyInlinedPlugins leaves the folder alone',
    files: {
      'a.conflist': { ...list('net', 'inline'), loadOnlyInlinedPlugins: true },
      'net/10.conf': plugin('other'),
    },
    types: ['inline'],
  },
  {
    name: 'other files and folders are passed over',
    files: { 'README.md': 'no JSON', 'x.conflist/file': '', 'a.conflist': list('net', 'inline') },
    types: ['inline'],
  },
])('$name', ({ files, types }) => {
  using folder = folderWith(files as Record<string, object | string>)
  expect(loadNetworkList(folder.path, 'net').plugins.map(({ type }) => type)).toEqual([...types])
})

test.each([
  { name: 'an empty folder', files: {}, message: 'no net configurations found in FOLDER' },
  {
    name: 'a network that no file names',
    files: { 'a.conflist': list('other', 'x') },
    message: 'no net configuration with name "net" in FOLDER',
  },
  {
    name: 'a broken file before the one that is wanted',
    files: { 'a.conflist': '{', 'b.conflist': list('net', 'x') },
    message: 'FOLDER/a.conflist: error parsing configuration: it is not JSON',
  },
  {
    name: 'a list without plugins anywhere',
    files: { 'a.conflist': { cniVersion: '1.1.0', name: 'net' } },
    message: 'FOLDER/a.conflist: plugins: no plugin configs found for network net',
  },
  {
    name: 'a plugin without a type in the folder of the network',
    files: { 'a.conflist': list('net', 'x'), 'net/1.conf': { typ: 'y' } },
    message: 'FOLDER/a.conflist: FOLDER/net/1.conf: type: is missing',
  },
])('refused, naming the file: $name', ({ files, message }) => {
  using folder = folderWith(files as Record<string, object | string>)
  expect(() => loadNetworkList(folder.path, 'net')).toThrow(message.replaceAll('FOLDER', folder.path))
})

test('a folder that does not exist has no configurations', () => {
  expect(() => loadNetworkList('/run/nowhere', 'net')).toThrow('no net configurations found in /run/nowhere')
})

test.each([
  {
    name: 'the highest of cniVersions',
    versions: { cniVersions: ['0.4.0', '1.0.0', '0.3.1'] },
    chosen: '1.0.0',
  },
  {
    name: 'cniVersion counts among them',
    versions: { cniVersion: '1.1.0', cniVersions: ['1.0.0'] },
    chosen: '1.1.0',
  },
  {
    name: 'versions of the future are passed over',
    versions: { cniVersions: ['1.0.0', '9.9.9'] },
    chosen: '1.0.0',
  },
  {
    name: 'where all are of the future, cniVersion stays',
    versions: { cniVersion: '2.0.0', cniVersions: ['9.9.9'] },
    chosen: '2.0.0',
  },
  { name: 'cniVersion alone', versions: { cniVersion: '0.4.0' }, chosen: '0.4.0' },
])('the version that plugins are called with: $name', ({ versions, chosen }) => {
  expect(
    parseNetworkList(JSON.stringify({ name: 'net', plugins: [plugin('x')], ...versions })).cniVersion,
  ).toBe(chosen)
})

test.each([
  [true, true],
  ['true', true],
  ['TRUE', true],
  [false, false],
  ['False', false],
])('disableCheck and disableGC may be text: %p', (value, expected) => {
  const text = JSON.stringify({ ...list('net', 'x'), disableCheck: value, disableGC: value })
  const { disableCheck, disableGC } = parseNetworkList(text)
  expect({ disableCheck, disableGC }).toEqual({ disableCheck: expected, disableGC: expected })
})

test.each([
  { json: [], message: 'it is not a JSON object', code: 6 },
  { json: { plugins: [plugin('x')] }, message: 'name: is missing', code: 7 },
  { json: { ...list('net', 'x'), name: 7 }, message: 'name: must be a string: got 7', code: 7 },
  { json: { ...list('net', 'x'), cniVersion: 1 }, message: 'cniVersion: must be a string: got 1', code: 7 },
  { json: { ...list('net', 'x'), cniVersions: ['one'] }, message: 'failed to parse version "one"', code: 6 },
  {
    json: { ...list('net', 'x'), disableGC: 'yes' },
    message: 'disableGC: must be true or false: got "yes"',
    code: 7,
  },
  { json: { ...list('net'), name: 'net' }, message: 'plugins: must not be empty', code: 7 },
  { json: { name: 'net', plugins: {} }, message: 'plugins: must be a list: got {}', code: 7 },
  { json: { name: 'net', plugins: ['x'] }, message: 'plugins[0]: must be an object: got "x"', code: 7 },
  { json: { name: 'net', plugins: [plugin('x'), {}] }, message: 'plugins[1].type: is missing', code: 7 },
  {
    json: { name: 'net', plugins: [{ type: 'x', capabilities: { mac: 'yes' } }] },
    message: 'plugins[0].capabilities.mac: must be true or false: got "yes"',
    code: 7,
  },
  {
    json: { name: 'net', loadOnlyInlinedPlugins: true },
    message: 'plugins: is missing, and loadOnlyInlinedPlugins is true',
    code: 7,
  },
])('a list is refused with code $code: $message', ({ json, message, code }) => {
  expect(() => parseNetworkList(JSON.stringify(json))).toThrow(
    expect.objectContaining({ code, message: expect.stringContaining(message) }),
  )
})

test('a single configuration keeps keys that are unknown here', () => {
  const text = JSON.stringify({
    cniVersion: '1.0.0',
    name: 'net',
    type: 'x',
    capabilities: { mac: true },
    mine: [1],
  })
  expect(parseNetwork(text)).toEqual({
    name: 'net',
    cniVersion: '1.0.0',
    plugin: { type: 'x', name: 'net', capabilities: { mac: true }, raw: JSON.parse(text) },
    text,
  })
})
