import { afterAll, expect, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { type Feature, hasFeature, testOn } from './features.ts'

const folder = mkdtempSync(`${tmpdir()}/catena-features-`)
afterAll(() => rmSync(folder, { recursive: true }))

/** A run as test/run.sh makes it, of one file that declares tests, with a results folder of its own. */
async function suite(name: string, declarations: string) {
  const home = mkdtempSync(`${folder}/${name}-`)
  await Bun.write(
    `${home}/some.test.ts`,
    `import { testOn } from '${import.meta.dir}/features.ts'\n${declarations}\n`,
  )
  const bun = (kernel: string, ...command: string[]) => {
    const env = { ...process.env, CATENA_TEST_RESULTS: home, CATENA_TEST_KERNEL: kernel }
    const { exitCode, stderr, stdout } = Bun.spawnSync([process.execPath, ...command], { cwd: home, env })
    return { exitCode, output: `${stdout}${stderr}` }
  }
  return {
    testOn: (kernel: 'first' | 'second') => bun(kernel, 'test', './some.test.ts'),
    files: () => bun('', `${import.meta.dir}/verdict.ts`, 'files'),
    verdict: () => bun('', `${import.meta.dir}/verdict.ts`),
    path: `${home}/some.test.ts`,
  }
}

test('a test whose feature no kernel has fails the run, and is named with what it wants', async () => {
  const { testOn, files, verdict, path } = await suite(
    'nowhere',
    `testOn(['bridge', 'impossible'], 'flies', () => {})`,
  )
  expect(testOn('first').output).toContain('(skip) flies (needs bridge, impossible)')
  expect(files().output).toBe(`${path}\n`)
  expect(testOn('second').output).toContain('(skip) flies')
  expect(verdict()).toEqual({
    exitCode: 1,
    output: `ran on no kernel, for want of impossible: ${path} > flies\n`,
  })
})

test('a test that the second kernel never saw fails the run', async () => {
  const { testOn, verdict } = await suite('unseen', `testOn(['impossible'], 'flies', () => {})`)
  testOn('first')
  expect(verdict().exitCode).toBe(1)
})

test('of two tests with one name, the one that ran does not stand for the other', async () => {
  const { testOn, verdict, path } = await suite(
    'twins',
    `testOn(['bridge'], 'twin', () => {}); testOn(['impossible'], 'twin', () => {})`,
  )
  testOn('first')
  testOn('second')
  expect(verdict().output).toBe(`ran on no kernel, for want of impossible: ${path} > twin (2)\n`)
})

test('a test that runs on the first kernel is not wanted on the second', async () => {
  const { testOn, files, verdict } = await suite('here', `testOn(['bridge'], 'stands', () => {})`)
  expect(testOn('first').output).toContain('1 pass')
  expect(files().output).toBe('')
  expect(testOn('second').output).not.toContain('stands')
  expect(verdict()).toEqual({ exitCode: 0, output: '' })
})

test('a test with needs fails where no account is kept of it', async () => {
  const { path } = await suite('unaccounted', `testOn(['bridge'], 'stands', () => {})`)
  const { CATENA_TEST_RESULTS: _, ...env } = process.env
  const { exitCode, stderr } = Bun.spawnSync([process.execPath, 'test', path], { cwd: folder, env })
  expect({ exitCode, said: `${stderr}`.includes('run it by test/run.sh') }).toEqual({
    exitCode: 1,
    said: true,
  })
})

// each must run on one of the two kernels: the proof that both do what they are for
for (const feature of [
  'vlan',
  'ipvlan',
  'dummy',
  'vrf',
  'bridge-vlan',
  'nft-nat',
  'nft-inet',
] satisfies Feature[]) {
  testOn([feature], `there is a kernel with ${feature}`, () => expect(hasFeature(feature)).toBe(true))
}
