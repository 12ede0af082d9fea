/** Prepares the private host, or the second kernel, that a test runs on: its loopback is up, as on any host. */

import { afterAll, beforeEach, expect } from 'bun:test'
import { existsSync, linkSync, lstatSync, mkdirSync } from 'node:fs'
import { setLink } from '../chain/linux/netlink/link.ts'
import { openRoute } from '../chain/linux/netlink/socket.ts'
import { askStatus } from '../chain/service/client.ts'
import { SOCKET } from '../chain/service/protocol.ts'
import { asked, ourExecutable } from './fixtures/plugin.ts'

/** A private host, or the second kernel: nobody else's. */
const isOwnHost = process.env.CATENA_PRIVATE_HOST || process.env.CATENA_TEST_KERNEL === 'second'

if (process.env.CATENA_PRIVATE_HOST || process.env.CATENA_TEST_RESULTS) {
  using route = openRoute()
  setLink(route, 'lo', { up: true })
}

/*
 * CATENA_TEST_WARM=1: calls of plugins are made by the executables, and a warm service does them. What the suite says of plugins
 * must hold of these as well; a run whose calls have not come to the service fails.
 */
if (process.env.CATENA_TEST_WARM && isOwnHost) {
  const folder = SOCKET.slice(0, SOCKET.lastIndexOf('/'))
  mkdirSync(folder, { recursive: true })
  const service = Bun.spawn([ourExecutable('catena'), 'serve', '--workers', '2'], {
    stdin: 'ignore',
    stdout: 'ignore',
    stderr: 'pipe',
  })
  const serves = Promise.withResolvers<void>()
  void tellLog(service.stderr, serves.resolve)
  await serves.promise
  const spare = '/run/warm-service'
  linkSync(SOCKET, spare)
  /** A test has taken it away, as a reboot does, and put nothing in its place. */
  const putBack = () => {
    const there = lstatSync(folder, { throwIfNoEntry: false })
    if (existsSync(SOCKET) || (there && !there.isDirectory())) return
    mkdirSync(folder, { recursive: true })
    linkSync(spare, SOCKET)
  }
  beforeEach(putBack)
  afterAll(() => {
    putBack()
    const { calls = 0, failed, refused, times = [], ended } = askStatus() ?? {}
    const verbs = times.map(({ plugin, verb, calls: count }) => `${plugin} ${verb} ${count}`)
    console.error(
      `the warm service has done ${calls} calls, of which ${failed} failed: ${verbs.join(', ')}; ${ended} workers have ended; left to their callers: ${JSON.stringify(refused)}`,
    )
    if (asked.count > 0) expect(calls).toBeGreaterThan(0)
  })
}

/** Shows what a service warns of; one whose log nobody reads would stand still. The first line says that it serves. */
async function tellLog(log: ReadableStream<Uint8Array>, serves: () => void): Promise<void> {
  const decoder = new TextDecoder()
  for await (const bytes of log) {
    serves()
    for (const line of decoder.decode(bytes).split('\n'))
      if (/worker \d+ has ended|after its caller/.test(line)) console.error(`the warm service says: ${line}`)
  }
  serves()
}
