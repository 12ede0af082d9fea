/** The service's life: one at a time, its socket, workers that come and go, and its end. */
import { afterEach, expect, test } from 'bun:test'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { close } from '../../chain/linux/libc/file.ts'
import { bindPackets, listen } from '../../chain/linux/libc/unix-socket.ts'
import { askStatus } from '../../chain/service/client.ts'
import { SOCKET } from '../../chain/service/protocol.ts'
import { removeBridges } from '../fixtures/bridge.ts'
import { freshNamespace } from '../fixtures/namespace.ts'
import { environmentOf, stdinOf } from '../fixtures/plugin.ts'
import { slowIpam } from '../fixtures/slow-ipam.ts'
import { served, serving, warmService } from '../fixtures/warm.ts'

afterEach(() => {
  rmSync(SOCKET, { force: true, recursive: true })
  removeBridges()
})

/** A caller in another process, with an IPAM plugin that takes its time. */
function slowCaller(ipam: { path: string }, container: { path: string }, containerId = 'slow') {
  const config = { type: 'bridge', bridge: 'life0', ipam: { type: 'slow' } }
  const call = { config, netns: container, containerId, path: ipam.path }
  return Bun.spawn([process.execPath, `${import.meta.dir}/caller.ts`, 'bridge', 'insist'], {
    env: environmentOf('ADD', call, ipam.path),
    stdin: Buffer.from(stdinOf(call)),
  })
}

/** Whether anybody takes a call that has nothing to it. */
const version = () => served('loopback', 'VERSION')

async function refusal(prepare: () => unknown): Promise<{ status: number; log: string }> {
  mkdirSync('/run/catena', { recursive: true })
  prepare()
  const child = serving([])
  const log = await child.stderr.text()
  return { status: await child.exited, log }
}

test('a second service says who is the first, and leaves it alone', async () => {
  await using service = await warmService('--workers', '1')
  const { status, log } = await refusal(() => {})
  expect({ status, log }).toEqual({
    status: 1,
    log: expect.stringMatching(
      new RegExp(`cannot serve: another service is running: process ${service.pid} \\(`),
    ),
  })
  expect(service.call('loopback', 'VERSION')).toMatchObject({ status: 0 })
})

test('a socket at which nothing listens any more is replaced, and only root may call', async () => {
  mkdirSync('/run/catena', { recursive: true })
  close(bindPackets(SOCKET))
  await using service = await warmService('--workers', '1')
  expect(service.log()).toContain('in the place of one at which nothing listened')
  expect(statSync(SOCKET).mode & 0o777).toBe(0o600)
})

test('a killed service leaves a socket, and the next one begins', async () => {
  await (await warmService('--workers', '1')).end('SIGKILL')
  expect(existsSync(SOCKET)).toBe(true)
  await using service = await warmService('--workers', '1')
  expect(service.call('loopback', 'VERSION')).toMatchObject({ status: 0 })
})

test.each([
  ['a file', () => writeFileSync(SOCKET, ''), /warm\.sock is there, and is no socket/],
  ['a folder', () => mkdirSync(SOCKET), /warm\.sock is there, and is no socket/],
  ['a service without its lock', () => listen(bindPackets(SOCKET), 1), /process \d+ listens at .* already/],
])('%s in the place of the socket is told, and stays', async (_, prepare, words) => {
  expect(await refusal(prepare)).toEqual({ status: 1, log: expect.stringMatching(words) })
  expect(existsSync(SOCKET)).toBe(true)
})

test('where /run is read-only the service says so and ends', async () => {
  const script = 'mount --bind /run /run && mount -o remount,bind,ro /run && exec "$@"'
  const command = [process.execPath, `${import.meta.dir}/../../chain/catena.ts`, 'serve']
  const child = Bun.spawn(['unshare', '--mount', 'sh', '-c', script, 'sh', ...command], { stderr: 'pipe' })
  expect(await child.stderr.text()).toMatch(/cannot serve: cannot make .*: .*EROFS.*mounted read-only/)
  expect(await child.exited).toBe(1)
})

test('asked to end, the service takes no more calls and lets the one in hand come to its end', async () => {
  const service = await warmService('--workers', '2')
  using container = freshNamespace('life')
  using ipam = slowIpam()
  const adding = slowCaller(ipam, container)
  await ipam.begun()
  const ended = service.end('SIGTERM')
  await service.logged(/ending: SIGTERM/)
  expect(version()).toBeUndefined()
  expect(existsSync(SOCKET)).toBe(false)
  ipam.answer()
  expect(JSON.parse(await adding.stdout.text())).toMatchObject({ answer: { status: 0, by: 'service' } })
  expect(await ended).toBe(0)
  expect(service.log()).toContain('ended: SIGTERM')
})

test('while all workers are busy there are more of them, which end when they are not needed', async () => {
  await using service = await warmService('--workers', '1', '--most', '3', '--rest', '0.3')
  using container = freshNamespace('life')
  using ipam = slowIpam()
  const adding = slowCaller(ipam, container)
  await ipam.begun()
  expect(service.status().workers.length).toBeGreaterThan(1) // another than the one that is busy has answered
  expect(service.status().workers).toContainEqual(
    expect.objectContaining({ state: 'busy', plugin: 'bridge', verb: 'ADD' }),
  )
  ipam.answer()
  await adding.exited
  await service.logged(/one fewer: 1 /)
  expect(service.call('loopback', 'VERSION')).toMatchObject({ status: 0 })
})

test('a worker that is never to rest waits without doing anything', async () => {
  await using service = await warmService('--workers', '1', '--most', '1', '--rest', '0')
  const worker = service.status().workers[0]?.process ?? 0
  const ticks = () => {
    const text = readFileSync(`/proc/${worker}/stat`, 'utf8')
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ') // proc_pid_stat(5): utime and stime at 11 and 12
    return Number(fields[11]) + Number(fields[12])
  }
  const before = ticks()
  await pause(500)
  expect(ticks() - before).toBeLessThan(15) // hundredths of a second
  expect(service.call('loopback', 'VERSION')).toMatchObject({ status: 0 })
})

test('a worker makes room for a fresh one after its calls', async () => {
  await using service = await warmService('--workers', '1', '--calls', '2', '--most', '1')
  const first = service.status().workers[0]?.process
  for (let call = 0; call < 2; call++)
    expect(service.call('loopback', 'VERSION')).toMatchObject({ status: 0 })
  const next = askStatus(10_000)
  expect(next).toMatchObject({ started: 2, ended: 1, calls: 2 })
  expect(next?.workers[0]?.process).not.toBe(first)
  expect(service.log()).not.toContain('has ended')
  await service.logged(/makes room for a fresh one after 2 calls/)
})

test('a worker that is killed gives its caller an error to try again, is told of, and is replaced', async () => {
  await using service = await warmService('--workers', '1', '--most', '1')
  using container = freshNamespace('life')
  using ipam = slowIpam()
  const worker = service.status().workers[0]?.process ?? 0
  const adding = slowCaller(ipam, container)
  await ipam.begun()
  process.kill(worker, 'SIGKILL')
  const { answer } = JSON.parse(await adding.stdout.text())
  expect({ status: answer.status, error: JSON.parse(answer.stdout) }).toMatchObject({
    status: 1,
    error: { code: 11, msg: 'the service ended before this call did' },
  })
  await service.logged(new RegExp(`worker ${worker} has ended by SIGKILL in ADD of bridge`))
  expect(askStatus(10_000)?.workers[0]?.process).not.toBe(worker)
  ipam.answer()
})

test('a service that is not called ends', async () => {
  const service = await warmService('--workers', '1', '--idle', '0.2')
  await service.logged(/ended: no call has come for 0.2 s/)
  expect(await service.end()).toBe(0)
})

test('a service whose executable was replaced ends, once somebody calls who was started from the new one', async () => {
  const folder = '/run/replaced'
  mkdirSync(folder)
  copyFileSync(process.execPath, `${folder}/bun`)
  const service = await warmService('--workers', '1', {
    command: [`${folder}/bun`, `${import.meta.dir}/../../chain/catena.ts`],
  })
  copyFileSync(process.execPath, `${folder}/new`)
  renameSync(`${folder}/new`, `${folder}/bun`)
  expect(version()).toBeUndefined()
  await service.logged(/ended: its executable has been replaced/)
  expect(await service.end()).toBe(0)
  rmSync(folder, { recursive: true })
})
