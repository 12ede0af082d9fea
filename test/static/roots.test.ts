/** The executable where there is nothing else: no library, no /proc, no folder. */
import { afterAll, expect, test } from 'bun:test'
import { existsSync } from 'node:fs'
import { plugins } from '../../chain/catena.ts'
import { removeBridges } from '../fixtures/bridge.ts'
import { getHttp, serveHttp } from '../fixtures/http.ts'
import { connect, freshNamespace, hostNamespace } from '../fixtures/namespace.ts'
import { execute, type Outcome, ourExecutable } from '../fixtures/plugin.ts'
import { rootWith } from '../fixtures/root.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'

const names = Object.keys(plugins)
const STARTS = process.env.CATENA_LONG ? 100 : 20
const ipam = { type: 'host-local', ranges: [[{ subnet: '10.79.0.0/24' }]] }

afterAll(removeBridges)

test('to every tool the executable is a static one', () => {
  const describe = (command: string) => {
    const { stdout, stderr } = Bun.spawnSync([command, ourExecutable('catena')])
    return `${stdout}${stderr}`
  }
  expect(describe('file')).toContain('statically linked')
  expect(describe('ldd')).toContain('not a dynamic executable')
})

test(`in an empty root it starts ${STARTS} times of ${STARTS}`, () => {
  using root = rootWith({ names: ['bridge'] })
  const answers = Array.from({ length: STARTS }, () => root.execute('bridge', 'VERSION'))
  const bad = answers.filter(({ status, json, stderr }) => status !== 0 || !json?.supportedVersions || stderr)
  expect(bad).toEqual([])
})

test.each(names)('%s in an empty root answers VERSION, and refuses ADD in words', name => {
  using root = rootWith({ names: [name] })
  expect(root.execute(name, 'VERSION').stdout).toBe(execute(ourExecutable(name), 'VERSION').stdout)
  const { status, json, stderr } = root.execute(name, 'ADD', {
    netns: '/run/netns/none',
    config: { type: name },
  })
  expect({ status, code: json?.code, stderr }).toEqual({ status: 1, code: expect.any(Number), stderr: '' })
  expect(json.msg).toMatch(/\w+ \w+/)
})

test('host-local keeps its reservations in a root that was empty', () => {
  using root = rootWith({ names: ['host-local'] })
  const call = { netns: '/x', config: { type: 'bridge', ipam } }
  const { json } = root.execute('host-local', 'ADD', call)
  expect(json.ips).toEqual([{ address: '10.79.0.2/24', gateway: '10.79.0.1' }])
  expect(existsSync(`${root.path}/var/lib/cni/networks/test-net/10.79.0.2`)).toBe(true)
  expect(root.execute('host-local', 'DEL', call).status).toBe(0)
  expect(existsSync(`${root.path}/var/lib/cni/networks/test-net/10.79.0.2`)).toBe(false)
})

test('with /proc, /sys and /dev/null the chain works, packets included, and leaves nothing', async () => {
  using root = rootWith({
    names: ['bridge', 'host-local', 'tuning', 'portmap'],
    shared: ['proc', 'sys', 'dev/null', 'run/netns'],
  })
  using container = freshNamespace('container')
  using outside = freshNamespace('outside')
  const host = hostNamespace()
  connect(
    { namespace: host, name: 'uplink', addresses: ['192.0.2.1/24'] },
    { namespace: outside, name: 'eth0', addresses: ['192.0.2.2/24'] },
  )
  const before = snapshot()
  const portMappings = [{ hostPort: 8079, containerPort: 80, protocol: 'tcp' }]
  const list = [
    { type: 'bridge', bridge: 'cni79', isDefaultGateway: true, ipMasq: true, ipam },
    { type: 'tuning', sysctl: { 'net.core.somaxconn': '512' } },
    { type: 'portmap', runtimeConfig: { portMappings } },
  ]
  let prevResult: Outcome['json']
  const call = (verb: 'ADD' | 'CHECK' | 'DEL', plugin: (typeof list)[number]) => {
    const outcome = root.execute(plugin.type, verb, { netns: container, config: { ...plugin, prevResult } })
    expect({ verb, type: plugin.type, ...outcome }).toMatchObject({ status: 0, stderr: '' })
    return outcome.json
  }
  for (const plugin of list) prevResult = call('ADD', plugin)
  using _server = serveHttp(container, { port: 80, answer: 'from an empty root' })
  expect(await getHttp(outside, { address: '192.0.2.1', port: 8079 })).toContain('from an empty root')
  for (const plugin of list) call('CHECK', plugin)
  for (const plugin of list.toReversed()) call('DEL', plugin)
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
  removeBridges()
  expect(difference(before, snapshot()).added.filter(line => line.includes('10.79'))).toEqual([])
})

test("another C library's loader, configuration and libraries in the root are none of its business", () => {
  const broken = 'this is no library'
  using root = rootWith({
    names: ['host-local'],
    files: {
      'lib/ld-musl-x86_64.so.1': broken,
      'lib/libc.musl-x86_64.so.1': broken,
      'lib/libc.so.6': broken,
      'lib/libc.so': broken,
      'usr/lib/libstdc++.so.6': broken,
      'lib64/ld-linux-x86-64.so.2': broken,
      'etc/ld-musl-x86_64.path': '/lib',
      'etc/ld.so.preload': '/lib/libc.so.6',
    },
  })
  const { status, json, stderr } = root.execute('host-local', 'ADD', { netns: '/x', config: { ipam } })
  expect({ status, stderr, ips: json?.ips?.length }).toEqual({ status: 0, stderr: '', ips: 1 })
})

test('in a root that is read-only, without /tmp, what writes nothing works and what must says why it cannot', () => {
  using container = freshNamespace()
  using root = rootWith({ names: ['loopback', 'host-local'], shared: ['proc', 'run/netns'], readOnly: true })
  const config = { type: 'loopback' }
  expect(root.execute('loopback', 'ADD', { netns: container, config, interface: 'lo' })).toMatchObject({
    status: 0,
    stderr: '',
  })
  const { status, json, stderr } = root.execute('host-local', 'ADD', { netns: container, config: { ipam } })
  expect({ status, stderr }).toEqual({ status: 1, stderr: '' })
  expect(`${json.msg}: ${json.details}`).toMatch(/read-only/i)
})
