import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { errno, isErrno } from '../../chain/linux/libc/errno.ts'
import { inNamespace, openNamespace } from '../../chain/linux/netns.ts'
import { callDaemon, greetDaemon } from '../../ipam/dhcp/rpc/dial.ts'
import { freshNamespace } from '../fixtures/namespace.ts'
import { execute, ours } from '../fixtures/plugin.ts'
import { injected, traced } from './injected.ts'

const folder = mkdtempSync('/run/hostile-namespace-')
const pipe = `${folder}/pipe`
beforeAll(() => void Bun.spawnSync(['mkfifo', pipe]))
afterAll(() => rmSync(folder, { recursive: true }))

const ipam = { type: 'static', addresses: [{ address: '10.1.0.2/24' }] }
const prevResult = { cniVersion: '1.1.0', interfaces: [{ name: 'eth0', sandbox: pipe }], ips: [] }
const plugins: Record<string, object> = {
  loopback: {},
  bridge: { bridge: 'pipe0', ipam },
  ptp: { ipam },
  'host-device': { device: 'pipe0' },
  tap: { ipam },
  tuning: { sysctl: { 'net.core.somaxconn': '512' }, prevResult },
  sbr: { prevResult },
  vrf: { vrfname: 'v', prevResult },
  bandwidth: { ingressRate: 8000, ingressBurst: 8000, prevResult },
}

describe('a pipe without a writer in the place of a namespace', () => {
  test('is refused by whoever opens one', () => {
    for (const open of [() => openNamespace(pipe), () => inNamespace(pipe, () => 1)]) {
      let thrown: unknown
      try {
        open()
      } catch (caught) {
        thrown = caught
      }
      expect(isErrno(thrown, errno.EINVAL)).toBe(true)
      expect(String(thrown)).toContain(pipe)
    }
  })

  test.each(Object.entries(plugins))('has %s refuse ADD, and DEL succeed', (type, config) => {
    const request = { netns: pipe, config: { type, ...config }, path: ours }
    expect(execute(`${ours}/${type}`, 'ADD', request)).toMatchObject({
      status: 1,
      json: { code: expect.any(Number) },
    })
    expect(execute(`${ours}/${type}`, 'DEL', request)).toMatchObject({ status: 0 })
  })

  test('does not keep the DHCP daemon from anybody', async () => {
    await using daemon = await startDaemon()
    const stdin = JSON.stringify({ cniVersion: '1.1.0', name: 'n', type: 'x', ipam: { type: 'dhcp' } })
    const call = { containerId: 'c', netns: pipe, ifname: 'eth0', args: '', path: '', stdin }
    const refused = await callDaemon(daemon.socket, 'DHCP.Allocate', call).catch(thrown => thrown)
    expect(String(refused)).toContain('which is no network namespace')
    await greetDaemon(daemon.socket)
  })
})

/** Home is entered from no namespace. */
const STUCK = 'setns:error=EPERM:when=2+'

async function startDaemon(injection?: string) {
  const socket = `${mkdtempSync(`${folder}/daemon-`)}/socket`
  const command = [`${ours}/dhcp`, 'daemon', '-socketpath', socket]
  const child = Bun.spawn(injection ? traced(injection, ...command) : command, { stderr: 'pipe' })
  const reader = child.stderr.getReader()
  let said = ''
  const read = async (until: RegExp) => {
    while (!until.test(said)) {
      const { done, value } = await reader.read()
      if (done) break
      said += new TextDecoder().decode(value)
    }
    return said
  }
  await read(/"started"/)
  return {
    socket,
    exited: child.exited,
    read,
    async [Symbol.asyncDispose]() {
      child.kill()
      await child.exited
    },
  }
}

describe('a process that cannot come home from a namespace ends at once:', () => {
  test('a plugin with an answer that says so', () => {
    using container = freshNamespace('stuck')
    using plugin = injected(STUCK, 'loopback')
    const request = { netns: container, interface: 'lo', config: { type: 'loopback' } }
    expect(execute(plugin.file, 'ADD', request)).toMatchObject({
      status: 1,
      json: {
        code: 999,
        msg: expect.stringMatching(/^return from the container's network namespace: .*EPERM/),
      },
    })
  })

  test('the DHCP daemon, whose client hears that it hung up', async () => {
    using container = freshNamespace('stuck')
    await using daemon = await startDaemon(STUCK)
    const stdin = JSON.stringify({ cniVersion: '1.1.0', name: 'n', type: 'x', ipam: { type: 'dhcp' } })
    const call = { containerId: 'c', netns: container.path, ifname: 'lo', args: '', path: '', stdin }
    const refused = await callDaemon(daemon.socket, 'DHCP.Allocate', call).catch(thrown => thrown)
    expect(String(refused)).toContain('hung up')
    expect(await daemon.exited).toBe(1)
    expect(await daemon.read(/stuck/)).toContain(
      'stuck in another namespace: enter the home network namespace',
    )
  })
})
