/** Whoever is at the system bus's socket, and what he may say: the firewall plugin waits for a while, keeps little, and knows what it does not know. */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { connectSystemBus, ownerOfName, socketsIn } from '../../chain/linux/dbus/connection.ts'
import { startFirewalld } from '../fixtures/dbus.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { mustExecute, ours } from '../fixtures/plugin.ts'

const folder = mkdtempSync('/run/hostile-bus-')
let firewalld: Awaited<ReturnType<typeof startFirewalld>>
beforeAll(async () => {
  firewalld = await startFirewalld()
})
afterAll(async () => {
  await firewalld[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true })
})

const TAKEN_IN = 'DATA\r\nOK 00ff\r\n'
const MEBIBYTE = Buffer.alloc(1024 * 1024, 'l')

/** The head of a message with so many bytes of body. */
function announced(body: number): Buffer {
  const head = Buffer.alloc(16)
  head.set([0x6c, 2, 1, 1])
  head.writeUInt32LE(body, 4)
  return head
}

type Say = (socket: Bun.Socket<undefined>) => void
/** Says it again as often as there is room. */
const forever = (bytes: Uint8Array) => (socket: Bun.Socket<undefined>) => {
  while (socket.write(bytes) === bytes.length);
}

const hosts: { name: string; first: Say; later: Say }[] = [
  { name: 'says nothing', first: () => {}, later: () => {} },
  { name: 'takes us in and says nothing', first: socket => void socket.write(TAKEN_IN), later: () => {} },
  {
    name: 'announces 120 MiB and sends them',
    first(socket) {
      socket.write(TAKEN_IN)
      socket.write(announced(120 * 1024 * 1024))
    },
    later: forever(MEBIBYTE),
  },
  { name: 'sends lines without end', first: forever(MEBIBYTE), later: forever(MEBIBYTE) },
  {
    name: 'sends signals without end',
    first: socket => void socket.write(TAKEN_IN),
    later: forever(Buffer.from([0x6c, 4, 1, 1, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0])),
  },
  { name: 'hangs up', first: socket => void socket.end(), later: () => {} },
]

function listen(at: string, { first, later }: { first: Say; later: Say }) {
  let heard = false
  const data: Say = socket => {
    if (!heard) first(socket)
    heard = true
  }
  return Bun.listen<undefined>({ unix: at, socket: { open() {}, data, drain: later } })
}

const prevResult = (address: string) => ({
  cniVersion: '1.1.0',
  interfaces: [{ name: 'eth0', sandbox: '/x' }],
  ips: [{ address, interface: 0 }],
})

function request(container: Namespace, bus: string, index: number) {
  return {
    netns: container,
    containerId: `${container.name}-${index}`,
    config: { type: 'firewall', backend: 'firewalld', prevResult: prevResult(`10.77.0.${index + 1}/24`) },
    environment: { DBUS_SYSTEM_BUS_ADDRESS: bus },
  }
}

/** Started, not waited for: all of them wait at the same time. */
function start(verb: string, { config, containerId, environment, netns }: ReturnType<typeof request>) {
  return Bun.spawn([`${ours}/firewall`], {
    stdin: Buffer.from(JSON.stringify({ cniVersion: '1.1.0', name: 'test-net', ...config })),
    stdout: 'pipe',
    env: {
      PATH: process.env.PATH ?? '',
      CNI_COMMAND: verb,
      CNI_CONTAINERID: containerId,
      CNI_NETNS: netns.path,
      CNI_IFNAME: 'eth0',
      CNI_PATH: ours,
      ...environment,
    },
  })
}

test('DEL at a bus that does not answer as one fails in seconds, keeps little of what it says, and succeeds later', async () => {
  using container = freshNamespace('bus')
  const calls = hosts.map((host, index) => {
    const real = request(container, firewalld.address, index)
    mustExecute(`${ours}/firewall`, 'ADD', real)
    const at = `${folder}/${index}`
    const fake = listen(at, host)
    return { name: host.name, real, fake, lost: request(container, `unix:path=${at}`, index) }
  })
  const idle = start('DEL', request(container, 'unix:path=/run/none', 200))
  await idle.exited
  const outcomes = calls.map(async ({ name, fake, lost }) => {
    const started = performance.now()
    const child = start('DEL', lost)
    const json = JSON.parse(await new Response(child.stdout).text())
    const status = await child.exited
    fake.stop(true)
    const memory = (child.resourceUsage()?.maxRSS ?? 0) - (idle.resourceUsage()?.maxRSS ?? 0)
    return { name, status, json, seconds: (performance.now() - started) / 1000, memory: memory / 1024 ** 2 }
  })
  for (const outcome of await Promise.all(outcomes)) {
    expect(outcome).toMatchObject({
      status: 1,
      json: { code: 11, msg: expect.stringContaining('the system bus does not answer') },
    })
    expect(outcome.seconds, outcome.name).toBeLessThan(15)
    expect(outcome.memory, outcome.name).toBeLessThan(64) // mebibytes
  }
  for (const [index, { real }] of calls.entries()) {
    const source = `10.77.0.${index + 1}/32`
    expect(await firewalld.hasSource(source)).toBe(true)
    const { config, ...rest } = real
    const { prevResult: _, ...withoutResult } = config
    mustExecute(`${ours}/firewall`, 'DEL', { ...rest, config: withoutResult }) // of its record alone
    expect(await firewalld.hasSource(source)).toBe(false)
  }
})

/** An answer to call `serial` from a sender, with one text. */
function reply(serial: number, sender: string, text: string): Buffer {
  const padded = (bytes: number[], to: number) => [
    ...bytes,
    ...new Array((to - (bytes.length % to)) % to).fill(0),
  ]
  const word = (value: number) => [value & 0xff, value >> 8, 0, 0]
  const string = (value: string) => [...word(value.length), ...Buffer.from(value), 0]
  let fields = [5, 1, 0x75, 0, ...word(serial)]
  fields = [...padded(fields, 8), 7, 1, 0x73, 0, ...string(sender)]
  fields = [...padded(fields, 8), 8, 1, 0x67, 0, 1, 0x73, 0]
  const body = string(text)
  const head = [0x6c, 2, 1, 1, ...word(body.length), ...word(99), ...word(fields.length)]
  return Buffer.from([...padded([...head, ...fields], 8), ...body])
}

test('what another than the bus answers to a question to the bus passes by', async () => {
  const BUS = 'org.freedesktop.DBus'
  const answers = [
    [Buffer.from(TAKEN_IN), reply(1, ':1.66', 'forged'), reply(1, BUS, ':1.7')],
    [reply(2, ':1.66', ':1.66'), reply(2, BUS, ':1.5')],
    [reply(3, ':1.66', 'forged'), reply(3, ':1.5', 'of the one who was asked')],
  ]
  using _server = Bun.listen({
    unix: `${folder}/forged`,
    socket: { data: socket => void socket.write(Buffer.concat(answers.shift() ?? [])) },
  })
  using bus = await connectSystemBus(`unix:path=${folder}/forged`)
  const owner = await ownerOfName(bus, 'org.fedoraproject.FirewallD1')
  expect(owner).toBe(':1.5')
  const call = { destination: ':1.5', path: '/', interface: 'a.b', member: 'C' }
  expect(await bus.call(call)).toEqual(['of the one who was asked'])
})

test('a socket that is another one in each working folder is no address', () => {
  expect(socketsIn('unix:path=run/bus;unix:path=/run/bus')).toEqual(['/run/bus'])
})
