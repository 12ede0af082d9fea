/** What the suites say of plugins holds of a warm worker's calls as well: a slice of them, on a host whose warm service does the calls. */
import { expect, test } from 'bun:test'

const root = `${import.meta.dir}/../..`

/** A file of each kind: addresses, main plugins, chained ones by either backend, output, processes that forge answers, races. */
const slice = [
  'main/bridge/gateway',
  'main/ptp',
  'main/tap',
  'ipam/host-local',
  'meta/sbr',
  'meta/portmap/guard',
  'hostile/netlink',
  'hostile/output',
  'hostile/signals',
].map(name => `test/${name}.test.ts`)

/** Of the calls that this slice makes, most: some want a process of their own. */
const MOST = 300

test('a slice of the suites passes where a warm service does the calls', async () => {
  const { CATENA_TEST_RESULTS: _, ...environment } = process.env
  const command = ['bash', `${root}/test/private.sh`, process.execPath, 'test', '--timeout', '30000']
  const run = Bun.spawn([...command, ...slice], {
    cwd: root,
    env: { ...environment, CATENA_TEST_WARM: '1' },
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
  })
  const [said, status] = await Promise.all([run.stderr.text(), run.exited])
  expect(said.match(/^\(fail\).*/gm) ?? []).toEqual([])
  expect(status).toBe(0)
  const [, calls, callers] =
    /has done (\d+) calls, .* workers have ended; left to their callers: (.*)/.exec(said) ?? []
  expect(Number(calls)).toBeGreaterThan(MOST)
  expect(callers).not.toContain('another executable')
}, 120_000)
