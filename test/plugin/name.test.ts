/** Which plugin an executable is by the name that it was called by. */
import { expect, test } from 'bun:test'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { pluginNamed, unknownPlugin } from '../../chain/plugin/name.ts'

const names = ['bridge', 'vlan', 'ipvlan', 'host-local']

function pluginOf(command: string, more: { started?: string; executable?: string; searched?: string } = {}) {
  return pluginNamed(command, { names, started: command, executable: command, searched: '', ...more })
}

test.each([
  ['/opt/cni/bin/bridge', 'bridge'],
  ['cnv-bridge', 'bridge'],
  ['my-ipvlan', 'ipvlan'],
  ['my-vlan', 'vlan'],
  ['/opt/bridge/tool', undefined],
  ['/opt/cni/bin/catena', undefined],
  ['bridge2', undefined],
])('%s is %p', (command, plugin) => {
  expect(pluginOf(command)).toBe(plugin as string)
})

test('a link is what it leads to, link by link; where it was found counts, and the file that was executed', () => {
  const folder = mkdtempSync('/run/names-')
  using _cleanup = { [Symbol.dispose]: () => rmSync(folder, { recursive: true }) }
  mkdirSync(`${folder}/bin`)
  writeFileSync(`${folder}/program`, '')
  symlinkSync('../program', `${folder}/bin/my-host-local`)
  symlinkSync('my-host-local', `${folder}/bin/first`)
  expect(pluginOf(`${folder}/bin/first`)).toBe('host-local')
  expect(pluginOf('first', { searched: `/none:${folder}/bin` })).toBe('host-local')
  expect(pluginOf('tool', { started: `${folder}/bin/first` })).toBe('host-local')
  expect(pluginOf('tool', { executable: `${folder}/bin/my-host-local` })).toBe('host-local')
  expect(pluginOf('tool')).toBeUndefined()
})

test('links in a circle lead nowhere', () => {
  const folder = mkdtempSync('/run/names-')
  using _cleanup = { [Symbol.dispose]: () => rmSync(folder, { recursive: true }) }
  symlinkSync('two', `${folder}/one`)
  symlinkSync('one', `${folder}/two`)
  expect(pluginOf(`${folder}/one`)).toBeUndefined()
})

test('a runtime is answered with a document that names the plugins', () => {
  expect(JSON.parse(unknownPlugin('tool', names))).toMatchObject({
    code: 4,
    msg: 'which plugin this is cannot be known by its name: tool',
    details: expect.stringContaining('bridge, vlan, ipvlan, host-local'),
  })
})
