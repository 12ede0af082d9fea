import { expect, test } from 'bun:test'
import {
  circlesIn,
  foreignIn,
  functionLengths,
  importsOf,
  mayImport,
  problemsOf,
  type Source,
  untestedIn,
} from './house.ts'

const root = `${import.meta.dir}/..`

async function read(patterns: string[]): Promise<Source[]> {
  const paths = patterns.flatMap(pattern => [...new Bun.Glob(pattern).scanSync({ cwd: root, dot: true })])
  return Promise.all(paths.map(async path => ({ path, text: await Bun.file(`${root}/${path}`).text() })))
}

const sources = await read(['{tools,chain,main,ipam,meta,test}/**/*.ts'])

test('every file keeps the rules of the house', () => {
  const checked = sources.filter(({ path }) => !/^test\/house/.test(path)) // which name what is forbidden
  expect(checked.flatMap(problemsOf)).toEqual([])
  expect(checked.flatMap(({ text }) => importsOf(text)).length).toBeGreaterThan(100)
})

test.each([
  ['main/bridge.ts', 'chain/plugin/define.ts', true],
  ['main/bridge.ts', 'main/bridge/vlan.ts', true],
  ['main/bridge/vlan.ts', 'main/bridge.ts', true],
  ['main/bridge.ts', 'main/ptp.ts', false],
  ['meta/portmap.ts', 'main/bridge.ts', false],
  ['main/bridge.ts', 'chain/invoke/invoke.ts', false],
  ['main/bridge.ts', 'chain/runtime/load.ts', false],
  ['chain/linux/files.ts', 'chain/protocol/error.ts', false],
  ['chain/linux/netns.ts', 'chain/ip/address.ts', true],
  ['chain/ip/address.ts', 'chain/linux/bytes.ts', false],
  ['chain/interface/configure.ts', 'chain/filter/sweep.ts', false],
  ['chain/filter/sweep.ts', 'chain/interface/configure.ts', false],
  ['main/bridge.ts', 'chain/filter/masquerade.ts', true],
  ['ipam/static.ts', 'chain/filter/sweep.ts', false],
  ['chain/protocol/error.ts', 'chain/linux/libc/file.ts', false],
  ['chain/invoke/invoke.ts', 'chain/plugin/run.ts', false],
  ['chain/plugin/run.ts', 'chain/invoke/invoke.ts', true],
  ['chain/plugin/run.ts', 'main/bridge.ts', false],
  ['chain/runtime/network.ts', 'chain/plugin/run.ts', false],
  ['chain/runtime/network.ts', 'chain/catena.ts', false],
  ['chain/cli/command.ts', 'chain/runtime/network.ts', true],
  ['chain/cli/command.ts', 'chain/invoke/invoke.ts', false],
  ['chain/cli/serve.ts', 'chain/service/client.ts', true],
  ['chain/service/worker.ts', 'main/bridge.ts', false],
  ['chain/service/worker.ts', 'chain/runtime/step.ts', false],
  ['chain/plugin/run.ts', 'chain/service/call.ts', false],
  ['chain/catena.ts', 'main/bridge.ts', true],
  ['chain/catena.ts', 'test/fixtures/plugin.ts', false],
  ['ipam/dhcp/daemon/registry.ts', 'ipam/dhcp/v4/lease.ts', true],
  ['ipam/dhcp/v6/lease.ts', 'ipam/dhcp/v4/packet.ts', false],
  ['ipam/dhcp/engine/exchange.ts', 'ipam/dhcp/v4/packet.ts', false],
  ['ipam/dhcp/link/frame.ts', 'ipam/dhcp/engine/timing.ts', false],
  ['ipam/dhcp/v6/packet.ts', 'ipam/dhcp/codec.ts', true],
  ['ipam/dhcp.ts', 'ipam/dhcp/rpc/dial.ts', true],
  ['test/main/bridge.test.ts', 'main/bridge.ts', true],
])('%s imports %s: %p', (from, to, allowed) => {
  expect(mayImport(from, to)).toBe(allowed)
})

test('no file imports one that imports it, on whatever way', () => {
  expect(circlesIn(sources)).toEqual([])
  const text = (path: string) => `import type { A } from '${path}'`
  const circle = [
    { path: 'meta/a.ts', text: text('./a/b.ts') },
    { path: 'meta/a/b.ts', text: `const late = () => import('./c.ts')` },
    { path: 'meta/a/c.ts', text: text('../a.ts') },
    { path: 'meta/a/d.ts', text: text('./c.ts') },
  ]
  expect(circlesIn(circle)).toEqual([['meta/a.ts', 'meta/a/b.ts', 'meta/a/c.ts']])
})

test('every source of the chain has its test, by the same way, or is named here with the one that has its promises', () => {
  const elsewhere = {
    'chain/filter/move-masquerade.ts': 'test/cli/migrate.test.ts',
    'chain/filter/move.ts': 'test/cli/migrate.test.ts',
    'chain/filter/nftables/foundations.ts': 'test/filter/nftables/missing.test.ts', // its CHECK; its ADD is in apply.test.ts
    'chain/linux/iptables/brief.ts': 'test/linux/iptables/sign.test.ts', // types
    'chain/protocol/by-schema.ts': 'test/tools/checks.test.ts',
    'chain/protocol/checks.ts': 'test/tools/checks.test.ts',
    'chain/runtime/attachment.ts': 'test/runtime/attach.test.ts', // types, and three checks of the protocol's
  }
  expect(untestedIn(sources, elsewhere)).toEqual([])
})

test('a source without a test is told, and a word on one that no longer holds', () => {
  const long = '\n'.repeat(31)
  const some = [
    { path: 'chain/filter/one.ts', text: `${long}x` },
    { path: 'chain/filter/two.ts', text: `${long}x` },
    { path: 'chain/filter/short.ts', text: 'x' },
    { path: 'chain/cli/three.ts', text: `${long}x` },
    { path: 'test/filter/two/first.test.ts', text: '' },
    { path: 'test/filter/place.ts', text: '' },
  ]
  expect(untestedIn(some, {})).toEqual(['chain/filter/one.ts has no test of its own'])
  const two = {
    'chain/filter/one.ts': 'test/gone.test.ts',
    'chain/filter/two.ts': 'test/filter/two/first.test.ts',
  }
  expect(untestedIn(some, { ...two, 'chain/none.ts': 'test/filter/two/first.test.ts' })).toEqual([
    'test/gone.test.ts, which is to test chain/filter/one.ts, is not there',
    'chain/filter/two.ts has a test of its own by now',
    'chain/none.ts needs no word on its test',
  ])
})

const said = '/** Says what it is. */\n'

test.each([
  ['an import of a type', 'main/bridge.ts', `import type { Ptp } from './ptp.ts'`, 'imports main/ptp.ts'],
  [
    'an import over lines',
    'main/bridge.ts',
    `import {\n  ptp,\n  other,\n} from './ptp.ts'`,
    'imports main/ptp.ts',
  ],
  ['an import for its effects', 'main/bridge.ts', `import './ptp.ts'`, 'imports main/ptp.ts'],
  ['a dynamic import', 'main/bridge.ts', `const late = () => import('./ptp.ts')`, 'imports main/ptp.ts'],
  ['an export from elsewhere', 'main/bridge.ts', `export { ptp } from './ptp.ts'`, 'imports main/ptp.ts'],
  ['an import of all', 'main/bridge.ts', `import * as all from './ptp.ts'`, 'imports main/ptp.ts'],
  [
    'a computed import',
    'main/bridge.ts',
    'const late = name => import(folder + name)',
    'imports what is not a literal',
  ],
  ['the C library', 'chain/linux/netns.ts', `import { dlopen } from 'bun:ffi'`, 'imports bun:ffi'],
  ['node:fs in a plugin', 'ipam/static.ts', `import { readFileSync } from 'node:fs'`, 'imports node:fs'],
  ['full zod', 'main/bridge.ts', `import { z } from 'zod'`, 'imports zod'],
  [
    'zod beside the kernel',
    'chain/linux/nftables/nft.ts',
    `import { z } from 'zod/mini'`,
    'imports zod/mini',
  ],
  ['zod beside a plugin', 'ipam/static.ts', `import * as z from 'zod/mini'`, 'imports zod/mini'],
  [
    'a schema at start-up',
    'ipam/static.ts',
    `import { any } from './static/schema.ts'`,
    'imports ipam/static/schema.ts',
  ],
  ['all of ip-address', 'ipam/static.ts', `import { Address4 } from 'ip-address'`, 'imports ip-address'],
  ['execa at start-up', 'chain/linux/nftables/nft.ts', `import { execaSync } from 'execa'`, 'imports execa'],
  ['setns', 'main/bridge.ts', 'libc.setns(1, 2)', 'calls setns'],
  ['the environment', 'main/bridge.ts', 'const path = process.env.CNI_PATH', 'touches the process'],
  ['the console', 'chain/runtime/load.ts', `console.log('here')`, 'touches the process'],
  [
    'await at the top',
    'main/bridge.ts',
    `const config = await Bun.file('x').json()`,
    'awaits at the top level',
  ],
  ['a nap', 'main/bridge.ts', 'async function f() { await Bun.sleep(10) }', 'sleeps'],
  ['ip', 'main/bridge.ts', `Bun.spawnSync(['ip', 'link'])`, 'runs a program'],
  ['sysctl through execa', 'meta/tuning.ts', `execaSync('/sbin/sysctl', ['-w'])`, 'runs a program'],
  ['a file of 401 lines', 'main/bridge.ts', `${'\n'.repeat(399)}const end = 1`, 'has 401 lines'],
  [
    'a function of 61 lines',
    'main/bridge.ts',
    `function f() {\n${'  g()\n'.repeat(59)}}`,
    'is a function of 61 lines',
  ],
  ['a barrel', 'chain/runtime/index.ts', '', 'is a barrel'],
  ['a test left out', 'test/x.test.ts', `test.skip('x', () => {})`, 'leaves tests out'],
  ['a test left out here', 'test/x.test.ts', `test.skipIf(true)('x', () => {})`, 'leaves tests out'],
  ['a mock', 'test/x.test.ts', 'const f = mock(() => 1)', 'plays somebody'],
])('%s is caught', (_, path, text, problem) => {
  expect(problemsOf({ path, text: said + text })).toEqual([expect.stringContaining(problem)])
})

test('a file without a word on what it is, is caught', () => {
  expect(problemsOf({ path: 'main/bridge.ts', text: 'export const bridge = 1\n' })).toEqual([
    'main/bridge.ts does not say what it is',
  ])
})

test('what a comment says is no import and no call', () => {
  const text = `${said}/* import './ptp.ts' */\n// process.env, console.log\nexport const one = 1 // setns\n`
  expect(problemsOf({ path: 'main/bridge.ts', text })).toEqual([])
})

test('what runs where a plugin’s file is started as a program may touch the process, and nothing before it', () => {
  const entry = 'if (import.meta.main) start(process.argv)\n'
  expect(problemsOf({ path: 'ipam/dhcp.ts', text: said + entry })).toEqual([])
  expect(
    problemsOf({ path: 'ipam/dhcp.ts', text: `${said}const { env } = process.env\n${entry}` }),
  ).toHaveLength(1)
  expect(
    problemsOf({ path: 'ipam/dhcp/daemon/main.ts', text: `${said}process.once('SIGTERM', end)\n` }),
  ).toEqual([])
})

test('execa may be loaded when it is needed, a part of ip-address at once, zod/mini by a schema', () => {
  const lazy = `${said}const run = async () => (await import('execa')).execaSync('nft')\n`
  const parts = `${said}import { Address4 } from 'ip-address/dist/ipv4.js'\nimport type { z } from 'zod/mini'\n`
  expect(problemsOf({ path: 'chain/linux/nftables/nft.ts', text: lazy })).toEqual([])
  expect(problemsOf({ path: 'ipam/static.ts', text: parts })).toEqual([])
  const schema = `${said}import * as z from 'zod/mini'\nimport { text } from '../../chain/plugin/schema.ts'\n`
  expect(problemsOf({ path: 'ipam/static/schema.ts', text: schema })).toEqual([])
})

test('functions are found by their indentation', () => {
  const text =
    'const f = async () => {\n  if (a) {\n  }\n}\nexport function g(): void {\n}\n  method(a: A): B {\n  },'
  expect(functionLengths(text.split('\n')).map(({ length }) => length)).toEqual([4, 2, 2])
})

test('no file names a registry, a mirror, or a path of one machine', async () => {
  const texts = await read(['*', '{.ci,chain,main,ipam,meta,test,docs}/**/*'])
  // .git is a file in a worktree, and no part of the repository
  const checked = texts.filter(({ path }) => path !== '.git' && !/^test\/house/.test(path))
  expect(checked.flatMap(foreignIn)).toEqual([])
  expect(checked.map(({ path }) => path)).toContain('package-lock.json')
  expect(foreignIn({ path: 'x', text: '"resolved": "https://x"' })).toHaveLength(1)
})
