import { expect, test } from 'bun:test'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { close, duplicate } from '../../../../chain/linux/libc/file.ts'
import { emptyResult } from '../../../../chain/protocol/result.ts'
import { runDaemon } from '../../../../ipam/dhcp/daemon/daemon.ts'
import type { Registry } from '../../../../ipam/dhcp/daemon/registry.ts'
import { serve } from '../../../../ipam/dhcp/daemon/server.ts'
import { stateFolder } from '../../../../ipam/dhcp/daemon/state.ts'
import { callDaemon } from '../../../../ipam/dhcp/rpc/dial.ts'
import { createServerSide } from '../../../../ipam/dhcp/rpc/wire.ts'
import { messageType } from '../../../../ipam/dhcp/v4/packet.ts'
import { dhcp } from '../../../../ipam/dhcp.ts'
import { connect, hostNamespace } from '../../../fixtures/namespace.ts'
import { call, mustCall } from '../../../fixtures/plugin.ts'
import { type Daemon, daemon, daemonAt, dnsmasq, lan, listenOn, udhcpd } from '../network.ts'

function configFor(socket: string, more: object = {}) {
  return { type: 'bridge', ipam: { type: 'dhcp', daemonSocketPath: socket, ...more } }
}

const addressOf = (result: { ips: { address: string }[] }) => result.ips[0]?.address.replace(/\/.*/, '') ?? ''
const filesOf = ({ socket }: Pick<Daemon, 'socket'>) =>
  readdirSync(stateFolder(socket)).filter(name => name !== 'lock')

test.concurrent('a daemon that was restarted goes on with the leases whose interfaces are still there', async () => {
  using network = lan()
  await using _server = await udhcpd(network.namespace, {}, 'option lease 6')
  const first = await daemon()
  const container = network.attach('container')
  const config = configFor(first.socket)
  const result = await mustCall(dhcp, 'ADD', { config, netns: container })
  container.addAddress('eth0', result.ips[0].address)
  expect(await first.end()).toBe(0)
  await using second = await daemonAt(first.socket)
  expect(await second.event('adopted')).toMatchObject({ address: addressOf(result) })
  await mustCall(dhcp, 'CHECK', { config: { ...config, prevResult: result }, netns: container })
  await second.event('renewed')
  await mustCall(dhcp, 'DEL', { config, netns: container })
  expect(filesOf(second)).toEqual([])
})

test.concurrent('the lease of a namespace that went while no daemon ran is given back from the host', async () => {
  using network = lan()
  using host = hostNamespace()
  connect(
    { namespace: host, name: 'lan0', addresses: ['10.9.0.2/24'] },
    { namespace: network.namespace, name: 'host0' },
  )
  network.namespace.run('ip', 'link', 'set', 'host0', 'master', 'br0')
  await using server = await dnsmasq(network.namespace, {})
  const first = await daemon()
  const container = network.attach('container')
  const result = await mustCall(dhcp, 'ADD', { config: configFor(first.socket), netns: container })
  await first.end()
  container[Symbol.dispose]()
  await using second = await daemonAt(first.socket)
  await second.event('released')
  expect(await server.says(/DHCPRELEASE\(br0\) \S+/)).toContain(addressOf(result))
  expect(filesOf(second)).toEqual([])
  host.run('ip', 'link', 'delete', 'lan0')
})

test.concurrent('DEL without a daemon succeeds, and the next daemon gives the address back', async () => {
  using network = lan()
  await using server = await dnsmasq(network.namespace, {})
  const first = await daemon()
  const container = network.attach('container')
  const config = configFor(first.socket)
  await mustCall(dhcp, 'ADD', { config, netns: container })
  await first.end()
  await mustCall(dhcp, 'DEL', { config, netns: container })
  await mustCall(dhcp, 'DEL', { config, netns: undefined })
  await using second = await daemonAt(first.socket)
  await second.event('deleted meanwhile')
  await server.says(/DHCPRELEASE/)
  expect(filesOf(second)).toEqual([])
})

test.concurrent('a namespace that disappears takes nothing with it: its address is given back when it would be renewed', async () => {
  using network = lan()
  using listener = listenOn(network.namespace, 'br0')
  await using _server = await udhcpd(network.namespace, {}, 'option lease 4')
  await using dhcpDaemon = await daemon()
  const container = network.attach('container')
  const result = await mustCall(dhcp, 'ADD', { config: configFor(dhcpDaemon.socket), netns: container })
  container[Symbol.dispose]()
  expect(await dhcpDaemon.event('abandoned')).toMatchObject({ why: 'its namespace has gone' })
  expect((await listener.next(messageType.release)).message.clientAddress).toBe(addressOf(result))
  expect(filesOf(dhcpDaemon)).toEqual([])
})

test.concurrent('CHECK has a server confirm an address that the daemon does not know, and takes no other', async () => {
  using network = lan()
  using listener = listenOn(network.namespace, 'br0')
  await using _server = await dnsmasq(network.namespace, {}, '--dhcp-authoritative')
  const first = await daemon()
  const container = network.attach('container')
  const result = await mustCall(dhcp, 'ADD', { config: configFor(first.socket), netns: container })
  await first.end()
  await using second = await daemon()
  const config = configFor(second.socket)
  await mustCall(dhcp, 'CHECK', { config: { ...config, prevResult: result }, netns: container })
  await second.event('confirmed')
  const foreign = { ...result, ips: [{ address: '10.8.0.7/24' }] }
  const { json } = await call(dhcp, 'CHECK', { config: { ...config, prevResult: foreign }, netns: container })
  expect(json).toMatchObject({ code: 999, msg: expect.stringContaining('which prevResult does not have') })
  await using third = await daemon()
  const refused = await call(dhcp, 'CHECK', {
    config: { ...configFor(third.socket), prevResult: foreign },
    netns: container,
  })
  expect(refused.json.msg).toContain('10.8.0.7 was refused by 10.9.0.1')
  const unnamed = await call(dhcp, 'CHECK', { config: configFor(third.socket), netns: container })
  expect(unnamed.json.msg).toContain('prevResult names no IPv4 address')
  const discovers = listener.heard.filter(each => each.message.options.get(53)?.[0] === messageType.discover)
  // one acquisition; on a busy machine its message may have been sent again
  expect(new Set(discovers.map(({ message }) => message.transaction)).size).toBe(1)
})

test.concurrent('STATUS says 50 without a daemon, and nothing with one', async () => {
  const config = configFor('/run/cni/absent.sock')
  expect((await call(dhcp, 'STATUS', { config })).json).toMatchObject({
    code: 50,
    msg: 'error dialing DHCP daemon: dial unix /run/cni/absent.sock: connect: no such file or directory',
  })
  await using dhcpDaemon = await daemon()
  await mustCall(dhcp, 'STATUS', { config: configFor(dhcpDaemon.socket) })
})

test.concurrent('a socket that accepts and says nothing costs five seconds, and then an error', async () => {
  const silent = Bun.listen({ unix: '/run/cni-silent.sock', socket: { data() {} } })
  try {
    expect((await call(dhcp, 'STATUS', { config: configFor('/run/cni-silent.sock') })).json).toMatchObject({
      code: 50,
      msg: expect.stringContaining('has not greeted in 5 s'),
    })
  } finally {
    silent.stop(true)
  }
})

test.concurrent('ADD without a daemon says what to start', async () => {
  using network = lan()
  const container = network.attach('container')
  const { json } = await call(dhcp, 'ADD', { config: configFor('/run/cni/absent.sock'), netns: container })
  expect(json).toEqual({
    cniVersion: '1.1.0',
    code: 11,
    msg: 'error dialing DHCP daemon: dial unix /run/cni/absent.sock: connect: no such file or directory',
    details: expect.stringContaining('dhcp daemon'),
  })
})

test.concurrent('a DEL while a daemon starts waits for it: no note stays unread', async () => {
  using network = lan()
  await using server = await dnsmasq(network.namespace, {})
  const socket = '/run/cni/starting.sock'
  const first = await daemonAt(socket)
  const config = configFor(socket)
  await mustCall(dhcp, 'ADD', { config, netns: network.attach('container') })
  await first.end()
  const slow = `${stateFolder(socket)}/0123.lease`
  Bun.spawnSync(['mkfifo', slow]) // whoever opens it waits for the other side
  const plugin = `${import.meta.dir}/../../../../ipam/dhcp.ts`
  const second = Bun.spawn([process.execPath, plugin, 'daemon', '-socketpath', socket], { stderr: 'pipe' })
  try {
    const writer = Bun.spawn(['sh', '-c', 'exec 3>"$0"; echo; read _', slow], {
      stdin: 'pipe',
      stdout: 'pipe',
    })
    await writer.stdout.getReader().read() // it takes up leases now
    const deleted = mustCall(dhcp, 'DEL', { config, netns: undefined })
    expect(filesOf(first).filter(name => name.endsWith('.released'))).toEqual([])
    writer.kill()
    await deleted
    await server.says(/DHCPRELEASE/)
    expect(filesOf(first)).toEqual([])
  } finally {
    second.kill('SIGKILL')
  }
})

test.concurrent('GC gives back the leases of its network that no valid attachment has', async () => {
  using network = lan()
  await using server = await dnsmasq(network.namespace, {})
  await using dhcpDaemon = await daemon()
  const config = configFor(dhcpDaemon.socket)
  for (const containerId of ['alive', 'dead']) {
    await mustCall(dhcp, 'ADD', { config, netns: network.attach(containerId), containerId })
  }
  const other = { ...config, name: 'another-net' }
  await mustCall(dhcp, 'ADD', { config: other, netns: network.attach('other'), containerId: 'other' })
  const valid = [{ containerID: 'alive', ifname: 'eth0' }]
  await mustCall(dhcp, 'GC', { config: { ...config, 'cni.dev/valid-attachments': valid } })
  expect(await dhcpDaemon.event('released')).toMatchObject({ container: 'dead' })
  await server.says(/DHCPRELEASE/)
  expect(filesOf(dhcpDaemon)).toHaveLength(2)
})

test.concurrent('a plugin that is killed while it waits leaves no address behind', async () => {
  using network = lan()
  using listener = listenOn(network.namespace, 'br0')
  await using dhcpDaemon = await daemon()
  const container = network.attach('container')
  const plugin = Bun.spawn([process.execPath, `${import.meta.dir}/../../../../ipam/dhcp.ts`], {
    stdin: Buffer.from(
      JSON.stringify({ cniVersion: '1.1.0', name: 'test-net', ...configFor(dhcpDaemon.socket) }),
    ),
    env: {
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: 'killed',
      CNI_NETNS: container.path,
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/',
    },
  })
  await listener.next(messageType.discover)
  plugin.kill('SIGKILL')
  await dhcpDaemon.event('hung up')
  await dhcpDaemon.event('released')
  expect(filesOf(dhcpDaemon)).toEqual([])
})

test.concurrent('a socket that a killed daemon left is replaced, one that answers is not', async () => {
  const path = '/run/cni-left.sock'
  const left = Bun.spawn(
    [
      process.execPath,
      '-e',
      `Bun.listen({ unix: '${path}', socket: { data() {} } }); console.log('listens')`,
    ],
    { stdout: 'pipe' },
  )
  await left.stdout.getReader().read()
  const words: string[] = []
  const io = { env: {}, pid: 1, stderr: (text: string) => void words.push(text), onEnd: () => undefined }
  expect(await runDaemon(['-socketpath', path], io)).toBe(1)
  expect(words.join('')).toContain('somebody answers at /run/cni-left.sock already')
  left.kill('SIGKILL')
  await left.exited
  expect(existsSync(path)).toBe(true)
  const dhcpDaemon = await daemonAt(path)
  await mustCall(dhcp, 'STATUS', { config: configFor(path) })
  await dhcpDaemon.end()
  expect(existsSync(path)).toBe(false)
})

test.concurrent('a daemon that is killed has lost nothing, and the next one takes its place', async () => {
  using network = lan()
  await using server = await dnsmasq(network.namespace, {})
  const socket = '/run/cni/killed.sock'
  const file = `${import.meta.dir}/../../../../ipam/dhcp.ts`
  const first = Bun.spawn([process.execPath, file, 'daemon', '-socketpath', socket], { stderr: 'pipe' })
  await first.stderr.getReader().read()
  const container = network.attach('container')
  const config = configFor(socket)
  const result = await mustCall(dhcp, 'ADD', { config, netns: container })
  first.kill('SIGKILL')
  await first.exited
  await using second = await daemonAt(socket)
  expect(await second.event('adopted')).toMatchObject({ address: addressOf(result) })
  await mustCall(dhcp, 'CHECK', { config: { ...config, prevResult: result }, netns: container })
  await mustCall(dhcp, 'DEL', { config, netns: container })
  await server.says(/DHCPRELEASE/)
})

test.concurrent('a daemon in a container finds socket, namespaces and leases under its prefix', async () => {
  using network = lan()
  await using _server = await dnsmasq(network.namespace, {})
  mkdirSync('/run/host/run', { recursive: true })
  mkdirSync('/run/host/var/lib/cni', { recursive: true })
  symlinkSync('/run/netns', '/run/host/run/netns')
  const socket = '/run/cni/prefixed.sock'
  await using dhcpDaemon = await daemonAt(socket, '-hostprefix', '/run/host')
  const container = network.attach('container')
  const config = configFor(`/run/host${socket}`)
  await mustCall(dhcp, 'ADD', { config, netns: container })
  expect(readdirSync(`/run/host${stateFolder(socket)}`).filter(name => name.endsWith('.lease'))).toHaveLength(
    1,
  )
  await mustCall(dhcp, 'DEL', { config, netns: container })
  await dhcpDaemon.event('released')
})

test.concurrent('servers are asked to broadcast when the daemon is told so', async () => {
  using network = lan()
  using listener = listenOn(network.namespace, 'br0')
  await using _server = await dnsmasq(network.namespace, {})
  await using dhcpDaemon = await daemon('-broadcast')
  await mustCall(dhcp, 'ADD', { config: configFor(dhcpDaemon.socket), netns: network.attach('container') })
  expect((await listener.next(messageType.discover)).message.broadcast).toBe(true)
})

test.concurrent('two daemons do not keep the same leases', async () => {
  await using dhcpDaemon = await daemon()
  const words: string[] = []
  const io = { env: {}, pid: 1, stderr: (text: string) => void words.push(text), onEnd: () => undefined }
  expect(await runDaemon(['-socketpath', dhcpDaemon.socket], io)).toBe(1)
  expect(JSON.parse(words.join(''))).toMatchObject({
    event: 'failed to start',
    error: `another daemon keeps the leases of ${dhcpDaemon.socket}`,
  })
})

test.concurrent('the pid file holds the number of the process, and goes with it', async () => {
  const dhcpDaemon = await daemon('--pidfile=/run/dhcp.pid')
  expect(readFileSync('/run/dhcp.pid', 'utf8')).toBe(String(process.pid))
  await dhcpDaemon.end()
  expect(existsSync('/run/dhcp.pid')).toBe(false)
})

test.concurrent('on a disk that takes no change a lease that is lost is not used all the same, and DEL says why it cannot forget it', async () => {
  using network = lan()
  const server = await udhcpd(network.namespace, {}, 'option lease 2')
  const socket = '/run/cni/read-only.sock'
  const folder = stateFolder(socket)
  mkdirSync(folder, { recursive: true })
  const mount = (...words: string[]) => Bun.spawnSync(['mount', ...words])
  mount('-t', 'tmpfs', 'state', folder)
  await using dhcpDaemon = await daemonAt(socket)
  const container = network.attach('container')
  const config = configFor(socket)
  await mustCall(dhcp, 'ADD', { config, netns: container })
  mount('-o', 'remount,ro', folder)
  await server[Symbol.asyncDispose]()
  await dhcpDaemon.event('lost')
  expect(container.link('eth0').up).toBe(false)
  expect((await dhcpDaemon.event('error')).error).toContain('EROFS')
  const { json } = await call(dhcp, 'DEL', { config, netns: container })
  expect(json.msg).toContain('EROFS')
  mount('-o', 'remount,rw', folder)
  await mustCall(dhcp, 'DEL', { config, netns: container })
  expect(filesOf(dhcpDaemon)).toEqual([])
})

test.concurrent('what cannot be said to a plugin is given back, and others are answered', async () => {
  const given = { ...emptyResult(), routes: [{ dst: '10.0.0.0/8', priority: Number.MAX_SAFE_INTEGER }] }
  const events: string[] = []
  const released = Promise.withResolvers<string>()
  const registry: Registry = {
    allocate: async () => given,
    check: async () => emptyResult(),
    release: ({ containerId }) => released.resolve(containerId),
    resume: () => undefined,
    close: () => undefined,
  }
  const server = serve({ unix: '/run/cni-unsayable.sock' }, registry, event => void events.push(event))
  const call = { containerId: 'c1', netns: '', ifname: 'eth0', args: '', path: '', stdin: '{}' }
  await expect(callDaemon('/run/cni-unsayable.sock', 'DHCP.Allocate', call)).rejects.toThrow('hung up')
  expect(await released.promise).toBe('c1')
  expect(await callDaemon('/run/cni-unsayable.sock', 'DHCP.Check', call)).toEqual(emptyResult())
  expect(events).toEqual(['error', 'hung up'])
  server.stop()
})

/** A daemon that hangs up on who asks for a lease, or gives one without addresses; answers whose leases it was given back. */
function carelessDaemon(unix: string, { hangsUp }: { hangsUp: boolean }) {
  const released: string[] = []
  const listener = Bun.listen<ReturnType<typeof createServerSide>>({
    unix,
    socket: {
      open(socket) {
        socket.data = createServerSide()
      },
      data(socket, bytes) {
        const { reply, asked } = socket.data.receive(bytes)
        socket.write(reply)
        for (const each of asked) {
          if (each.method === 'DHCP.Release') released.push(each.call.containerId)
          if (each.method === 'DHCP.Allocate' && hangsUp) socket.end()
          else socket.write(socket.data.answer(each, emptyResult()))
        }
      },
    },
  })
  return { released, [Symbol.dispose]: () => listener.stop(true) }
}

test.concurrent.each([
  { name: 'whose answer is lost', hangsUp: true, says: 'hung up' },
  { name: 'that the runtime cannot be told of', hangsUp: false, says: '0.2.0' },
])('a lease $name is given back', async ({ name, hangsUp, says }) => {
  const socket = `/run/cni-${name.replaceAll(' ', '-')}.sock`
  using careless = carelessDaemon(socket, { hangsUp })
  const config = { ...configFor(socket), cniVersion: '0.2.0' }
  const failed = await call(dhcp, 'ADD', { config, netns: '/run/netns/any', containerId: 'given-back' })
  expect({ status: failed.status, released: careless.released }).toEqual({
    status: 1,
    released: ['given-back'],
  })
  expect(failed.json.msg).toContain(says)
})

test.concurrent('a torn lease file is told and removed', async () => {
  const first = await daemon()
  await first.end()
  writeFileSync(`${stateFolder(first.socket)}/0123.lease`, '{"version":1,"conta')
  await using second = await daemonAt(first.socket)
  expect(await second.event('unreadable')).toMatchObject({ file: expect.stringContaining('0123.lease') })
  expect(filesOf(second)).toEqual([])
})

/** A socket that listens, and at which nothing in this process accepts. */
function listeningSocket(path: string): number {
  const listener = Bun.listen({ unix: `${path}.new`, socket: { data() {} } })
  const descriptor = duplicate((listener as unknown as { fd: number }).fd)
  renameSync(`${path}.new`, path) // the name that it was bound to goes when it stops
  listener.stop(true)
  return descriptor
}

test.concurrent('systemd hands the socket over', async () => {
  const folder = `${import.meta.dir}/../../../../ipam/dhcp/daemon`
  const listener = `/run/cni-systemd.sock`
  const program = `
    import { runDaemon } from '${folder}/daemon.ts'
    import { processService } from '${folder}/main.ts'
    const service = processService()
    process.exitCode = await runDaemon(['-socketpath', '${listener}'], { ...service, env: { LISTEN_PID: String(service.pid), LISTEN_FDS: '1' } })`
  const descriptor = listeningSocket(listener)
  const child = Bun.spawn([process.execPath, '-e', program], {
    stdio: ['ignore', 'inherit', 'pipe', descriptor],
  })
  close(descriptor)
  try {
    const { value } = await child.stderr.getReader().read()
    expect(JSON.parse(Buffer.from(value ?? []).toString())).toMatchObject({
      event: 'started',
      socket: 'descriptor 3',
    })
    await mustCall(dhcp, 'STATUS', { config: configFor(listener) })
    child.kill('SIGTERM')
    expect(await child.exited).toBe(0)
    expect(existsSync(listener)).toBe(true)
  } finally {
    child.kill('SIGKILL')
  }
})

// what follows is not run beside others: it keeps the machine busy, or changes the process

test('hundreds of containers get their addresses at once', async () => {
  using network = lan()
  await using _server = await dnsmasq(
    network.namespace,
    { first: '10.9.0.3', last: '10.9.0.254' },
    '--dhcp-lease-max=1000',
  )
  await using dhcpDaemon = await daemon('-timeout', '2s')
  const config = configFor(dhcpDaemon.socket)
  const containers = Array.from({ length: 200 }, (_, index) => network.attach(`many-${index}`))
  const results = await Promise.all(
    containers.map((netns, index) => mustCall(dhcp, 'ADD', { config, netns, containerId: `c${index}` })),
  )
  expect(new Set(results.map(addressOf)).size).toBe(200)
  await Promise.all(
    containers.map((netns, index) => mustCall(dhcp, 'DEL', { config, netns, containerId: `c${index}` })),
  )
  expect(filesOf(dhcpDaemon)).toEqual([])
}, 60_000)

test('root alone may call, whatever the umask; whoever talks nonsense is hung up on and told once', async () => {
  const before = process.umask(0)
  const dhcpDaemon = await daemon()
  process.umask(before)
  await using _daemon = dhcpDaemon
  expect(statSync(dhcpDaemon.socket).mode & 0o777).toBe(0o660)
  const closed = Promise.withResolvers<void>()
  const socket = await Bun.connect({
    unix: dhcpDaemon.socket,
    socket: { data() {}, close: () => closed.resolve(), error() {} },
  })
  socket.write(Buffer.alloc(20_000, 65))
  await closed.promise
  expect(dhcpDaemon.events.filter(({ event }) => event === 'error')).toHaveLength(1)
  await mustCall(dhcp, 'STATUS', { config: configFor(dhcpDaemon.socket) })
})
