/**
 * The system refuses a plugin something, at one call after the other: descriptors, memory, room on the disk, an answer. ADD and
 * DEL are judged by what is left, not by what they say of themselves. CATENA_LONG=1 takes every call with every error.
 */
import { expect, test } from 'bun:test'
import { availableParallelism } from 'node:os'
import { testOn } from '../kernel/features.ts'
import { type Case, cases } from './injection/cases.ts'
import { disturb, type Report } from './injection/worker.ts'

const isLong = process.env.CATENA_LONG === '1'
const isSecond = process.env.CATENA_TEST_KERNEL === 'second' // slow, and a private host of ours already
/** Points of each verb: spread over its calls, so that calls and errors take turns. */
const MANY = isLong ? 'all' : isSecond ? '2' : '10'
const WORKERS = isLong ? availableParallelism() : 2
const PATIENCE = isLong ? 7_200_000 : 120_000

/** A share of a case's points, on a host of its own: what is left on it is its own. */
async function share(name: string, index: number): Promise<Report> {
  const script = `${import.meta.dir}/injection/worker.ts`
  const command = ['bash', `${import.meta.dir}/../private.sh`, process.execPath, script]
  const worker = Bun.spawn([...command, name, String(index), String(WORKERS), MANY], { stderr: 'pipe' })
  const [stdout, stderr, status] = await Promise.all([
    new Response(worker.stdout).text(),
    new Response(worker.stderr).text(),
    worker.exited,
  ])
  if (status !== 0) throw new Error(`${name}: the worker ended with status ${status}: ${stderr}`)
  return JSON.parse(stdout) as Report
}

async function isTrueToItsWord({ name }: Case): Promise<void> {
  const reports = isSecond
    ? [await disturb(name, { share: 0, shares: 1, many: MANY })]
    : await Promise.all(Array.from({ length: WORKERS }, (_, index) => share(name, index)))
  const reached = reports.reduce((sum, report) => sum + report.reached, 0)
  if (isLong) process.stderr.write(`${name}: ${reached} points\n`)
  expect(reports.flatMap(({ faults }) => faults)).toEqual([])
  // one or the other may come after a shorter way
  expect(reached).toBeGreaterThan(MANY === 'all' ? 100 : Number(MANY))
}

for (const each of cases.filter(({ atLength }) => isLong || !atLength)) {
  const title = `${each.name}: a failed ADD leaves nothing, and neither does a DEL that says success`
  if (each.needs) testOn(each.needs, title, () => isTrueToItsWord(each), PATIENCE)
  else test(title, () => isTrueToItsWord(each), PATIENCE)
}
