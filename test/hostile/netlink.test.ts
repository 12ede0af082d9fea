import { describe, expect, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import { openConntrack } from '../../chain/linux/netlink/conntrack.ts'
import { findLink, setLink } from '../../chain/linux/netlink/link.ts'
import { awaitEvent, openEvents, openRoute } from '../../chain/linux/netlink/socket.ts'
import { openNetfilter } from '../../chain/linux/nftables/netfilter.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { execute, ours } from '../fixtures/plugin.ts'

const ROUNDS = process.env.CATENA_LONG ? 300 : 30

const LINKS = 1 // RTNLGRP_LINK

/** A container whose loopback is down, whatever a process in it says. */
function containerWithoutLoopback(): Namespace {
  const container = freshNamespace('forged')
  setLink(container.route, 'lo', { up: false })
  container.route.close() // nothing but the victim is to be found in it
  return container
}

const program = (name: string, ...words: string[]) => [
  process.execPath,
  `${import.meta.dir}/${name}`,
  ...words,
]

function portsIn(container: Namespace, of = 0): number[] {
  const table = container.inside(() => readFileSync('/proc/thread-self/net/netlink', 'utf8'))
  return table
    .split('\n')
    .map(line => line.trim().split(/\s+/))
    .filter(([, protocol, port]) => protocol === String(of) && port !== undefined && port !== '0')
    .map(([, , port]) => Number(port))
}

describe('a process of the container that sends answers to a socket of ours', () => {
  test('is refused by the kernel, and the answer is the kernel’s', async () => {
    using container = containerWithoutLoopback()
    const victim = Bun.spawn(program('victim.ts', container.path), { stdin: 'pipe', stdout: 'pipe' })
    const reader = victim.stdout.getReader()
    await reader.read() // "open"
    const [port] = portsIn(container)
    const forger = container.inside(() => Bun.spawnSync(program('forger.ts', 'to', String(port))))
    expect(forger.stdout.toString()).toBe('refused\n')
    victim.stdin.write('go\n')
    victim.stdin.end()
    const { value } = await reader.read()
    expect(new TextDecoder().decode(value)).toBe('down\n')
    expect(await victim.exited).toBe(0)
  })

  test(`fools none of ${ROUNDS} CHECKs, looking for their sockets all the time`, async () => {
    using container = containerWithoutLoopback()
    const forger = container.inside(() => Bun.spawn(program('forger.ts', 'poll'), { stdout: 'pipe' }))
    try {
      await forger.stdout.getReader().read() // it has begun
      const request = { netns: container, interface: 'lo', config: { type: 'loopback', prevResult } }
      for (let round = 0; round < ROUNDS; round++)
        expect(execute(`${ours}/loopback`, 'CHECK', request)).toMatchObject({
          status: 1,
          json: { msg: expect.stringContaining('loopback interface is down') },
        })
    } finally {
      forger.kill()
      await forger.exited
    }
  })
})

test.each<{ kind: string; protocol: number; open: () => Disposable }>([
  { kind: 'routes', protocol: 0, open: openRoute },
  { kind: 'rulesets', protocol: 12, open: openNetfilter },
  { kind: 'connection tracking', protocol: 12, open: openConntrack },
  { kind: 'events', protocol: 0, open: () => openEvents(LINKS) },
])('a socket for $kind takes nothing from a process of the container', ({ open, protocol }) => {
  using container = containerWithoutLoopback()
  using _socket = container.inside(open)
  const ports = portsIn(container, protocol)
  expect(ports).toHaveLength(1)
  const words = ['to', String(ports[0]), String(protocol)]
  const forger = container.inside(() => Bun.spawnSync(program('forger.ts', ...words)))
  expect(forger.stdout.toString()).toBe('refused\n')
})

test('what a process of the container tells all who hear of events is not believed, and keeps no call longer', async () => {
  using container = containerWithoutLoopback()
  using events = container.inside(() => openEvents(LINKS))
  using route = container.inside(openRoute)
  const words = ['group', String(LINKS)]
  const forger = container.inside(() => Bun.spawn(program('forger.ts', ...words), { stdout: 'pipe' }))
  try {
    const { value } = await forger.stdout.getReader().read()
    expect(new TextDecoder().decode(value)).toBe('delivered\n')
    const started = performance.now()
    expect(awaitEvent(events, () => findLink(route, 'lo')?.up === true, 400)).toBe(false)
    expect(performance.now() - started).toBeLessThan(2000)
  } finally {
    forger.kill()
    await forger.exited
  }
})

const prevResult = {
  cniVersion: '1.1.0',
  interfaces: [{ name: 'lo', sandbox: '/x' }],
  ips: [{ address: '127.0.0.1/8', interface: 0 }],
}
