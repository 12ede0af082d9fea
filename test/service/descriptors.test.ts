/** A worker lives on where the system refuses a call something: it lets go of all that the call had opened, locks above all. */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { freshNamespace } from '../fixtures/namespace.ts'
import { environmentOf, mustExecute, ourExecutable, ours, stdinOf, type Verb } from '../fixtures/plugin.ts'
import type { Run } from '../hostile/injection/points.ts'
import { heldWorker } from '../hostile/injection/worker-held.ts'

const worker = heldWorker()
beforeAll(() => worker.begin())
afterAll(() => worker.end())

const config = { type: 'ptp', ipam: { type: 'host-local', ranges: [[{ subnet: '10.77.0.0/24' }]] } }

test.each([
  { call: 'fcntl', what: 'a lock on a name' },
  { call: 'statx', what: 'what a file is, such as that of the records' },
])('$what ($call)', async ({ call }) => {
  using container = freshNamespace('descriptors')
  const options = { netns: container, config }
  const runOf = (verb: Verb): Run => ({
    type: 'ptp',
    environment: environmentOf(verb, options, ours),
    stdin: stdinOf(options),
    startsPrograms: false,
  })
  const places = (await worker.placesOf(runOf('ADD'))).filter(place => place.call === call)
  mustExecute(ourExecutable('ptp'), 'DEL', options)
  const found: string[] = []
  let reached = 0
  for (const place of places) {
    if (await worker.runWith(runOf('ADD'), { ...place, error: 'EIO' })) reached++
    found.push(...(await worker.faults()).map(fault => `${call} ${place.nth}: ${fault}`))
    mustExecute(ourExecutable('ptp'), 'DEL', options)
  }
  expect(found).toEqual([])
  expect(reached).toBeGreaterThan(1)
})
