/** Prepares the private host, or the second kernel, that a test runs on: its loopback is up, as on any host. */

import { afterAll, expect } from 'bun:test'
import { mkdirSync } from 'node:fs'
import { setLink } from '../chain/linux/netlink/link.ts'
import { openRoute } from '../chain/linux/netlink/socket.ts'
import { askStatus } from '../chain/service/client.ts'

if (process.env.CATENA_PRIVATE_HOST || process.env.CATENA_TEST_RESULTS) {
  using route = openRoute()
  setLink(route, 'lo', { up: true })
}

/*
 * CATENA_TEST_WARM=1: calls of plugins are made by the executables, and a warm service does them. What the suite says of plugins
 * must hold of these as well; a run in which no call came to the service fails.
 */
if (process.env.CATENA_TEST_WARM && process.env.CATENA_PRIVATE_HOST) {
  mkdirSync('/run/catena', { recursive: true })
  const { stderr } = Bun.spawn([`${import.meta.dir}/../dist/catena`, 'serve', '--workers', '2'], {
    stdin: 'ignore',
    stdout: 'ignore',
    stderr: 'pipe',
  })
  await stderr.getReader().read() // that it serves
  afterAll(() => {
    const { calls = 0, refused } = askStatus() ?? {}
    console.error(
      `the warm service has done ${calls} calls; left to their callers: ${JSON.stringify(refused)}`,
    )
    expect(calls).toBeGreaterThan(0)
  })
}
