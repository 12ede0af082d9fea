/** `catena plan`: it says what ADD then does, and does nothing. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import type { Compared } from '../../chain/cli/plan/against-now.ts'
import type { Planned, SentMessage } from '../../chain/cli/plan/plan.ts'
import { scriptOf } from '../../chain/cli/plan/print.ts'
import { attributes } from '../../chain/linux/netlink/codec.ts'
import { createNamespace, namespaceState, removeNamespace } from '../../chain/linux/netns.ts'
import { clearRules } from '../fixtures/iptables.ts'
import { hostNamespace, namespaceAt } from '../fixtures/namespace.ts'
import { ourExecutable, ours, peers } from '../fixtures/plugin.ts'
import { difference, filesBelow, type Snapshot, snapshot } from '../fixtures/snapshot.ts'

const folder = mkdtempSync(`${tmpdir()}/catena-plan-`)
const NETNS = '/run/netns/planned'
const OTHER = '/run/netns/planned-other'
const CAPABILITIES = JSON.stringify({
  portMappings: [{ hostPort: 8046, containerPort: 80, protocol: 'tcp' }],
  mac: '02:00:00:00:46:01',
})

const range = (subnet: string) => ({
  type: 'host-local',
  ranges: [[{ subnet }]],
  routes: [{ dst: '0.0.0.0/0' }],
})
const bridge = (more: object = {}) => ({
  type: 'bridge',
  bridge: 'plan0',
  isGateway: true,
  ipMasq: true,
  ipam: range('10.46.0.0/24'),
  ...more,
})
const portmap = (more: object = {}) => ({ type: 'portmap', capabilities: { portMappings: true }, ...more })

const networks: Readonly<Record<string, object[]>> = {
  bridged: [bridge(), portmap(), { type: 'tuning', sysctl: { 'net.core.somaxconn': '512' }, mtu: 1400 }],
  tables: [
    bridge({ ipMasqBackend: 'iptables' }),
    portmap({ backend: 'iptables' }),
    { type: 'firewall', backend: 'iptables' },
  ],
  paired: [{ type: 'ptp', ipMasq: true, ipam: range('10.47.0.0/24') }, { type: 'sbr' }],
  shaped: [
    { type: 'ptp', ipam: range('10.47.0.0/24') },
    { type: 'bandwidth', ingressRate: 8_000_000, ingressBurst: 80_000 },
  ],
  filtered: [
    bridge({ macspoofchk: true, capabilities: { mac: true }, ipam: range('10.46.0.0/24') }),
    { type: 'firewall', backend: 'nftables', ingressPolicy: 'isolated' },
  ],
  tapped: [
    {
      type: 'tap',
      owner: 7,
      multiQueue: true,
      ipam: { type: 'static', addresses: [{ address: '10.48.0.2/24' }] },
    },
  ],
  lent: [
    {
      type: 'host-device',
      device: 'planh0',
      ipam: { type: 'static', addresses: [{ address: '10.49.0.2/24' }] },
    },
  ],
  standing: [{ type: 'macvlan', master: 'planh0', ipam: range('10.50.0.0/24') }],
  full: [
    bridge({
      ipam: {
        type: 'host-local',
        ranges: [[{ subnet: '10.46.0.0/24', rangeStart: '10.46.0.1', rangeEnd: '10.46.0.1' }]],
      },
    }),
  ],
  leased: [{ type: 'macvlan', master: 'lo', ipam: { type: 'dhcp' } }],
  foreign: [{ type: 'other-bridge' }],
  followed: [bridge(), { type: 'other-meta' }],
}

beforeAll(() => {
  clearAway() // what tests before have left: a script makes the folders that its plan did not find
  for (const [name, plugins] of Object.entries(networks))
    writeFileSync(`${folder}/${name}.conflist`, JSON.stringify({ cniVersion: '1.1.0', name, plugins }))
  mkdirSync(`${folder}/others`)
  for (const name of ['other-bridge', 'other-meta'])
    writeFileSync(`${folder}/others/${name}`, '#!/bin/sh\ntouch /run/foreign-ran\nexit 1\n', { mode: 0o755 })
})
afterAll(() => rmSync(folder, { recursive: true }))

afterEach(clearAway)

const environment = {
  PATH: process.env.PATH,
  NETCONFPATH: folder,
  CNI_PATH: `${ours}:${folder}/others`,
  CAP_ARGS: CAPABILITIES,
}

function catena(words: string[], env: Record<string, string> = {}) {
  const { exitCode, stdout, stderr } = Bun.spawnSync([ourExecutable('catena'), ...words], {
    env: { ...environment, ...env },
  })
  return { status: exitCode, stdout: `${stdout}`, stderr: `${stderr}` }
}

const planned = (words: string[], env: Record<string, string> = {}): Planned => {
  const { stdout, stderr } = catena(['plan', ...words], env)
  expect(stderr).toBe('')
  return JSON.parse(stdout)
}

/** All that a plan could have touched, down to the times of files. */
function everything() {
  using container = namespaceState(NETNS) === 'present' ? namespaceAt(NETNS) : undefined
  const files = ['/run', '/var/lib/cni'].flatMap(place =>
    filesBelow(place).map(
      ({ path, isFile }) =>
        `${path} ${isFile && !/^\/run\/(netns|cgroup)\//.test(path) ? `${statSync(path).mtimeMs} ${readFileSync(path, 'latin1')}` : ''}`,
    ),
  )
  const sysctls = Bun.spawnSync(['sysctl', '-a', '-r', '^net\\.ipv[46]\\.(conf|ip_forward)'], {
    stderr: 'ignore',
  })
  return {
    host: snapshot(),
    container: container && snapshot(container),
    files: files.toSorted(),
    mounts: readFileSync('/proc/self/mounts', 'utf8'),
    sysctls: `${sysctls.stdout}`,
    rules: `${Bun.spawnSync(['iptables-save']).stdout}`.replaceAll(/^#.*$|\[\d+:\d+\]/gm, ''),
  }
}

/** The messages that change something, of strace's account of a command. */
function sentBy(words: string[]): Omit<SentMessage, 'where'>[] {
  const log = `${folder}/strace`
  const { exitCode, stderr } = Bun.spawnSync(
    [
      'strace',
      '-f',
      '-qq',
      '-e',
      'trace=sendto',
      '-e',
      'write=all',
      '-o',
      log,
      ourExecutable('catena'),
      ...words,
    ],
    { env: environment },
  )
  expect({ exitCode, stderr: `${stderr}` }).toEqual({ exitCode: 0, stderr: '' })
  const found: Omit<SentMessage, 'where'>[] = []
  let bytes: number[] = []
  let protocol = 0
  const take = () => {
    for (let at = 0; at + 16 <= bytes.length; ) {
      const view = new DataView(Uint8Array.from(bytes).buffer)
      const length = view.getUint32(at, true)
      const payload = Uint8Array.from(bytes.slice(at + 16, at + length)).toHex()
      found.push({
        protocol,
        type: view.getUint16(at + 4, true),
        flags: view.getUint16(at + 6, true),
        payload,
      })
      at += (length + 3) & ~3
    }
    bytes = []
  }
  for (const line of readFileSync(log, 'utf8').split('\n')) {
    const dumped = /^ \| [0-9a-f]+ {2}((?:[0-9a-f]{2} {1,2})+)/.exec(line)
    if (dumped)
      bytes.push(
        ...(dumped[1] ?? '')
          .trim()
          .split(/ +/)
          .map(byte => Number.parseInt(byte, 16)),
      )
    else if (line.includes('sendto(')) {
      take()
      // a message of netfilter has its subsystem in the upper half of its type, as strace says it
      protocol = /NFNL_|NFPROTO|nfgen_family|NFT_/.test(line) ? 12 : 0
    }
  }
  take()
  return found
}

/** Without questions, and without what is chosen at random or by the process: hardware addresses, descriptors, generations. */
function changes(messages: readonly Omit<SentMessage, 'where'>[]): string[] {
  return messages.flatMap(({ type, flags, payload }) => {
    const isNetfilter = type > 0xff || type === 0x10 || type === 0x11
    if (isNetfilter) {
      const isQuestion =
        type === 0x10 ||
        type === 0x11 ||
        (type >> 8 === 10 && [1, 4, 7, 10, 13, 16].includes(type & 0xff)) ||
        type >> 8 !== 10
      return isQuestion ? [] : [`netfilter ${type} ${flags} ${payload}`]
    }
    if ((type & 3) === 2 || type >= 88) return []
    return [`route ${type} ${flags} ${plain(type, Uint8Array.fromHex(payload))}`]
  })
}

/** IFLA_ADDRESS, IFLA_MASTER, IFLA_NET_NS_FD. */
const OF_LINKS = [1, 10, 28]
/** By the number of a kind of message: where its header has a link's number, how long it is, and attributes that have one. */
const linkNumbers: Readonly<Record<number, { at?: number; header: number; attributes: number[] }>> = {
  16: { at: 4, header: 16, attributes: OF_LINKS },
  20: { at: 4, header: 8, attributes: [] },
  24: { header: 12, attributes: [4] }, // RTA_OIF
  36: { at: 4, header: 20, attributes: [] },
}

/** Links have other numbers in the twin, where there were none before; hardware addresses are random, descriptors the process's. */
function plain(type: number, payload: Uint8Array): string {
  const known = linkNumbers[type & ~3]
  if (!known) return payload.toHex()
  const blank = (bytes: Uint8Array): void => {
    for (const { type: attribute, value } of attributes(bytes)) {
      if (known.attributes.includes(attribute)) value.fill(0)
      if (type < 20 && attribute === 18) blankPeer(value) // IFLA_LINKINFO
    }
  }
  const blankPeer = (info: Uint8Array): void => {
    for (const { type: attribute, value } of attributes(info))
      if (attribute === 2)
        for (const { value: peer } of attributes(value)) if (peer.length > 16) blank(peer.subarray(16))
  }
  if (known.at !== undefined) payload.fill(0, known.at, known.at + 4)
  blank(payload.subarray(known.header))
  return payload.toHex()
}

/** Without numbers, hardware addresses and what is of them. */
const comparable = (lines: readonly string[]) =>
  lines
    .filter(line => !/\/host-local\/|\/results\/|\/records\/|^link planh/.test(line))
    .map(line =>
      line
        .replaceAll(/"address":"[0-9a-f:]{17}",?/g, '')
        .replaceAll(/fe80::[0-9a-f:]+/g, 'fe80::')
        .replaceAll(/(on |"(?:link|master)":)\d+/g, '$1N'),
    )
    .toSorted()

/** What there is more than before, on the host and in the container. */
function made(before: Snapshot) {
  using container = namespaceAt(NETNS)
  return {
    host: comparable(difference(before, snapshot()).added),
    container: comparable(snapshot(container)),
    rules: `${Bun.spawnSync(['iptables-save']).stdout}`.split('\n').filter(line => line.startsWith('-A')),
  }
}

describe('nothing is done; what is said is what ADD then sends, and as a script makes what ADD makes', () => {
  test.each(['bridged', 'paired', 'filtered', 'tables', 'tapped', 'lent', 'standing'])('%s', network => {
    const device = ['ip', 'link', 'add', 'planh0', 'type', 'veth', 'peer', 'name', 'planh1']
    if (network === 'lent' || network === 'standing') Bun.spawnSync(device)
    createNamespace(NETNS)
    const before = everything()
    const plan = planned([network, NETNS, '--raw'])
    const { messages = [], error, notes, steps } = plan
    expect({ error, notes }).toEqual({ error: undefined, notes: [] })
    expect(everything()).toEqual(before)
    expect(steps.length).toBeGreaterThan(5)
    const sent = changes(sentBy(['add', network, NETNS]))
    expect(sent.length).toBeGreaterThan(2)
    expect(changes(messages)).toEqual(sent)
    const byAdd = made(before.host)
    clearAway()
    if (network === 'lent' || network === 'standing') Bun.spawnSync(device)
    createNamespace(NETNS)
    const { exitCode, stderr } = Bun.spawnSync(['sh', '-c', scriptOf(plan)], { env: environment })
    expect({ exitCode, stderr: `${stderr}` }).toEqual({ exitCode: 0, stderr: '' })
    expect(made(before.host)).toEqual(byAdd)
  })

  test('shaped: tc has no lines yet', () => {
    createNamespace(NETNS)
    const { messages = [], steps } = planned(['shaped', NETNS, '--raw'])
    expect(changes(messages)).toEqual(changes(sentBy(['add', 'shaped', NETNS])))
    expect(steps.find(({ about }) => about === 'limit')).toMatchObject({
      does: expect.stringMatching(/^add queueing discipline tbf on veth/),
      commands: [],
    })
  })

  test('of a container beside another one: bridge and tables are there', () => {
    createNamespace(OTHER)
    expect(catena(['add', 'bridged', OTHER], { CAP_ARGS: '{}' }).status).toBe(0)
    createNamespace(NETNS)
    const before = everything()
    const { messages = [], steps, notes } = planned(['bridged', NETNS, '--raw'])
    expect(everything()).toEqual(before)
    expect(notes).toEqual([])
    expect(steps.filter(({ does }) => does.includes('create bridge') || does.includes('add table'))).toEqual(
      [],
    )
    expect(changes(messages)).toEqual(changes(sentBy(['add', 'bridged', NETNS])))
  })
})

function clearAway(): void {
  for (const path of [NETNS, OTHER]) if (namespaceState(path) !== 'absent') removeNamespace(path)
  using host = hostNamespace()
  for (const { name, kind } of host.links())
    if (kind === 'veth' || name === 'plan0') Bun.spawnSync(['ip', 'link', 'delete', name])
  clearRules()
  Bun.spawnSync(['nft', 'flush', 'ruleset'])
  for (const place of ['/var/lib/cni/networks', '/var/lib/cni/results', '/run/catena', '/run/cni'])
    rmSync(place, { recursive: true, force: true })
}

describe('what cannot be done, or not be told', () => {
  test('an ADD that would fail: why, and exit status 1; nothing of it is left', () => {
    createNamespace(NETNS)
    const before = everything()
    const { status, stdout } = catena(['plan', 'full', NETNS])
    expect(status).toBe(1)
    const { error, result, steps } = JSON.parse(stdout) as Planned
    expect(error?.message).toContain('no IP addresses available in range set')
    expect(result).toBeUndefined()
    expect(steps.some(({ does }) => does.startsWith('delete link'))).toBe(true)
    expect(everything()).toEqual(before)
  })

  test('addresses by DHCP, and plugins of others that make the interface, are refused', () => {
    createNamespace(NETNS)
    expect(JSON.parse(catena(['plan', 'leased', NETNS]).stdout).msg).toContain('asking is leasing')
    expect(JSON.parse(catena(['plan', 'foreign', NETNS]).stdout).msg).toContain('is another program')
  })

  test('a plugin of others that follows is not run, and told of', () => {
    createNamespace(NETNS)
    const { notes, error, steps } = planned(['followed', NETNS])
    expect(error).toBeUndefined()
    expect(notes).toEqual([expect.stringContaining('others/other-meta would be run too')])
    expect(steps.length).toBeGreaterThan(10)
    expect(() => statSync('/run/foreign-ran')).toThrow()
  })

  test('a namespace that is not there yet', () => {
    const { notes, error } = planned(['bridged', NETNS])
    expect(error).toBeUndefined()
    expect(notes).toEqual([`there is no namespace ${NETNS}: planned as if it were there, and empty`])
    expect(namespaceState(NETNS)).toBe('absent')
  })

  test("a process's namespace, at whose path nothing can be put", () => {
    createNamespace(NETNS)
    const sleeper = Bun.spawn(['nsenter', `--net=${NETNS}`, 'sleep', '60'])
    try {
      const { error, steps } = planned(['bridged', `/proc/${sleeper.pid}/ns/net`])
      expect(error).toBeUndefined()
      expect(steps.filter(({ where }) => where === 'container').length).toBeGreaterThan(3)
    } finally {
      sleeper.kill()
    }
  })
})

describe('against what is there', () => {
  const compared = (network: string): Compared => {
    const { stdout, stderr, status } = catena(['plan', network, NETNS, '--against-now'], { CAP_ARGS: '' })
    expect(stderr).toBe('')
    const found = JSON.parse(stdout) as Compared
    expect(status).toBe(found.differences.length > 0 ? 1 : 0)
    return found
  }
  const what = (network: string) => compared(network).differences.map(each => each.what)
  const inside = (...words: string[]) => ['nsenter', `--net=${NETNS}`, ...words]
  const run = (words: string[]) => {
    const { exitCode, stderr } = Bun.spawnSync(words)
    expect({ words, exitCode, stderr: `${stderr}` }).toEqual({ words, exitCode: 0, stderr: '' })
  }

  test.each(['bridged', 'shaped', 'tables'])('%s as ADD has left it: nothing', network => {
    createNamespace(NETNS)
    expect(catena(['add', network, NETNS]).status).toBe(0)
    const before = everything()
    const { shape, differences, notes } = compared(network)
    expect({ shape, differences, notes }).toEqual({
      shape: 'catena-differences-1',
      differences: [],
      notes: [],
    })
    expect(everything()).toEqual(before)
  })

  test('all that was broken by hand is told of, and what is told mends it', () => {
    createNamespace(NETNS)
    expect(catena(['add', 'bridged', NETNS]).status).toBe(0)
    const breakages: [string[], string[]][] = [
      [
        inside('ip', 'address', 'delete', '10.46.0.2/24', 'dev', 'eth0'),
        ['address 10.46.0.2/24 on eth0', 'route default via 10.46.0.1 over eth0'],
      ],
      [inside('ip', 'link', 'set', 'eth0', 'mtu', '1300'), ['mtu of eth0']],
      [inside('sysctl', '-qw', 'net.core.somaxconn=77'), ['sysctl net.core.somaxconn']],
      [['ip', 'address', 'delete', '10.46.0.1/24', 'dev', 'plan0'], ['address 10.46.0.1/24 on plan0']],
      [['sysctl', '-qw', 'net.ipv4.ip_forward=0'], ['sysctl net.ipv4.ip_forward']],
      [
        ['nft', 'flush', 'map', 'ip', 'catena', 'port_address'],
        ['tcp . 8046 : 10.46.0.2 in ip catena port_address'],
      ],
      [
        ['nft', 'flush', 'set', 'ip', 'catena', 'masquerade_source'],
        ['10.46.0.2 in ip catena masquerade_source'],
      ],
    ]
    for (const [words] of breakages) run(words)
    const { differences } = compared('bridged')
    const expected = breakages.flatMap(([, told]) => told)
    expect(differences.map(each => each.what).toSorted()).toEqual(expected.toSorted())
    for (const line of differences.flatMap(each => each.mend)) run(['sh', '-c', line])
    expect(what('bridged')).toEqual([])
  })

  test('what somebody has added to the interface, a link that is gone, a reservation that another has', () => {
    createNamespace(NETNS)
    expect(catena(['add', 'bridged', NETNS]).status).toBe(0)
    run(inside('ip', 'address', 'add', '192.0.2.9/24', 'dev', 'eth0'))
    expect(compared('bridged').differences).toEqual([
      {
        where: 'container',
        about: 'address',
        what: 'address 192.0.2.9/24 on eth0',
        is: 'there',
        wanted: 'missing',
        mend: [],
      },
    ])
    run(inside('ip', 'address', 'delete', '192.0.2.9/24', 'dev', 'eth0'))
    const reservation = '/var/lib/cni/networks/bridged/10.46.0.2'
    writeFileSync(reservation, 'another\r\neth0')
    expect(catena(['plan', 'bridged', NETNS, '--against-now'], { CAP_ARGS: '' }).status).toBe(1)
    rmSync(reservation)
    expect(what('bridged')).toEqual([`file ${reservation}`])
    run(inside('ip', 'link', 'delete', 'eth0'))
    expect(what('bridged')).toContain('kind of eth0')
  })

  test('no process is in a namespace that is not there', () => {
    const { status, stdout } = catena(['plan', 'bridged', NETNS, '--against-now'])
    expect(status).toBe(1)
    expect(JSON.parse(stdout).msg).toBe(`there is no namespace ${NETNS}`)
  })
})

test.each([40, 80])('on a terminal of %d columns no line is longer; NO_COLOR is kept to', width => {
  createNamespace(NETNS)
  const onTerminal = (env: Record<string, string>) => {
    const command = `stty cols ${width}; ${ourExecutable('catena')} plan bridged ${NETNS}`
    const { stdout } = Bun.spawnSync(['script', '-qec', command, '/dev/null'], {
      env: { ...environment, TERM: 'xterm', ...env },
    })
    return `${stdout}`.replaceAll('\r\n', '\n').trimEnd()
  }
  const plainText = onTerminal({ NO_COLOR: '1' })
  expect(plainText).not.toContain('\x1b')
  for (const line of plainText.split('\n')) expect(Bun.stringWidth(line)).toBeLessThanOrEqual(width)
  expect(plainText).toContain('10.46.0.2/24')
  expect(onTerminal({})).toContain('\x1b[1mbridge')
})

test('where the Go plugins are what is found, nothing is told of what ours would do', () => {
  createNamespace(NETNS)
  const { status, stdout } = catena(['plan', 'bridged', NETNS], { CNI_PATH: peers })
  expect(status).toBe(1)
  expect(JSON.parse(stdout).msg).toContain('is another program')
})
