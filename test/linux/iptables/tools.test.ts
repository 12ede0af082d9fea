/** Where iptables' tools are, which variant they are, and what comes of running one. */
import { afterEach, describe, expect, test } from 'bun:test'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { findTools, findVariant, run, waitOption } from '../../../chain/linux/iptables/tools.ts'
import { close, O_RDONLY, open } from '../../../chain/linux/libc/file.ts'
import { BusyError, patience } from '../../../chain/linux/lock.ts'
import { choose, hideTools, variants } from '../../fixtures/iptables.ts'

const usual = patience.milliseconds
afterEach(() => {
  patience.milliseconds = usual
})

/** A folder in front of PATH with scripts in the place of tools. */
function scripts(of: Readonly<Record<string, string>>): Disposable & { folder: string } {
  const folder = mkdtempSync('/run/tools-')
  const before = process.env.PATH
  for (const [name, script] of Object.entries(of)) {
    writeFileSync(`${folder}/${name}`, `#!/bin/sh\n${script}\n`)
    chmodSync(`${folder}/${name}`, 0o755)
  }
  process.env.PATH = `${folder}:${before}`
  return {
    folder,
    [Symbol.dispose]() {
      process.env.PATH = before
      rmSync(folder, { recursive: true })
    },
  }
}

describe.each(variants)('where the machine has chosen %s', variant => {
  test.each(['ip', 'ip6'] as const)(
    'the tools of %s are that variant’s, and the other ones have it in their names',
    family => {
      using choice = choose(variant)
      const prefix = family === 'ip' ? 'iptables' : 'ip6tables'
      expect(findTools(family)).toEqual({
        family,
        variant,
        command: `${choice.folder}/${prefix}`,
        restore: `${choice.folder}/${prefix}-restore`,
        save: `${choice.folder}/${prefix}-save`,
      })
      expect(findVariant(family, variant)?.command).toBe(`${choice.folder}/${prefix}`)
      const [other] = variants.filter(each => each !== variant)
      const suffix = other === 'legacy' ? 'legacy' : 'nft'
      expect(findVariant(family, other as typeof variant)).toMatchObject({
        variant: other,
        command: expect.stringMatching(new RegExp(`/${prefix}-${suffix}$`)),
      })
    },
  )
})

test('what is not whole is not installed', () => {
  using _hidden = hideTools()
  const all = ['iptables', 'iptables-restore', 'iptables-save']
  for (const missing of all) {
    using _some = scripts(Object.fromEntries(all.filter(name => name !== missing).map(name => [name, ''])))
    expect([findTools('ip'), findVariant('ip', 'legacy'), findVariant('ip', 'nf_tables')]).toEqual([
      undefined,
      undefined,
      undefined,
    ])
  }
  using _whole = scripts(Object.fromEntries(all.map(name => [name, ''])))
  expect(findTools('ip')).toMatchObject({ variant: 'legacy' }) // as what is older than nf_tables is
  expect(findTools('ip6')).toBeUndefined()
})

describe('a tool that is run', () => {
  test('reads its input, and is asked in the C locale, by a PATH without what anybody may have filled', () => {
    using tools = scripts({ tool: 'cat; echo "$LC_ALL $PATH"; echo said >&2; exit 3' })
    const outcome = run([`${tools.folder}/tool`], { input: 'COMMIT\n' })
    expect(outcome).toMatchObject({ status: 3, stderr: 'said\n' })
    expect(outcome.stdout).toMatch(new RegExp(`^COMMIT\nC ${tools.folder}:.*/usr/sbin`))
  })

  test('and is ended by a signal says so', () => {
    using tools = scripts({ tool: 'echo half; echo said >&2; kill -SEGV $$' })
    expect(run([`${tools.folder}/tool`])).toEqual({
      status: expect.any(Number) as unknown as number,
      stdout: 'half\n',
      stderr: `${tools.folder}/tool was ended by SIGSEGV\nsaid\n`,
    })
    expect(run([`${tools.folder}/tool`]).status).not.toBe(0)
  })

  test('inherits a lock, and nothing else', () => {
    using tools = scripts({ tool: 'ls /proc/self/fd | tr "\\n" " "; readlink /proc/self/fd/3 || echo none' })
    const lock = open('/proc/self/status', O_RDONLY)
    try {
      expect(run([`${tools.folder}/tool`], { lock }).stdout).toContain('/status\n')
      expect(run([`${tools.folder}/tool`]).stdout).toMatch(/^0 1 2 3 /) // of which 3 is the folder that is listed
    } finally {
      close(lock)
    }
  })

  test('and waits in vain for the tools’ own lock is an error that passes, and names who holds it', () => {
    const held =
      'echo "Another app is currently holding the xtables lock. Perhaps you want to use the -w option?" >&2'
    using tools = scripts({ tool: `${held}; exit 4`, lucky: `${held}; exit 0` })
    patience.milliseconds = 2000
    process.env.XTABLES_LOCKFILE = '/run/tools.lock'
    try {
      const waiting = () => run([`${tools.folder}/tool`])
      expect(waiting).toThrow(BusyError)
      expect(waiting).toThrow(
        '/run/tools.lock is locked by a process that /proc does not show: gave up after 2 s',
      )
      expect(run([`${tools.folder}/lucky`]).status).toBe(0)
    } finally {
      delete process.env.XTABLES_LOCKFILE
    }
  })

  test.each([
    [30_000, '--wait=30'],
    [1500, '--wait=2'],
    [0, '--wait=1'],
  ])('waits %p ms as %s: never without an end, and never not at all', (milliseconds, option) => {
    patience.milliseconds = milliseconds
    expect(waitOption()).toBe(option)
  })
})
