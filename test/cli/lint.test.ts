/** Faults that `catena lint` finds, each at its place, and networks in which it finds none. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import * as fc from 'fast-check'
import { builtins, served } from '../../chain/catena.ts'
import { rules } from '../../chain/cli/lint/fault.ts'
import { type Finding, lint } from '../../chain/cli/lint/lint.ts'
import { describeReport } from '../../chain/cli/lint/print.ts'
import { styleFor } from '../../chain/cli/render.ts'
import { hostNamespace } from '../fixtures/namespace.ts'
import { ourExecutable, ours } from '../fixtures/plugin.ts'
import { bridge, faults, type Json, list, portmap, range } from './lint/faults.ts'

const folder = mkdtempSync(`${tmpdir()}/catena-lint-`)
afterAll(() => rmSync(folder, { recursive: true }))

let files = 0

/** Writes a configuration, as it is or as JSON, and answers its path. */
function write(config: unknown, name = `${files}.conflist`): string {
  const path = `${folder}/${files++}-${name}`
  writeFileSync(path, typeof config === 'string' ? config : JSON.stringify(config, undefined, 2))
  return path
}

const lintAlone = (paths: string[], verbs: string[] = []) =>
  lint({ files: paths, load: served.load, node: undefined, verbs })

/** "error unknown-key "isGatewya"": what is found, and the text above the caret. */
const brief = ({ level, rule, source, column, endColumn }: Finding) =>
  `${level} ${rule} ${source.slice(column - 1, endColumn - 1)}`

describe('a file alone', () => {
  test.each(faults)('%s', async (_, config, ...expected) => {
    const { findings } = await lintAlone([write(config)])
    expect(findings.map(brief).toSorted()).toEqual(expected.toSorted())
  })

  test('there are more than sixty', () => expect(faults.length).toBeGreaterThan(60))
})

describe('what is said of it', () => {
  test('where, why, and what to write', async () => {
    const { findings } = await lintAlone([write(list([bridge({ isGatewya: true })]), 'words.conflist')])
    const path = `${folder}/${files - 1}-words.conflist`
    expect(findings).toEqual([
      {
        file: path,
        line: 19,
        column: 7,
        endColumn: 18,
        level: 'error',
        rule: 'unknown-key',
        path: 'plugins[0].isGatewya',
        says: 'bridge has no key "isGatewya": did you mean "isGateway"?',
        why: 'a key that is not known is passed over without a word',
        write: '"isGateway"',
        source: '      "isGatewya": true',
      },
    ])
  })

  test.each([40, 80])(
    'on %d columns no line is longer, and the caret is below what is meant',
    async width => {
      const config = list([
        bridge({ 'a-key-\u4e16\u754c-that-is-long-enough-to-be-cut': 'x'.repeat(90), isGatewya: true }),
      ])
      const shown = describeReport(await lintAlone([write(config)]), styleFor({ isTerminal: false }), width)
      for (const line of shown.split('\n')) expect(Bun.stringWidth(line)).toBeLessThanOrEqual(width)
      const lines = shown.split('\n')
      const caret = lines.findLastIndex(line => line.includes('^'))
      const from = lines[caret]?.indexOf('^') ?? 0
      expect(lines[caret - 1]?.slice(from, from + 11)).toBe('"isGatewya"')
    },
  )

  test('control characters of a file do not reach the terminal', async () => {
    const shown = describeReport(
      await lintAlone([write('{ "name": \x1b]0;owned\x07 }')]),
      styleFor({ isTerminal: false }),
      80,
    )
    expect(shown).not.toContain('\x1b')
    expect(shown).not.toContain('\x07')
  })
})

describe('networks in which nothing is found', () => {
  const root = `${import.meta.dir}/../..`
  const folders = ['test/fixtures/conflists', 'chain/cli/examples', 'test/demo']
  const shipped = folders.flatMap(each =>
    readdirSync(`${root}/${each}`).flatMap(name => (name.endsWith('.conflist') ? [`${each}/${name}`] : [])),
  )
  test.each(shipped)('%s', async file => {
    expect((await lintAlone([`${root}/${file}`])).findings).toEqual([])
  })

  test.each<[string, unknown]>([
    ["a tool's keys beside those of a list", list([bridge()], { nerdctlID: 'x', nerdctlLabels: {} })],
    [
      'plugins of others, with keys of theirs',
      list([
        { type: 'cilium-cni', 'enable-debug': true },
        { type: 'aws-cni', mtu: '9001' },
      ]),
    ],
    ["keys in other letters' case", list([bridge({ ISGATEWAY: true, isGateway: undefined })])],
    [
      'a gateway outside, with a route that leads to it',
      list([
        bridge({
          ipam: {
            ...range('203.0.113.0/28', { gateway: '198.51.100.1' }),
            routes: [{ dst: '198.51.100.1/32' }, { dst: '0.0.0.0/0' }],
          },
        }),
      ]),
    ],
    [
      'a bridge that follows another plugin',
      list([{ type: 'aws-cni' }, bridge({ ipam: undefined, isGateway: false })]),
    ],
    ['an IPAM plugin of others', list([bridge({ ipam: { type: 'whereabouts', range: '10.0.0.0/8' } })])],
    ['limits in the file', list([bridge(), { type: 'bandwidth', ingressRate: 8000, ingressBurst: 8000 }])],
    ['several versions', list([bridge()], { cniVersion: undefined, cniVersions: ['0.4.0', '1.1.0'] })],
  ])('%s', async (_, config) => {
    expect((await lintAlone([write(config)])).findings).toEqual([])
  })
})

const single = (more: Json = {}) => ({ cniVersion: '1.0.0', name: 'one', type: 'loopback', ...more })

describe('files beside one another', () => {
  const both = async (one: unknown, other: unknown, names: [string?, string?] = []) =>
    (await lintAlone([write(one, names[0]), write(other, names[1])])).findings.map(brief)
  const vlan = (name: string, vlanId: number) => list([{ type: 'vlan', master: 'eth0', vlanId }], { name })
  const named = (name: string, subnet: string, more: Json = {}) =>
    list([bridge({ bridge: `${name}0`, ipam: range(subnet), ...more })], { name })

  test.each<[string, unknown, unknown, ...string[]]>([
    ['one name', named('a', '10.1.0.0/16'), named('a', '10.2.0.0/16'), 'error one-name "a"'],
    [
      'one bridge with two subnets',
      named('a', '10.1.0.0/16'),
      named('b', '10.2.0.0/16', { bridge: 'a0' }),
      'error one-bridge "10.2.0.0/16"',
    ],
    [
      'one bridge by default',
      named('a', '10.1.0.0/16', { bridge: undefined }),
      named('b', '10.2.0.0/16', { bridge: 'cni0' }),
      'error one-bridge "10.2.0.0/16"',
    ],
    [
      'subnets that overlap',
      named('a', '10.0.0.0/8'),
      named('b', '10.2.0.0/16'),
      'error overlap "10.2.0.0/16"',
    ],
    [
      'one bridge and one range',
      named('a', '10.1.0.0/16'),
      named('b', '10.1.0.0/16', { bridge: 'a0' }),
      'error overlap "10.1.0.0/16"',
    ],
    ['one VLAN', vlan('a', 7), vlan('b', 7), 'error one-vlan 7'],
    ['two VLANs', vlan('a', 7), vlan('b', 8)],
    ['two networks', named('a', '10.1.0.0/16'), named('b', '10.2.0.0/16')],
    [
      'halves of a subnet on one bridge',
      named('a', '10.1.0.0/16', { ipam: range('10.1.0.0/16', { rangeEnd: '10.1.9.255' }) }),
      named('b', '10.1.0.0/16', { bridge: 'a0', ipam: range('10.1.0.0/16', { rangeStart: '10.1.10.0' }) }),
    ],
    [
      'bridges that are no gateway',
      named('a', '10.1.0.0/16', { isGateway: false }),
      named('b', '10.1.0.0/16', { isGateway: false }),
    ],
  ])('%s', async (_, one, other, ...expected) => {
    expect(await both(one, other)).toEqual(expected)
  })

  test('a list in a .conf and a single plugin in a .conflist', async () => {
    expect(await both(list([bridge()]), single(), ['a.conf', 'b.conflist'])).toEqual([
      'error file-name "plugins"',
      'error file-name "type"',
    ])
  })

  test('a folder with the name of the network: its plugins are a part of the list', async () => {
    mkdirSync(`${folder}/beside`)
    writeFileSync(`${folder}/beside/10-ports.conf`, JSON.stringify(portmap({ snta: true })))
    const path = write(list([bridge()], { name: 'beside' }))
    const { findings } = await lintAlone([path])
    expect(findings.map(brief)).toEqual(['error unknown-key "snta"'])
    expect(findings[0]?.file).toBe(`${folder}/beside/10-ports.conf`)
  })

  test('a version that has not what the runtime calls', async () => {
    const old = write(list([bridge()], { cniVersion: '0.3.1' }))
    const { findings } = await lintAlone([old], ['CHECK', 'GC', 'STATUS'])
    expect(findings.map(({ says }) => says)).toEqual([
      'version 0.3.1 has no CHECK',
      'version 0.3.1 has no GC',
      'version 0.3.1 has no STATUS',
    ])
  })
})

describe('on a node', () => {
  const onNode = async (config: unknown, path = [ours]) =>
    (
      await lint({ files: [write(config)], load: served.load, node: { path, builtins }, verbs: [] })
    ).findings.map(brief)

  beforeAll(() => {
    const commands = [
      ['link', 'add', 'lintm0', 'mtu', '1400', 'type', 'veth', 'peer', 'name', 'lintm1'],
      ['link', 'set', 'lintm0', 'up'],
      ['route', 'add', '10.66.1.0/24', 'dev', 'lintm0'],
      ['link', 'add', 'lintb0', 'type', 'bridge'],
      ['address', 'add', '10.67.0.1/24', 'dev', 'lintb0'],
      ['link', 'set', 'lintb0', 'up'],
      ['route', 'add', '10.68.0.0/16', 'dev', 'lintb0'],
    ]
    for (const words of commands) expect(Bun.spawnSync(['ip', ...words]).exitCode).toBe(0)
  })
  afterAll(() => {
    for (const name of ['lintm0', 'lintb0']) Bun.spawnSync(['ip', 'link', 'delete', name])
    using host = hostNamespace()
    expect(host.links().filter(({ name }) => name.startsWith('lint'))).toEqual([])
  })

  const macvlan = (more: Json) => list([{ type: 'macvlan', ...more }])
  test.each<[string, unknown, ...string[]]>([
    ['a plugin that is not there', list([bridge(), { type: 'portmapp' }]), 'error executable "portmapp"'],
    [
      'an IPAM plugin that is not there',
      list([bridge({ ipam: { type: 'whereabouts' } })]),
      'error executable "whereabouts"',
    ],
    ['a master that is not there', macvlan({ master: 'lintm9' }), 'error master "lintm9"'],
    ['an MTU above the master’s', macvlan({ master: 'lintm0', mtu: 1500 }), 'error mtu 1500'],
    ['a bridge that is none', list([bridge({ bridge: 'lintm0' })]), 'error master "lintm0"'],
    [
      'a bridge with an address of another network',
      list([bridge({ bridge: 'lintb0' })]),
      'error one-bridge "10.22.0.0/16"',
    ],
    [
      'a route of the host inside the subnet',
      list([bridge({ bridge: 'web0', ipam: range('10.68.0.0/16') })]),
      'error overlap "10.68.0.0/16"',
    ],
    [
      'a route of the host around the subnet',
      list([bridge({ bridge: 'web0', ipam: range('10.68.4.0/24') })]),
      'warning overlap "10.68.4.0/24"',
    ],
    [
      'a resolv.conf that is not there',
      list([bridge({ ipam: { ...range('10.22.0.0/16'), resolvConf: '/nonexistent/resolv.conf' } })]),
      'error file "/nonexistent/resolv.conf"',
    ],
    [
      'flannel without its file',
      list([{ type: 'flannel', subnetFile: '/nonexistent/subnet.env' }]),
      'warning file "/nonexistent/subnet.env"',
    ],
    ['nothing', list([bridge({ bridge: 'lintb0', ipam: range('10.67.0.0/24') }), portmap()])],
  ])('%s', async (_, config, ...expected) => {
    expect(await onNode(config)).toEqual(expected)
  })

  test('an executable that does not take the version', async () => {
    const old = `${folder}/old`
    mkdirSync(old)
    const script = '#!/bin/sh\necho \'{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}\'\n'
    writeFileSync(`${old}/aged`, script, { mode: 0o755 })
    expect(await onNode(list([{ type: 'aged' }]), [old])).toEqual(['error executable "aged"'])
    expect(await onNode(list([{ type: 'aged' }], { cniVersion: '0.4.0' }), [old])).toEqual([])
  })

  test('nftables where somebody uses iptables', async () => {
    const network = list([bridge({ ipMasq: true, ipMasqBackend: 'nftables' })])
    expect(await onNode(network)).toEqual([])
    const rule = ['iptables', '-A', 'FORWARD', '-s', '10.99.0.0/16', '-j', 'DROP']
    expect(Bun.spawnSync(rule).exitCode).toBe(0)
    try {
      expect(await onNode(network)).toEqual(['warning backend "nftables"'])
    } finally {
      Bun.spawnSync(['iptables', '-F', 'FORWARD'])
    }
  })
})

test('nftables beside a program that reads iptables', async () => {
  const tools = `${folder}/tools`
  mkdirSync(tools)
  writeFileSync(`${tools}/nerdctl`, '#!/bin/sh\n', { mode: 0o755 })
  const network = write(list([bridge({ ipMasq: true, ipMasqBackend: 'nftables' })]))
  const path = process.env.PATH
  process.env.PATH = `${tools}:${path}`
  try {
    const node = { path: [ours], builtins }
    const { findings } = await lint({ files: [network], load: served.load, node, verbs: [] })
    expect(findings.map(brief)).toEqual(['warning backend "nftables"'])
    expect(findings[0]?.why).toContain('nerdctl looks there for ports that are free')
  } finally {
    process.env.PATH = path
  }
})

describe('the command', () => {
  const catena = (words: string[], env: Record<string, string> = {}) => {
    const { exitCode, stdout, stderr } = Bun.spawnSync([ourExecutable('catena'), 'lint', ...words], {
      env: { PATH: process.env.PATH, CNI_PATH: ours, ...env },
    })
    return { status: exitCode, stdout: `${stdout}`, stderr: `${stderr}` }
  }

  test('JSON in a pipe; exit status 1 for errors, and for warnings where it is strict', () => {
    const [error, warning, fine] = [
      write(list([bridge({ isGatewya: true })])),
      write(
        list([bridge({ vendorAnnotation: true, bridge: 'api0', ipam: range('10.23.0.0/16') })], {
          name: 'api',
        }),
      ),
      write(list([bridge()])),
    ]
    const first = catena([error, warning])
    expect(first.status).toBe(1)
    expect(JSON.parse(first.stdout)).toMatchObject({ shape: 'catena-lint-1', errors: 1, warnings: 1 })
    expect(catena([warning]).status).toBe(0)
    expect(catena([warning, '--strict']).status).toBe(1)
    expect(catena([fine, '--strict', '--format', 'text'])).toEqual({
      status: 0,
      stdout: '✓ 1 file: nothing to say\n',
      stderr: '',
    })
  })

  test.each([80, 40])(
    'a terminal of %d columns: colours, unless NO_COLOR is set, and no longer lines',
    width => {
      const file = write(list([bridge({ isGatewya: true, hairpinMode: true, promiscMode: true })]))
      const onTerminal = (env: Record<string, string>) => {
        const command = `stty cols ${width}; ${ourExecutable('catena')} lint ${file}`
        const { stdout } = Bun.spawnSync(['script', '-qec', command, '/dev/null'], {
          env: { PATH: process.env.PATH, TERM: 'xterm', ...env },
        })
        return `${stdout}`.replaceAll('\r\n', '\n').trimEnd()
      }
      const [plain, coloured] = [onTerminal({ NO_COLOR: '1' }), onTerminal({})]
      expect(plain).not.toContain('\x1b')
      expect(coloured).toContain('\x1b[31merror\x1b[39m')
      expect(Bun.stripANSI(coloured)).toBe(plain)
      expect(Math.max(...plain.split('\n').map(line => Bun.stringWidth(line)))).toBeLessThanOrEqual(width)
      expect(plain).toEndWith('✗ 1 file: 2 errors, 0 warnings')
    },
  )

  test("GitHub's form, with what would end a value written otherwise", () => {
    const file = write(list([bridge({ isGatewya: true })]), 'a,b:c%.conflist')
    const { stdout, status } = catena([file, '--format', 'github'])
    const name = file.replaceAll('%', '%25').replaceAll(':', '%3A').replaceAll(',', '%2C')
    expect(status).toBe(1)
    expect(stdout).toBe(
      `::error file=${name},line=19,col=7,endColumn=18,title=catena lint%3A unknown-key::bridge has no key "isGatewya": did you mean "isGateway"?%0Aa key that is not known is passed over without a word%0Awrite "isGateway"\n`,
    )
  })

  test('a folder, by itself or by NETCONFPATH; one without networks, and a file that is not there', () => {
    const place = `${folder}/net.d`
    mkdirSync(place)
    expect(catena([], { NETCONFPATH: place })).toMatchObject({ status: 1 })
    writeFileSync(`${place}/20-one.conf`, JSON.stringify(single()))
    writeFileSync(`${place}/90-web.conflist`, JSON.stringify(list([bridge({ bridge: 'web7' })])))
    writeFileSync(`${place}/README`, 'no network')
    const [byName, bySetting] = [catena([place]), catena([], { NETCONFPATH: place })]
    expect(JSON.parse(byName.stdout).files).toEqual([`${place}/90-web.conflist`, `${place}/20-one.conf`])
    expect(bySetting).toEqual({ status: 0, stdout: byName.stdout, stderr: '' })
    const missing = catena([`${place}/nosuch.conflist`])
    expect(missing.status).toBe(1)
    expect(JSON.parse(missing.stdout).msg).toContain('nosuch.conflist: there is no such file')
  })
})

/** A shipped network in which something is another value, or some characters are others. */
const spoilt = fc
  .tuple(
    fc.constantFrom('podman', 'kind', 'k3s', 'nerdctl'),
    fc.nat(),
    fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constantFrom(',', '"', '{', ']', '\\', '//', '')),
    fc.boolean(),
  )
  .map(([name, place, value, isText]) => {
    const text = readFileSync(`${import.meta.dir}/../fixtures/conflists/${name}.conflist`, 'utf8')
    if (!isText) {
      const starts = [...text.matchAll(/: (?=["{[tf\d])/g)].map(({ index }) => index + 2)
      const start = starts[place % starts.length] ?? 0
      const old = /^("[^"]*"|true|false|\d+)/.exec(text.slice(start))?.[0]
      if (old !== undefined)
        return text.slice(0, start) + JSON.stringify(value) + text.slice(start + old.length)
    }
    const at = place % text.length
    return `${text.slice(0, at)}${typeof value === 'string' ? value : ''}${text.slice(at + 1)}`
  })

test('whatever a file holds: every finding has a place, and what is no JSON is told from what is', async () => {
  await fc.assert(
    fc.asyncProperty(spoilt, async text => {
      const { findings } = await lintAlone([write(text)])
      const isJson = (() => {
        try {
          JSON.parse(text)
          return true
        } catch {
          return false
        }
      })()
      expect(findings.some(({ rule }) => rule === 'json')).toBe(!isJson)
      for (const { line, column, endColumn } of findings)
        expect(line > 0 && column > 0 && endColumn > column).toBe(true)
    }),
    { numRuns: 200 },
  )
})

test('every rule is on its page', () => {
  const page = readFileSync(`${import.meta.dir}/../../docs/command/lint.md`, 'utf8')
  for (const [rule, says] of Object.entries(rules)) expect(page).toContain(`| \`${rule}\` | ${says} |`)
})
