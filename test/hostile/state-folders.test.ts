/**
 * Something else stands where the plugins keep state: in the place of the whole folder, of those in it, or of the lock's file. DEL
 * goes on without what it cannot read, and frees all that it is told of.
 */
import { expect, test } from 'bun:test'
import { lstatSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { attach, detach, hostState } from '../contract/attachment.ts'
import { type Row, rows, titleOf } from '../contract/rows.ts'
import { difference } from '../fixtures/snapshot.ts'
import { testOn } from '../kernel/features.ts'

const FOLDER = '/run/catena'
const LIMIT = 4000 // milliseconds, for two DELs of a whole list
const isLong = process.env.CATENA_LONG !== undefined

const removed = (path: string) => rmSync(path, { recursive: true, force: true })
const command = (...words: string[]) => {
  const { exitCode, stderr } = Bun.spawnSync(words)
  if (exitCode !== 0) throw new Error(`${words.join(' ')}: ${stderr}`)
}

const inPlaceOf: Readonly<Record<string, (path: string) => void>> = {
  nothing: removed,
  'a file': path => {
    removed(path)
    writeFileSync(path, 'no folder')
  },
  'a pipe': path => {
    removed(path)
    command('mkfifo', path)
  },
  'a loop of links': path => {
    removed(path)
    symlinkSync(path, path)
  },
  'a link to nowhere': path => {
    removed(path)
    symlinkSync('/run/none/such', path)
  },
  'a folder that is not empty': path => {
    removed(path)
    mkdirSync(`${path}/theirs`, { recursive: true })
  },
  'a device': path => {
    removed(path)
    command('mknod', path, 'c', '1', '3')
  },
}

const places = [FOLDER, `${FOLDER}/lock`, `${FOLDER}/*`]

/** What every place becomes: the folder itself, its lock, or all that is in it. */
function replaceAt(place: string, kind: string): void {
  const paths = place.endsWith('/*') ? readdirSync(FOLDER).map(name => `${FOLDER}/${name}`) : [place]
  for (const path of paths) inPlaceOf[kind]?.(path)
}

/** In the short form a few, others for each row and place. */
function kindsFor(row: Row, place: string): string[] {
  const kinds = Object.keys(inPlaceOf)
  if (isLong) return kinds
  const first = (rows.indexOf(row) + places.indexOf(place) * 2) % kinds.length
  return kinds.slice(first, first + 1)
}

let networks = 0

async function goesOn(row: Row): Promise<void> {
  const network = `folders-${process.pid}-${++networks}`
  await using node = await row.node()
  const first = await attach(node, network)
  const given = ({ container, steps, result }: typeof first) => ({
    network,
    steps,
    netns: container.path,
    prevResult: result,
  })
  await detach(first, given(first))
  await node.tidy?.(first.container)
  first.container[Symbol.dispose]()
  const isJudged = (line: string) => !/^file .*(\/run\/catena|last_reserved)/.test(line)
  for (const place of places) {
    for (const kind of kindsFor(row, place)) {
      const before = hostState()
      const attachment = await attach(node, network)
      replaceAt(place, kind)
      const start = performance.now()
      const failures = await detach(attachment, given(attachment))
      const again = await detach(attachment, given(attachment))
      const took = performance.now() - start
      await node.tidy?.(attachment.container)
      if (lstatSync(FOLDER, { throwIfNoEntry: false })) removed(FOLDER)
      const after = hostState()
      attachment.container[Symbol.dispose]()
      const { added, gone } = difference(before, after)
      const context = { place, kind }
      expect({
        ...context,
        failures,
        again,
        isSlow: took > LIMIT,
        added: added.filter(isJudged),
        gone: gone.filter(isJudged),
      }).toEqual({ ...context, failures: [], again: [], isSlow: false, added: [], gone: [] })
    }
  }
}

for (const row of rows) {
  const title = `whatever stands in its folders' place, DEL goes on: ${titleOf(row)}`
  if (row.needs) testOn(row.needs, title, () => goesOn(row))
  else test(title, () => goesOn(row), 600_000)
}
