/**
 * Somebody meddles with the files of state that a plugin leaves: whatever is in their place, CHECK and DEL answer at once, DEL frees
 * everything, and neither what a link leads to nor what a neighbour has is touched. The files are found by listing. All of an
 * attachment's files meet with a mishap at once: in the short form each row with every third one, with CATENA_LONG=1 with all of
 * them, and each file alone as well.
 */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { existsSync, lstatSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type Attachment, attach, callStep, detach, hostState } from '../contract/attachment.ts'
import { type Row, rows, titleOf } from '../contract/rows.ts'
import { difference } from '../fixtures/snapshot.ts'
import { testOn } from '../kernel/features.ts'
import { mishaps, stateFiles, VICTIM, VICTIM_TEXT } from './mishaps.ts'

const LIMIT = 2000 // milliseconds
const isLong = process.env.CATENA_LONG !== undefined

beforeAll(() => writeFileSync(VICTIM, VICTIM_TEXT))
afterAll(() => rmSync(VICTIM))

/** What all attachments of a network, or of a node, have together: it stays. */
const isShared = (path: string) =>
  /\/(lock|boot|stamp|last_reserved_ip\.\d+)$|^\/run\/catena\/(host-local|locks)\//.test(path)

interface Case {
  row: Row
  network: string
  attachment: Attachment
  /** The files to meddle with. */
  paths: readonly string[]
}

async function timed<T>(what: string, slow: string[], body: () => Promise<T>): Promise<T> {
  const start = performance.now()
  const answer = await body()
  const took = performance.now() - start
  if (took > LIMIT) slow.push(`${what} took ${Math.round(took)} ms`)
  return answer
}

/** CHECK may say what it likes; DEL, twice, has to succeed. */
async function meddle({ network, attachment, paths }: Case, mishap: string): Promise<void> {
  const { container, steps, result: prevResult } = attachment
  for (const path of paths) if (lstatSync(path, { throwIfNoEntry: false })) mishaps[mishap]?.(path)
  const slow: string[] = []
  for (const step of steps) {
    const given = { network, container, netns: container.path }
    await timed(`CHECK of ${step.type}`, slow, () => callStep('CHECK', { ...step, prevResult }, given))
  }
  const deletion = { network, steps, netns: container.path, prevResult }
  const context = { mishap, paths }
  for (const turn of ['first', 'second']) {
    const failures = await timed(`${turn} DEL`, slow, () => detach(attachment, deletion))
    expect({ ...context, turn, failures }).toEqual({ ...context, turn, failures: [] })
  }
  expect({ ...context, slow }).toEqual({ ...context, slow: [] })
}

/** Neighbours in the list get others. */
function mishapsFor(row: Row): string[] {
  return Object.keys(mishaps).filter((_, at) => isLong || at % 3 === rows.indexOf(row) % 3)
}

let networks = 0

async function survives(row: Row): Promise<void> {
  const network = `meddled-${process.pid}-${++networks}`
  await using node = await row.node()
  const neighbour = await attach(node, network)
  const before = hostState()
  const filesBefore = stateFiles()
  const one = async (mishap: string, choose: (paths: string[]) => string[]) => {
    const attachment = await attach(node, network)
    const changed = [...stateFiles()].filter(
      ([path, text]) => isShared(path) || filesBefore.get(path) !== text,
    )
    const paths = choose(changed.map(([path]) => path))
    await meddle({ row, network, attachment, paths }, mishap)
    await node.tidy?.(attachment.container)
    const { added, gone } = difference(before, hostState())
    const left = changed.map(([path]) => path).filter(path => !isShared(path) && !filesBefore.has(path))
    const there = left.filter(path => lstatSync(path, { throwIfNoEntry: false }))
    // what all have together is made again when it is needed
    const isJudged = (line: string) => !isShared(/^file (\S+?)(?:: |\n|$)/.exec(line)?.[1] ?? '')
    const context = { mishap, paths }
    expect({
      ...context,
      added: added.filter(isJudged),
      gone: gone.filter(isJudged),
      there,
    }).toEqual({ ...context, added: [], gone: [], there: [] })
    expect(readFileSync(VICTIM, 'utf8')).toBe(VICTIM_TEXT)
    if (existsSync(attachment.container.path)) attachment.container[Symbol.dispose]()
    return paths
  }
  for (const mishap of mishapsFor(row)) {
    const all = await one(mishap, paths => paths)
    if (isLong) for (let at = 0; at < all.length; at++) await one(mishap, paths => paths.slice(at, at + 1))
  }
  const { container, result: prevResult, steps } = neighbour
  expect(await detach(neighbour, { network, steps, netns: container.path, prevResult })).toEqual([])
  await node.tidy?.(container)
  container[Symbol.dispose]()
}

for (const row of rows) {
  const title = `whatever becomes of its files, DEL frees everything: ${titleOf(row)}`
  if (row.needs) testOn(row.needs, title, () => survives(row))
  else test(title, () => survives(row), 600_000)
}
