import { expect, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { commitOf } from '../../tools/static/commit.ts'
import { ROOT } from '../../tools/static/work.ts'

test('outside of a checkout of its own the commit is unknown', () => {
  const inside = `${ROOT}/test` // of a checkout, but not its top
  expect(commitOf(inside)).toBe('unknown')
  const folder = mkdtempSync('/run/no-checkout-')
  try {
    expect(commitOf(folder)).toBe('unknown')
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('files that differ from the commit are told', () => {
  const folder = mkdtempSync('/run/checkout-')
  const git = (...words: string[]) => Bun.spawnSync(['git', '-C', folder, ...words]).success
  try {
    expect(
      git('init', '-q') && git('config', 'user.name', 'test') && git('config', 'user.email', 'test@test'),
    ).toBe(true)
    Bun.spawnSync(['sh', '-c', `echo one >${folder}/file`])
    expect(git('add', 'file') && git('commit', '-qm', 'one')).toBe(true)
    expect(commitOf(folder)).toMatch(/^[0-9a-f]{12}$/)
    Bun.spawnSync(['sh', '-c', `echo two >${folder}/file`])
    expect(commitOf(folder)).toMatch(/^[0-9a-f]{12}\+changes$/)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
