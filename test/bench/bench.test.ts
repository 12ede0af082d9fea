import { expect, test } from 'bun:test'
import { peers } from '../fixtures/plugin.ts'

import { markdown, quantile, rowsOf, type Sample } from './table.ts'

test('a median between two values is in the middle', () => {
  expect([quantile([3, 1, 2], 0.5), quantile([4, 1, 2, 3], 0.5), quantile([7], 0.25)]).toEqual([2, 2.5, 7])
})

test('the ratio is the median of the pairs, not the ratio of the medians', () => {
  const walls = { ours: [1, 10, 30], theirs: [2, 40, 10] }
  const samples = (['ours', 'theirs'] as const).flatMap(side =>
    walls[side].map(
      (wall, round): Sample => ({ side, round, verb: 'ADD', type: 'loopback', wall, cpu: wall }),
    ),
  )
  const [add] = rowsOf({ name: 'loopback', plugins: [{ type: 'loopback' }] }, samples)
  expect(add).toMatchObject({ theirs: 10, ours: 10, ratio: 0.5 })
})

test('where there is no Go plugin the row has ours alone', () => {
  const samples: Sample[] = [{ side: 'ours', round: 0, verb: 'ADD', type: 'flannel', wall: 7, cpu: 5 }]
  const [add] = rowsOf({ name: 'flannel', plugins: [{ type: 'flannel' }], alone: true }, samples)
  const text = markdown(add ? [add] : [], { machine: 'here', left: [] })
  expect(text).toContain('| flannel | flannel | ADD |  | 7.0 |  |  |  |')
})

test('the Go plugins beside themselves come out as a table with both verbs', async () => {
  const file = '/run/bench.json'
  const command = [process.execPath, `${import.meta.dir}/bench.ts`, '--rounds', '2', '--json', file]
  const { exitCode, stderr, stdout } = Bun.spawnSync([...command, '--ours', peers, 'host-local', 'loopback'])
  expect({ exitCode, stderr: stderr.toString() }).toEqual({ exitCode: 0, stderr: 'loopback\nhost-local\n' })
  const { rows, machine, left } = await Bun.file(file).json()
  expect(rows.map((row: { case: string; verb: string }) => `${row.case} ${row.verb}`)).toEqual([
    'loopback ADD',
    'loopback DEL',
    'host-local ADD',
    'host-local DEL',
  ])
  expect(stdout.toString()).toBe(`${markdown(rows, { machine, left })}\n`)
})

test('a plugin that fails is told, and the run fails', () => {
  const command = [
    process.execPath,
    `${import.meta.dir}/bench.ts`,
    '--rounds',
    '1',
    '--json',
    '/run/bench.json',
  ]
  const { exitCode, stdout } = Bun.spawnSync([...command, '--ours', `${import.meta.dir}/broken`, 'loopback'])
  expect({ exitCode, told: `${stdout}`.includes('loopback failed: ') }).toEqual({ exitCode: 1, told: true })
})
