/**
 * Judges what both kernels' runs wrote: `files` lists the files whose tests the first kernel could not run; without it,
 * a test that ran on neither kernel is told, and the exit status is 1.
 */
import { readOutcomes } from './features.ts'

const folder = process.env.CATENA_TEST_RESULTS
const first = readOutcomes(`${folder}/first.jsonl`)
const notHere = first.filter(({ outcome }) => outcome === 'not here')

if (process.argv[2] === 'files') {
  for (const file of new Set(notHere.map(({ file }) => file))) console.log(file)
} else {
  const outcomes = [...first, ...readOutcomes(`${folder}/second.jsonl`)]
  const ran = new Set(outcomes.flatMap(({ id, outcome }) => (outcome === 'ran' ? [id] : [])))
  const nowhere = notHere.filter(({ id }) => !ran.has(id))
  for (const { id, missing } of nowhere)
    console.error(`ran on no kernel, for want of ${missing.join(', ')}: ${id}`)
  if (nowhere.length > 0) process.exitCode = 1
}
