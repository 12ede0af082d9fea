/** Completions and manual pages, as the shells and `man` take them: of the definition that `--help` prints. */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { version } from '../../package.json'
import { ourExecutable, ours } from '../fixtures/plugin.ts'

const folder = mkdtempSync('/run/completion-')
const HOSTILE = '$(touch hostile)'
const env = {
  PATH: `${folder}/bin:${process.env.PATH}`,
  HOME: folder,
  NETCONFPATH: `${folder}/net.d`,
  TERM: 'dumb',
}

beforeAll(() => {
  mkdirSync(`${folder}/bin`)
  mkdirSync(`${folder}/net.d`)
  mkdirSync(`${folder}/opt/one`, { recursive: true })
  symlinkSync(ourExecutable('catena'), `${folder}/bin/catena`)
  for (const name of ['front', 'back'])
    writeFileSync(
      `${folder}/net.d/${name}.conf`,
      JSON.stringify({ cniVersion: '1.0.0', name, type: 'loopback' }),
    )
  writeFileSync(`${folder}/net.d/broken.conf`, '{')
  for (const name of ['web', HOSTILE]) writeFileSync(`/run/netns/${name}`, '')
})
afterAll(() => {
  rmSync(folder, { recursive: true })
  for (const name of ['web', HOSTILE]) rmSync(`/run/netns/${name}`)
})

function run(...words: string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(words, { env, cwd: folder })
  expect({ words, exitCode, stderr: `${stderr}` }).toEqual({ words, exitCode: 0, stderr: '' })
  return stdout.toString()
}

/** What a shell offers for the last of the words. */
const shells: Record<string, (words: readonly string[]) => string[]> = {
  bash(words) {
    // as readline calls it; "=" is a word of its own there
    const parts = words
      .flatMap(word => word.split(/(?==)|(?<==)/))
      .map(word => (word === '' ? "''" : `'${word}'`))
    const script = `source ${ours}/completions/catena.bash; COMP_WORDS=(${parts.join(' ')}); COMP_CWORD=${parts.length - 1}
      _catena catena; printf '%s\\n' "\${COMPREPLY[@]}"`
    return run('bash', '-c', script).split('\n').filter(Boolean)
  },
  zsh(words) {
    return run('zsh', '-f', `${import.meta.dir}/completed.zsh`, `${ours}/completions`, words.join(' '))
      .split('\n')
      .filter(Boolean)
  },
  fish(words) {
    const script = `source ${ours}/completions/catena.fish; complete --do-complete '${words.join(' ')}'`
    return run('fish', '--no-config', '-c', script)
      .split('\n')
      .map(line => line.split('\t')[0] ?? '')
      .filter(Boolean)
  },
}

const offered = (shell: string, ...words: string[]) =>
  (shells[shell]?.(['catena', ...words]) ?? []).toSorted()

test.each(Object.keys(shells))('%s completes verbs, flags, networks, namespaces and folders', shell => {
  expect(offered(shell, 'a')).toEqual(['add'])
  expect(offered(shell, 'add', '')).toEqual(['back', 'front'])
  expect(offered(shell, 'add', '--create', 'f')).toEqual(['front'])
  expect(offered(shell, 'add', '--ifname', 'eth7', 'front', 'w')).toEqual(['web'])
  expect(offered(shell, 'install', '--dr')).toEqual(['--dry-run'])
  expect(offered(shell, 'install', '--backend', '')).toEqual(['iptables', 'nftables'])
  const folders = offered(shell, 'install', '--into', 'opt/').map(name => name.replace(/^opt\/|\/$/g, ''))
  expect([...new Set(folders)]).toEqual(['one'])
  expect(offered(shell, 'help', 'unin')).toEqual(['uninstall'])
  expect(offered(shell, 'del', 'front', 'web', '').filter(word => !word.startsWith('-'))).toEqual([])
})

test.each(Object.keys(shells))(
  '%s offers every verb, and evaluates no name that is offered and no word that is typed',
  shell => {
    const help = run('catena', '--help')
    const verbs = [...(/Commands:\n((?: .*\n)+)/.exec(help)?.[1]?.matchAll(/^ {2}(\w+)/gm) ?? [])].map(
      ([, verb = '']) => verb,
    )
    expect(offered(shell, '')).toEqual(verbs.toSorted())
    expect(offered(shell, 'add', 'front', '')).toHaveLength(2)
    offered(shell, 'add', '$(touch hostile)', '')
    expect(existsSync(`${folder}/hostile`)).toBe(false)
  },
)

test('a shell that there is no script for is refused by name', () => {
  const { exitCode, stdout } = Bun.spawnSync([ourExecutable('catena'), 'completion', 'tcsh'], { env })
  expect({ exitCode, ...JSON.parse(stdout.toString()) }).toMatchObject({
    exitCode: 1,
    msg: 'completion: no shell tcsh',
    details: 'there are bash, zsh, fish',
  })
})

test('there is a manual page for the command and each verb, which groff takes without a warning and which has every flag', () => {
  const pages = readdirSync(`${ours}/man`)
  expect(pages).toContain('catena-install.1')
  for (const page of pages) {
    const verb = page.slice('catena-'.length, -'.1'.length)
    const help = run('catena', ...(page === 'catena.1' ? [] : [verb]), '--help')
    const { exitCode, stdout, stderr } = Bun.spawnSync(
      ['groff', '-man', '-Tascii', '-P-cbou', '-ww', '-rLL=200n', `${ours}/man/${page}`],
      { env: { PATH: process.env.PATH } },
    )
    expect({ page, exitCode, stderr: `${stderr}` }).toEqual({ page, exitCode: 0, stderr: '' })
    const flags = [...help.matchAll(/--[a-z][a-z-]*/g)].map(([flag]) => flag)
    expect(flags.filter(flag => !stdout.toString().includes(flag))).toEqual([])
    expect(stdout.toString()).toContain(`catena ${version}`)
  }
})
