/** portmap's iptables backend as processes: many at once, killed, waiting for others, without tools; and what it costs who does not use it. */
import { afterEach, describe, expect, test } from 'bun:test'
import { readFileSync, statSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { takeLock } from '../../chain/linux/lock.ts'
import { choose, clearRules, saved, variants } from '../fixtures/iptables.ts'
import { freshNamespace, type Namespace } from '../fixtures/namespace.ts'
import { mustExecute, ourExecutable, ours, peerExecutable } from '../fixtures/plugin.ts'

afterEach(() => clearRules())

const families = ['ip', 'ip6'] as const

function config(number: number, more: object = {}) {
  return {
    cniVersion: '1.1.0',
    name: 'test-net',
    type: 'portmap',
    backend: 'iptables',
    runtimeConfig: {
      portMappings: [
        { hostPort: 8000 + number, containerPort: 80, protocol: 'tcp' },
        { hostPort: 8000 + number, containerPort: 80, protocol: 'udp' },
      ],
    },
    prevResult: {
      cniVersion: '1.1.0',
      interfaces: [{ name: 'eth0', sandbox: '/run/netns/none' }],
      ips: [
        { address: `10.1.0.${number}/16`, interface: 0 },
        { address: `fd00:1::${number}/64`, interface: 0 },
      ],
    },
    ...more,
  }
}

const environment = (verb: string, containerId: string) => ({
  PATH: process.env.PATH ?? '',
  CNI_COMMAND: verb,
  CNI_CONTAINERID: containerId,
  CNI_NETNS: '/run/netns/none',
  CNI_IFNAME: 'eth0',
  CNI_PATH: ours,
})

function start(file: string, verb: string, number: number) {
  return Bun.spawn([file], {
    env: environment(verb, `container-${number}`),
    stdin: Buffer.from(JSON.stringify(config(number))),
    stdout: 'pipe',
    stderr: 'pipe',
  })
}

/** Host ports that lead somewhere, of a family, once for each protocol. */
function entries(variant: (typeof variants)[number], family: 'ip' | 'ip6'): number[] {
  return saved(variant, family)
    .filter(line => line.startsWith('-A CNI-HOSTPORT-DNAT'))
    .map(line => Number(/--dports (\d+)/.exec(line)?.[1]))
    .toSorted((one, other) => one - other)
}

const CONTAINERS = 16
const numbers = Array.from({ length: CONTAINERS }, (_, at) => at + 1)
const twice = numbers.flatMap(number => [8000 + number, 8000 + number])

describe.each(variants)('with the %s variant', variant => {
  test.each([
    { who: 'ours alone', executables: () => [ourExecutable('portmap')] },
    {
      who: 'ours and the Go plugin',
      executables: () => [ourExecutable('portmap'), peerExecutable('portmap')],
    },
  ])(
    'the first ADDs of 16 containers at once all succeed, and nothing is lost: $who',
    async ({ executables }) => {
      using _choice = choose(variant)
      const files = executables()
      const run = async (verb: string) => {
        const children = numbers.map(number => ({
          file: files[number % files.length] ?? '',
          child: start(files[number % files.length] ?? '', verb, number),
        }))
        return await Promise.all(
          children.map(async ({ file, child }) => ({
            file,
            output: await child.stdout.text(),
            status: await child.exited,
          })),
        )
      }
      const added = await run('ADD')
      // The Go plugin loses the race for the shared chains by itself: what counts is that ours do not, nor what they added.
      const failed = added.filter(({ status }) => status !== 0)
      expect(failed.filter(({ file }) => file === ourExecutable('portmap'))).toEqual([])
      const added8000 = numbers
        .filter((_, at) => added[at]?.status === 0)
        .flatMap(number => [8000 + number, 8000 + number])
      if (files.length === 1) expect(added8000).toEqual(twice)
      for (const family of families)
        expect(entries(variant, family)).toEqual(expect.arrayContaining(added8000))
      for (const number of numbers) {
        if (added[number - 1]?.status !== 0) continue
        mustExecute(ourExecutable('portmap'), 'CHECK', {
          netns: '/run/netns/none',
          containerId: `container-${number}`,
          config: config(number),
        })
      }
      expect((await run('DEL')).filter(({ status }) => status !== 0)).toEqual([])
      for (const family of families)
        expect(saved(variant, family).filter(line => /CNI-DN-/.test(line))).toEqual([])
    },
  )

  test('shared rules are there once, however many made them at the same time', async () => {
    using _choice = choose(variant)
    const children = numbers.map(number => start(ourExecutable('portmap'), 'ADD', number))
    await Promise.all(children.map(child => child.exited))
    for (const family of families) {
      const shared = saved(variant, family).filter(line =>
        /^-A (PREROUTING|OUTPUT|POSTROUTING|CNI-HOSTPORT-(MASQ|SETMARK)) /.test(line),
      )
      expect(shared).toHaveLength(5)
    }
  })

  test('killed at any call that starts, awaits or follows a tool, nothing is left after DEL', () => {
    using _choice = choose(variant)
    const options = { netns: '/run/netns/none', containerId: 'container-1', config: config(1) }
    mustExecute(ourExecutable('portmap'), 'ADD', options)
    mustExecute(ourExecutable('portmap'), 'DEL', options)
    const before = families.map(family => saved(variant, family))
    let kills = 0
    for (let point = 1; killedAt(point); point++) {
      kills++
      mustExecute(ourExecutable('portmap'), 'DEL', options)
      expect({ point, left: families.map(family => saved(variant, family)) }).toEqual({ point, left: before })
    }
    mustExecute(ourExecutable('portmap'), 'DEL', options)
    expect(kills).toBeGreaterThan(10)
  }, 120_000)
})

test('of 8 live containers that want one port of a dead one at once, one gets it and the others are told who', async () => {
  using dead = freshNamespace()
  using containers = new DisposableStack()
  const wanting = (container: Namespace, number: number) => {
    container.run('ip', 'link', 'add', 'eth0', 'type', 'bridge')
    container.addAddress('eth0', `10.1.0.${number}/16`)
    return {
      env: { ...environment('ADD', `container-${number}`), CNI_NETNS: container.path },
      stdin: Buffer.from(JSON.stringify({ ...config(number), runtimeConfig: config(1).runtimeConfig })),
      stdout: 'pipe' as const,
    }
  }
  expect(await Bun.spawn([ourExecutable('portmap')], wanting(dead, 1)).exited).toBe(0)
  dead[Symbol.dispose]()
  const calls = Array.from({ length: 8 }, (_, at) => wanting(containers.use(freshNamespace()), at + 2))
  const children = calls.map(call => Bun.spawn([ourExecutable('portmap')], call))
  const outputs = await Promise.all(children.map(child => child.stdout.text()))
  const refused = outputs.map(text => JSON.parse(text)).filter(({ code }) => code)
  expect(refused.map(({ msg }) => msg)).toEqual(
    Array(7).fill(expect.stringMatching(/^host port 8001\/tcp is taken by another container/)),
  )
  expect(entries('nf_tables', 'ip')).toEqual([8001, 8001])
})

const CALLS = 'open,openat,flock,wait4,waitid,vfork,pidfd_open,memfd_create,sendto,write,mkdir,link,close'

/** Runs an ADD that gets SIGKILL at its nth call; answers whether it got that far. Its tools live on. */
function killedAt(point: number): boolean {
  const command = [
    'strace',
    '-o',
    '/dev/null',
    '-e',
    `trace=${CALLS}`,
    '-e',
    `inject=${CALLS}:signal=SIGKILL:when=${point}`,
  ]
  const { exitCode } = Bun.spawnSync([...command, ourExecutable('portmap')], {
    env: { ...environment('ADD', 'container-1'), CATENA_WARM: 'off' }, // it is this process that is traced
    stdin: Buffer.from(JSON.stringify(config(1))),
  })
  return exitCode !== 0
}

test("a tool that a killed ADD has left waiting for xtables' lock cannot undo what DEL did", async () => {
  using _choice = choose('legacy')
  const options = { netns: '/run/netns/none', containerId: 'container-1', config: config(1) }
  mustExecute(ourExecutable('portmap'), 'ADD', options)
  mustExecute(ourExecutable('portmap'), 'DEL', options)
  const before = saved('legacy')
  const xtables = takeLock('/run/xtables.lock')
  const add = start(ourExecutable('portmap'), 'ADD', 1)
  await waiting('/run/xtables.lock')
  add.kill('SIGKILL')
  await add.exited
  // Our lock has gone over to the tool: DEL cannot go ahead of it.
  expect(takeLock('/run/catena/iptables/lock', { tryOnly: true })).toBeUndefined()
  const del = start(ourExecutable('portmap'), 'DEL', 1)
  xtables[Symbol.dispose]()
  expect(await del.exited).toBe(0)
  expect(saved('legacy')).toEqual(before)
})

test("ADD and DEL wait for xtables' lock while another process holds it", async () => {
  using _choice = choose('legacy')
  for (const verb of ['ADD', 'DEL']) {
    const xtables = takeLock('/run/xtables.lock')
    const child = start(ourExecutable('portmap'), verb, 1)
    await waiting('/run/xtables.lock')
    expect(child.exitCode).toBeNull()
    xtables[Symbol.dispose]()
    expect(await child.exited).toBe(0)
  }
  expect(saved('legacy').filter(line => line.includes('CNI-DN-'))).toEqual([])
})

/** Comes back when some process waits for a lock on a file. The kernel does not tell: one has to look. */
async function waiting(path: string): Promise<void> {
  const waiter = new RegExp(`-> FLOCK .*:${statSync(path).ino} `)
  while (!waiter.test(readFileSync('/proc/locks', 'utf8'))) await pause(2)
}

describe('where the tools are not installed', () => {
  /** Runs a plugin where the folders that hold iptables are empty. */
  const without = (verb: string, plugin = 'portmap', given: object = config(1)) => {
    const hide = 'for folder in /usr/sbin /usr/local/sbin; do mount -t tmpfs none $folder; done; exec "$0"'
    const { exitCode, stdout } = Bun.spawnSync(['unshare', '-m', 'sh', '-c', hide, ourExecutable(plugin)], {
      env: environment(verb, 'container-1'),
      stdin: Buffer.from(JSON.stringify(given)),
    })
    const text = stdout.toString()
    return { status: exitCode, json: text === '' ? undefined : JSON.parse(text) }
  }

  test('ADD says so, and what to do', () => {
    expect(without('ADD')).toMatchObject({
      status: 1,
      json: {
        code: 999,
        msg: 'apply iptables rules: iptables is not installed',
        details: expect.stringContaining('install the package iptables'),
      },
    })
  })

  test('STATUS says so with code 50', () => {
    expect(without('STATUS')).toMatchObject({
      status: 1,
      json: { code: 50, msg: 'apply iptables rules: iptables is not installed' },
    })
  })

  test.each(['bridge', 'ptp'])('STATUS of %s says so where masquerade is their job', plugin => {
    const given = {
      cniVersion: '1.1.0',
      name: 'test-net',
      type: plugin,
      ipMasq: true,
      ipMasqBackend: 'iptables',
    }
    const ipam = { type: 'static', addresses: [{ address: '10.1.0.2/16' }] }
    expect(without('STATUS', plugin, { ...given, ipam }).json).toMatchObject({ code: 50 })
    expect(without('STATUS', plugin, { ...given, ipam, ipMasq: false })).toEqual({
      status: 0,
      json: undefined,
    })
  })

  test('DEL has nothing to do with them', () => {
    const options = { netns: '/run/netns/none', containerId: 'container-1', config: config(1) }
    mustExecute(ourExecutable('portmap'), 'ADD', options)
    expect(without('DEL')).toEqual({ status: 0, json: undefined })
    expect(saved('nf_tables').filter(line => line.includes('CNI-DN-'))).toEqual([])
  })
})

describe('processes that are started', () => {
  /** The programs that a call on a node starts, itself left out. */
  function started(
    node: Namespace,
    plugin: string,
    verb: 'ADD' | 'DEL',
    given: { config: object; netns: string },
  ): string[] {
    const { exitCode, stderr } = node.inside(() =>
      Bun.spawnSync(
        ['strace', '-f', '-qq', '-e', 'trace=execve', '-e', 'signal=none', ourExecutable(plugin)],
        {
          env: { ...environment(verb, 'container-1'), CNI_NETNS: given.netns },
          stdin: Buffer.from(JSON.stringify(given.config)),
        },
      ),
    )
    if (exitCode !== 0) throw new Error(`${plugin} ${verb}: status ${exitCode}: ${stderr}`)
    return [...stderr.toString().matchAll(/execve\("[^"]*\/([^"/]+)"/g)].map(([, name = '']) => name).slice(1)
  }

  const bridge = {
    cniVersion: '1.1.0',
    name: 'test-net',
    type: 'bridge',
    bridge: 'proc0',
    ipMasq: true,
    ipam: { type: 'static', addresses: [{ address: '10.1.0.1/16' }, { address: 'fd00:1::1/64' }] },
  }

  test('none for a DEL where nftables is all there is', () => {
    using node = freshNamespace('node')
    using container = freshNamespace()
    const netns = container.path
    const published = config(1, { backend: 'nftables' })
    node.inside(() => mustExecute(ourExecutable('bridge'), 'ADD', { netns, config: bridge }))
    node.inside(() => mustExecute(ourExecutable('portmap'), 'ADD', { netns, config: published }))
    expect(started(node, 'portmap', 'DEL', { netns, config: published })).toEqual([])
    expect(started(node, 'bridge', 'DEL', { netns, config: bridge })).toEqual([])
  })

  test('one for each family for an ADD by iptables after the first, none for its DEL', () => {
    using _choice = choose('nf_tables')
    using node = freshNamespace('node')
    const netns = '/run/netns/none'
    node.inside(() =>
      mustExecute(ourExecutable('portmap'), 'ADD', { netns, containerId: 'first', config: config(2) }),
    )
    const restores = ['iptables-restore', 'ip6tables-restore']
    expect(started(node, 'portmap', 'ADD', { netns, config: config(1) })).toEqual(restores)
    expect(started(node, 'portmap', 'DEL', { netns, config: config(1) })).toEqual([])
  })
})
