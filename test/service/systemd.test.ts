/** The units of the warm service, and a socket that systemd holds. */
import { afterAll, expect, test } from 'bun:test'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { unitsFor } from '../../chain/cli/shipped.ts'
import { askStatus } from '../../chain/service/client.ts'
import { SOCKET } from '../../chain/service/protocol.ts'
import { ourExecutable } from '../fixtures/plugin.ts'
import { served } from '../fixtures/warm.ts'

const root = `${import.meta.dir}/../..`
const serve = [process.execPath, `${root}/chain/catena.ts`, 'serve', '--workers', '1']

afterAll(() => rmSync(SOCKET, { force: true }))

/** As systemd would with the socket unit: listens, and starts the service when somebody calls. */
async function activated(...options: string[]) {
  mkdirSync('/run/catena', { recursive: true })
  const child = Bun.spawn(['systemd-socket-activate', ...options, ...serve], {
    stderr: 'pipe',
    stdout: 'ignore',
  })
  const reader = child.stderr.getReader()
  let text = ''
  const says = async (words: RegExp) => {
    while (!words.test(text)) {
      const { value, done } = await reader.read()
      if (done) throw new Error(`ended without ${words}: ${text}`)
      text += new TextDecoder().decode(value)
    }
  }
  await says(/Listening on/)
  return {
    says,
    async [Symbol.asyncDispose]() {
      child.kill()
      await child.exited
    },
  }
}

test('systemd finds nothing wrong with the units, which name the folder that plugins are in', () => {
  const folder = mkdtempSync('/run/warm-units-')
  Bun.spawnSync(['ln', '-s', ourExecutable('catena'), `${folder}/catena`])
  const units = Object.entries(unitsFor(folder)).filter(([name]) => name.startsWith('catena-warm'))
  for (const [name, text] of units) writeFileSync(`${folder}/${name}`, text)
  expect(units.map(([, text]) => text).join('')).toContain(`\nExecStart=${folder}/catena serve --idle 600\n`)
  expect(units.map(([, text]) => text).join('')).toContain(`\nListenSequentialPacket=${SOCKET}\n`)
  const verify = ['systemd-analyze', 'verify', '--man=no', ...units.map(([name]) => `${folder}/${name}`)]
  const { exitCode, stdout, stderr } = Bun.spawnSync(verify)
  expect({
    exitCode,
    told: `${stdout}${stderr}`.split('\n').filter(line => line.includes('catena-warm')),
  }).toEqual({
    exitCode: 0,
    told: [],
  })
  rmSync(folder, { recursive: true })
})

test('the first call finds systemd and does not wait; the service takes the socket, and answers the next', async () => {
  await using systemd = await activated('--seqpacket', '-l', SOCKET)
  const started = performance.now()
  served('loopback', 'VERSION') // systemd has begun to listen, or the service has: either way there is no long wait
  expect(performance.now() - started).toBeLessThan(1000)
  await systemd.says(/serving at the socket that systemd holds/)
  expect(askStatus(10_000)?.workers.length).toBe(1)
  expect(served('loopback', 'VERSION')).toMatchObject({ status: 0, json: { cniVersion: '1.1.0' } })
})

test('a socket of another type is a mistake in a unit, and told', async () => {
  await using systemd = await activated('-l', SOCKET)
  Bun.spawnSync([
    process.execPath,
    '-e',
    `await Bun.connect({ unix: '${SOCKET}', socket: { data() {} } }).then(it => it.end())`,
  ])
  await systemd.says(/descriptor 3 is no socket that callers can come to.*ListenSequentialPacket/)
})

test('more than one socket is a mistake too', async () => {
  await using systemd = await activated('--seqpacket', '-l', SOCKET, '-l', '/run/catena/other.sock')
  served('loopback', 'VERSION')
  await systemd.says(/LISTEN_FDS: one socket is expected: got 2/)
})
