/** Who holds a lock may be slow, hang, or be killed: others wait, say who it is, or take over; and where nothing can be written, DEL works. */
import { afterAll, afterEach, describe, expect, test } from 'bun:test'
import { existsSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { patience, takeLock } from '../../chain/linux/lock.ts'
import { removeLink } from '../../chain/linux/netlink/link.ts'
import type { Plugin } from '../../chain/plugin/define.ts'
import { hostLocal } from '../../ipam/host-local.ts'
import { bridge } from '../../main/bridge.ts'
import { firewall } from '../../meta/firewall.ts'
import { portmap } from '../../meta/portmap.ts'
import { sbr } from '../../meta/sbr.ts'
import { tuning } from '../../meta/tuning.ts'
import { removeBridges } from '../fixtures/bridge.ts'
import { choose } from '../fixtures/iptables.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import {
  type Call,
  call,
  mustCall,
  mustExecute,
  ourExecutable,
  start,
  type Verb,
} from '../fixtures/plugin.ts'
import { slowIpam } from '../fixtures/slow-ipam.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'

afterAll(removeBridges)

const usual = patience.milliseconds
afterEach(() => {
  patience.milliseconds = usual
})

const config = { type: 'bridge', bridge: 'locks0', ipam: { type: 'slow' } }

function callFor(container: Namespace, ipam: { path: string }): Call {
  return { netns: container, containerId: container.name, config, path: ipam.path }
}

/** Of calls that are to be processes of their own: their descriptors are looked at, or what they had started outlives them. */
const own = { environment: { CATENA_WARM: 'off' } }

/** Comes back when a process has opened the file of the names that are held. */
async function waiting(pid: number): Promise<void> {
  const opened = () =>
    readdirSync(`/proc/${pid}/fd`).map(name => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${name}`)
      } catch {
        return '' // closed meanwhile
      }
    })
  while (!opened().includes('/run/catena/lock')) await pause(2)
}

describe('a second ADD', () => {
  test('waits for one that is at work, and is refused then; what the first one made stays', async () => {
    using container = freshNamespace('locks')
    using ipam = slowIpam()
    const options = callFor(container, ipam)
    const first = start(ourExecutable('bridge'), 'ADD', options)
    await ipam.begun()
    const second = start(ourExecutable('bridge'), 'ADD', options)
    await waiting(second.pid)
    ipam.answer()
    expect(await first.ended).toMatchObject({ status: 0, json: { ips: [{ address: '10.61.0.2/24' }] } })
    expect(await second.ended).toMatchObject({
      status: 1,
      json: { msg: expect.stringContaining('already exists') },
    })
    expect(container.addresses('eth0')).toEqual(['10.61.0.2/24'])
    mustExecute(ourExecutable('bridge'), 'DEL', options)
    expect(ipam.calls()).toEqual(['ADD', 'DEL'])
  })

  test('takes over when the first one is killed, whose addresses are given back', async () => {
    using container = freshNamespace('locks')
    using ipam = slowIpam()
    const options = { ...callFor(container, ipam), ...own }
    const first = start(ourExecutable('bridge'), 'ADD', options)
    await ipam.begun()
    const second = start(ourExecutable('bridge'), 'ADD', options)
    await waiting(second.pid)
    process.kill(first.pid, 'SIGKILL')
    await first.ended
    await ipam.begun()
    ipam.answer()
    ipam.answer()
    expect(await second.ended).toMatchObject({ status: 0 })
    mustExecute(ourExecutable('bridge'), 'DEL', options)
    expect(ipam.calls()).toEqual(['ADD', 'DEL', 'ADD', 'DEL'])
  })

  test('and DEL and CHECK, say in the end who is at work, with code 11', async () => {
    using container = freshNamespace('locks')
    using ipam = slowIpam()
    const options = callFor(container, ipam)
    const first = start(ourExecutable('bridge'), 'ADD', options)
    await ipam.begun()
    patience.milliseconds = 60
    const who = process.env.CATENA_TEST_WARM
      ? 'process \\d+ \\(a worker: catena serve --status says at what\\)'
      : `process ${first.pid} \\(.*/bridge, ADD, running for \\d+ s\\)`
    for (const verb of ['ADD', 'DEL', 'CHECK'] as const) {
      expect(await call(bridge, verb, options)).toMatchObject({
        status: 1,
        json: {
          code: 11,
          msg: expect.stringMatching(
            new RegExp(`^eth0 of container ${container.name} for bridge is locked by ${who}`),
          ),
        },
      })
    }
    expect(
      await call(bridge, 'GC', { ...options, config: { ...config, 'cni.dev/valid-attachments': [] } }),
    ).toMatchObject({
      json: {
        code: 11,
        msg: expect.stringMatching(new RegExp(`^network test-net for bridge is locked by ${who}`)),
      },
    })
    ipam.answer()
    expect(await first.ended).toMatchObject({ status: 0 })
    mustExecute(ourExecutable('bridge'), 'DEL', options)
  })

  test.each([
    { what: 'another network', type: 'macvlan', more: { name: 'other-net' }, containerId: 'one' },
    { what: 'another plugin', type: 'ptp', more: {}, containerId: 'one' },
    { what: 'another container ID', type: 'macvlan', more: {}, containerId: 'two' },
  ])(
    'of $what for the same interface takes nothing from the first one',
    async ({ type, more, containerId }) => {
      using host = hostNamespace()
      using container = freshNamespace('locks')
      using ipam = slowIpam()
      host.createLink({ name: 'locks-master', kind: { type: 'bridge' } })
      const given = { type: 'macvlan', master: 'locks-master', ipam: { type: 'slow' } }
      const options = { netns: container, containerId: 'one', config: given, path: ipam.path }
      const first = start(ourExecutable('macvlan'), 'ADD', options)
      await ipam.begun()
      const second = start(ourExecutable(type), 'ADD', {
        ...options,
        ...own,
        containerId,
        config: { ...given, type, ...more },
      })
      await waiting(second.pid)
      ipam.answer()
      expect(await first.ended).toMatchObject({ status: 0 })
      expect(await second.ended).toMatchObject({
        status: 1,
        json: { msg: expect.stringContaining('eth0 already exists') },
      })
      expect(container.addresses('eth0')).toEqual(['10.61.0.2/24'])
      mustExecute(ourExecutable('macvlan'), 'DEL', options)
      expect(ipam.calls()).toEqual(['ADD', 'DEL'])
      removeLink(host.route, 'locks-master')
    },
  )

  test('of another container does not wait', async () => {
    using container = freshNamespace('locks')
    using other = freshNamespace('locks')
    using ipam = slowIpam()
    const first = start(ourExecutable('bridge'), 'ADD', callFor(container, ipam))
    await ipam.begun()
    patience.milliseconds = -1
    const options = { netns: other, containerId: other.name, config: { ...config, ipam: {} } }
    await mustCall(bridge, 'ADD', options)
    await mustCall(bridge, 'DEL', options)
    ipam.answer()
    await first.ended
    mustExecute(ourExecutable('bridge'), 'DEL', callFor(container, ipam))
  })
})

const prevResult = {
  cniVersion: '1.1.0',
  interfaces: [{ name: 'eth0', sandbox: '/run/netns/x' }],
  ips: [{ address: '10.61.0.7/24', interface: 0 }],
}
const ports = { runtimeConfig: { portMappings: [{ hostPort: 8061, containerPort: 80, protocol: 'tcp' }] } }
const ranges = { type: 'host-local', subnet: '10.61.0.0/24' }

describe('a lock that hangs', () => {
  test.each<{ lock: string; plugin: Plugin; given: object; verbs?: Verb[] }>([
    { lock: '/run/catena/nftables/lock', plugin: portmap, given: { ...ports, prevResult } },
    {
      lock: '/run/catena/iptables/lock',
      plugin: portmap,
      given: { backend: 'iptables', ...ports, prevResult },
    },
    {
      lock: '/run/catena/iptables/lock',
      plugin: firewall,
      verbs: ['ADD'],
      given: { backend: 'iptables', prevResult },
    },
    { lock: '/var/lib/cni/networks/test-net/lock', plugin: hostLocal, given: { ipam: ranges } },
  ])(
    '$lock stops $plugin.name for a while, and is named then with code 11',
    async ({ lock, plugin, given, verbs = ['ADD', 'DEL'] }) => {
      const options = { netns: '/run/netns/none', config: given }
      const added = await call(plugin, 'ADD', { ...options, containerId: 'before' })
      expect(added.status).toBe(0)
      {
        using _held = takeLock(lock)
        patience.milliseconds = 60
        for (const verb of verbs) {
          expect(await call(plugin, verb, options)).toMatchObject({
            status: 1,
            json: { code: 11, msg: expect.stringContaining(`${lock} is locked by process ${process.pid} (`) },
          })
        }
      }
      patience.milliseconds = usual
      await mustCall(plugin, 'DEL', options)
      await mustCall(plugin, 'DEL', { ...options, containerId: 'before' })
    },
  )

  test('of the older iptables stops portmap for a while, and is named then with code 11', async () => {
    using _tools = choose('legacy')
    const options = { netns: '/run/netns/none', config: { backend: 'iptables', ...ports, prevResult } }
    await mustCall(portmap, 'ADD', options)
    {
      using _held = takeLock('/run/xtables.lock')
      patience.milliseconds = 60 // the tools count in seconds
      for (const verb of ['ADD', 'DEL'] as const) {
        expect(await call(portmap, verb, options)).toMatchObject({
          status: 1,
          json: {
            code: 11,
            msg: expect.stringContaining(`/run/xtables.lock is locked by process ${process.pid} (`),
          },
        })
      }
    }
    patience.milliseconds = usual
    await mustCall(portmap, 'DEL', options)
  })

  test('on its own namespace, by a process of the container, stops no call', async () => {
    using container = freshNamespace('locks')
    using other = freshNamespace('locks')
    other.createLink({ name: 'eth0', kind: { type: 'veth', peer: { name: 'eth1' } } }, '10.61.0.7/24')
    const script = 'exec 9</proc/self/ns/net; flock -x 9; echo; read'
    const guest = Bun.spawn(['nsenter', `--net=${other.path}`, 'bash', '-c', script], {
      stdin: 'pipe',
      stdout: 'pipe',
    })
    await guest.stdout.getReader().read()
    patience.milliseconds = -1
    await mustCall(sbr, 'ADD', { netns: other, containerId: container.name, config: { prevResult } })
    guest.stdin.end()
    await guest.exited
  })
})

/** The state folder as a file system of its own, in which no file can be made any more. */
function fullState() {
  const place = '/run/catena'
  Bun.spawnSync(['mkdir', '-p', place])
  Bun.spawnSync(['mount', '-t', 'tmpfs', '-o', 'nr_inodes=200', 'none', place])
  return {
    fill() {
      Bun.spawnSync(['find', place, '-name', 'lock', '-delete'])
      Bun.spawnSync(['bash', '-c', `for name in {1..200}; do mkdir ${place}/filler-$name || exit 0; done`])
      expect(() => writeFileSync(`${place}/one-more`, '')).toThrow('ENOSPC')
    },
    [Symbol.dispose]: () => void Bun.spawnSync(['umount', place]),
  }
}

describe('where the state folder is full, without its locks', () => {
  const attachment = { ...prevResult, interfaces: [{ name: 'eth0', sandbox: '' }] }

  test.each([
    {
      plugin: bridge,
      backend: 'nftables',
      given: { bridge: 'locks0', ipMasq: true, macspoofchk: true, ipam: ranges },
    },
    {
      plugin: bridge,
      backend: 'iptables',
      given: { bridge: 'locks0', ipMasq: true, ipMasqBackend: 'iptables', ipam: ranges },
    },
    { plugin: portmap, backend: 'nftables', given: { ...ports, prevResult } },
    { plugin: portmap, backend: 'iptables', given: { backend: 'iptables', ...ports, prevResult } },
    { plugin: firewall, backend: 'nftables', given: { prevResult } },
    { plugin: firewall, backend: 'iptables', given: { backend: 'iptables', prevResult } },
    { plugin: hostLocal, backend: 'files', given: { ipam: ranges } },
    {
      plugin: tuning,
      backend: 'files',
      given: { sysctl: { 'net.core.somaxconn': '512' }, prevResult: attachment },
    },
  ])('$plugin.name: DEL takes everything away ($backend)', async ({ plugin, given }) => {
    using container = freshNamespace('locks')
    using state = fullState()
    const options = { netns: container, containerId: container.name, config: given, delegates: [hostLocal] }
    await mustCall(plugin, 'ADD', { ...options, containerId: 'another' })
    await mustCall(plugin, 'DEL', { ...options, containerId: 'another' })
    const before = snapshot()
    await mustCall(plugin, 'ADD', options)
    state.fill()
    expect(await call(plugin, 'DEL', options)).toMatchObject({ status: 0 })
    expect(
      difference(before, snapshot()).added.filter(line => !/host-local|last_reserved/.test(line)),
    ).toEqual([])
  })

  test('ADD says what is wrong, with code 5, before it makes anything', async () => {
    using container = freshNamespace('locks')
    using state = fullState()
    state.fill()
    const options = { netns: container, config: { bridge: 'locks0', ipam: ranges }, delegates: [hostLocal] }
    expect(await call(bridge, 'ADD', options)).toMatchObject({
      status: 1,
      json: {
        code: 5,
        msg: 'bridge: cannot keep other operations off the container',
        details: expect.stringContaining('open /run/catena/lock: No space left on device (ENOSPC)'),
      },
    })
    expect(container.links().map(({ name }) => name)).toEqual(['lo'])
  })

  test('a data folder of host-local that is full is no obstacle for DEL', async () => {
    const dataDir = '/run/full-networks'
    Bun.spawnSync(['mkdir', '-p', dataDir])
    Bun.spawnSync(['mount', '-t', 'tmpfs', '-o', 'nr_inodes=20', 'none', dataDir])
    const options = { netns: '/run/netns/none', config: { ipam: { ...ranges, dataDir } } }
    await mustCall(hostLocal, 'ADD', options)
    Bun.spawnSync(['rm', `${dataDir}/test-net/lock`])
    Bun.spawnSync(['bash', '-c', `for name in {1..20}; do mkdir ${dataDir}/filler-$name || exit 0; done`])
    await mustCall(hostLocal, 'DEL', options)
    expect(existsSync(`${dataDir}/test-net/10.61.0.2`)).toBe(false)
    Bun.spawnSync(['umount', dataDir])
  })
})
