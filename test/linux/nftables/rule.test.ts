import { expect, test } from 'bun:test'
import { chainsOf } from '../../../chain/filter/nftables/chains.ts'
import { families } from '../../../chain/filter/nftables/layout.ts'
import { attributes, join, split } from '../../../chain/linux/netlink/codec.ts'
import { dump, NETLINK_NETFILTER, openTransport } from '../../../chain/linux/netlink/socket.ts'
import { applyBatch } from '../../../chain/linux/nftables/batch.ts'
import {
  type ChainSpec,
  type Command,
  type Family,
  type Json,
  nftDocument,
} from '../../../chain/linux/nftables/nft.ts'
import { freshNamespace, type Namespace } from '../../fixtures/namespace.ts'

const SUBSYSTEM = 10 << 8
const numbers: Readonly<Record<string, number>> = { ip: 2, ip6: 10, bridge: 7 }
const kinds = { chain: SUBSYSTEM | 4, rule: SUBSYSTEM | 7, set: SUBSYSTEM | 10 }
/** What differs from namespace to namespace: handles, positions, a pointer into the kernel. */
const passing = { chain: [2, 6], rule: [3, 6], set: [16, 19] }

function nft(host: Namespace, options: readonly string[], stdin = ''): string {
  return host.inside(() => {
    const { success, stdout, stderr } = Bun.spawnSync(['nft', ...options], { stdin: Buffer.from(stdin) })
    if (!success) throw new Error(`nft: ${stderr}${stdin}`)
    return `${stdout}`
  })
}

/** The kernel's own description, as it comes over the wire. */
function raw(host: Namespace, family: Family): string[] {
  using netfilter = host.inside(() => openTransport(NETLINK_NETFILTER))
  return Object.entries(kinds).flatMap(([kind, type]) =>
    dump(netfilter, {
      operation: `list ${kind}`,
      type,
      payload: new Uint8Array([numbers[family] ?? 0, 0, 0, 0]),
    }).map(({ payload }) => {
      const stays = attributes(split(payload, 4)[1]).filter(
        each => !passing[kind as 'set'].includes(each.type),
      )
      const bytes = stays.map(({ type, value }) => join(new Uint8Array([type]), value))
      return `${kind} ${Buffer.concat(bytes).toString('hex')}`
    }),
  )
}

/** The same by nft in one namespace and by us in another: text, JSON and bytes must not differ. */
function expectSame(family: Family, commands: readonly Command[]): void {
  using ours = freshNamespace()
  using theirs = freshNamespace()
  nft(theirs, ['-j', '-f', '-'], nftDocument(commands))
  expect(ours.inside(() => applyBatch(commands))).toBe(true)
  const list = ['list', 'ruleset']
  expect(nft(ours, list)).toBe(nft(theirs, list))
  const withoutHandles = (host: Namespace) => nft(host, ['-j', ...list]).replaceAll(/"handle": \d+(, )?/g, '')
  expect(withoutHandles(ours)).toBe(withoutHandles(theirs))
  const bytes = raw(theirs, family)
  expect(bytes.length).toBeGreaterThan(3)
  expect(raw(ours, family)).toEqual(bytes)
}

const parts = families.flatMap(family => (['base', 'forward'] as const).map(part => ({ family, part })))

test.each(parts)(
  'part $part of table $family is, byte for byte, what nft makes of the same commands',
  each => {
    const commands = chainsOf(each.family, each.part)
    expect(commands.length).toBeGreaterThan(3)
    expectSame(each.family, commands)
  },
)

const table = 't'
const meta = (key: string): Json => ({ meta: { key } })
const payload = (protocol: string, field: string): Json => ({ payload: { protocol, field } })
const match = (left: Json, right: Json, op = '=='): Json => ({ match: { op, left, right } })
const concat = (...parts: Json[]): Json => ({ concat: parts })
const prefix = (addr: string, len: number): Json => ({ prefix: { addr, len } })
const ct = (key: string): Json => ({ ct: { key } })
const fib = (flag: string): Json => ({ fib: { result: 'type', flags: [flag] } })

function base(family: Family, given: Partial<ChainSpec>): Command {
  return {
    verb: 'add',
    kind: 'chain',
    family,
    table,
    name: 'base',
    hook: 'forward',
    type: 'filter',
    prio: 0,
    ...given,
  }
}

function set(family: Family, name: string, type: string | string[], interval = false): Command {
  return { verb: 'add', kind: 'set', family, table, name, type, ...(interval ? { flags: ['interval'] } : {}) }
}

/** Rules in a table that has a base chain, two more chains and sets of every kind. */
function ruleset(family: Family, rules: readonly Json[][]): Command[] {
  const address = family === 'ip6' ? 'ipv6_addr' : 'ipv4_addr'
  return [
    { verb: 'create', kind: 'table', family, name: table },
    base(family, {}),
    { verb: 'add', kind: 'chain', family, table, name: 'other' },
    set(family, 'names', 'ifname'),
    set(family, 'pairs', ['ifname', 'ifname']),
    set(family, 'places', ['ifname', address]),
    set(family, 'ranges', ['ifname', address, 'inet_proto', 'inet_service'], true),
    set(family, 'cards', 'ether_addr'),
    ...rules.map<Command>(expr => ({ verb: 'add', kind: 'rule', family, table, chain: 'base', expr })),
  ]
}

const drop: Json = { drop: null }
const accept: Json = { accept: null }
const port: Json[] = [meta('l4proto'), payload('th', 'dport')]

const rows: { name: string; family: Family; rules: Json[][] }[] = [
  {
    name: 'verdicts',
    family: 'ip',
    rules: [
      [{ jump: { target: 'other' } }],
      [{ goto: { target: 'other' } }],
      [{ return: null }],
      [accept],
      [drop],
    ],
  },
  {
    name: 'links by name and by set',
    family: 'ip',
    rules: [
      [match(meta('iifname'), 'cni0'), drop],
      [match(meta('oifname'), 'fifteen-bytes-0', '!='), drop],
      [match(meta('iifname'), '@names'), match(meta('oifname'), '@names'), drop],
      [match(concat(meta('iifname'), meta('oifname')), '@pairs', '!='), drop],
      [match(concat(meta('oifname'), payload('ip', 'saddr')), '@places'), accept],
      [match(concat(meta('iifname'), payload('ip', 'daddr'), ...port), '@ranges'), accept],
    ],
  },
  {
    name: 'connections by state and status',
    family: 'ip6',
    rules: [
      [match(ct('state'), ['established', 'related'], 'in'), accept],
      [match(ct('state'), 'invalid', 'in'), drop],
      [match(ct('status'), ['dnat', 'snat'], 'in'), accept],
    ],
  },
  {
    name: 'addresses and networks of IPv4',
    family: 'ip',
    rules: [
      [match(payload('ip', 'saddr'), '10.1.2.3'), drop],
      [match(payload('ip', 'daddr'), '10.1.2.3', '!='), drop],
      ...[1, 8, 9, 16, 23, 24, 31].map(length => [
        match(payload('ip', 'daddr'), prefix('128.0.0.0', length)),
        drop,
      ]),
      [match(payload('ip', 'saddr'), prefix('10.0.0.0', 8), '!='), drop],
      [match(payload('ip', 'saddr'), prefix('10.16.0.0', 12), '!='), drop],
    ],
  },
  {
    name: 'addresses and networks of IPv6',
    family: 'ip6',
    rules: [
      [match(payload('ip6', 'saddr'), 'fd00::1'), drop],
      ...[3, 7, 8, 10, 64, 127].map(length => [
        match(payload('ip6', 'daddr'), prefix('8000::', length)),
        drop,
      ]),
      [match(concat(meta('oifname'), payload('ip6', 'saddr')), '@places'), accept],
      [match(concat(meta('oifname'), payload('ip6', 'saddr'), ...port), '@ranges', '!='), accept],
    ],
  },
  {
    name: 'kinds of addresses',
    family: 'ip',
    rules: [
      [match(fib('daddr'), 'local'), accept],
      [match(fib('saddr'), 'broadcast'), drop],
    ],
  },
  {
    name: 'frames',
    family: 'bridge',
    rules: [
      [match(meta('iifname'), '@names'), drop],
      [match(payload('ether', 'saddr'), '02:00:00:00:00:01'), accept],
      [match(payload('ether', 'daddr'), '@cards', '!='), accept],
    ],
  },
]

test.each(rows)('$name ($family): the kernel holds the same bytes as after nft', ({ family, rules }) => {
  expectSame(family, ruleset(family, rules))
})

test('base chains of all hooks, with policies and priorities', () => {
  const chain = (given: Partial<ChainSpec>) => base('ip', { name: `${given.hook}`, ...given })
  expectSame('ip', [
    { verb: 'add', kind: 'table', family: 'ip', name: table },
    chain({ hook: 'prerouting', prio: -300 }),
    chain({ hook: 'input', prio: 10, policy: 'drop' }),
    chain({ hook: 'forward', policy: 'accept' }),
    chain({ hook: 'output', type: 'nat', prio: -100 }),
    chain({ hook: 'postrouting', type: 'nat', prio: 100 }),
  ])
})

test('a comment, a rule before the others, a deletion', () => {
  const rule = (verb: 'add' | 'insert', expr: Json[], comment: string): Command => {
    return { verb, kind: 'rule', family: 'ip', table, chain: 'base', expr, comment }
  }
  expectSame('ip', [
    ...ruleset('ip', [[accept]]),
    rule('add', [drop], 'last'),
    rule('insert', [{ return: null }], 'first'),
    { verb: 'delete', kind: 'set', family: 'ip', table, name: 'names', type: 'ifname' },
    { verb: 'delete', kind: 'chain', family: 'ip', table, name: 'other' },
  ])
})

test('elements of sets that come to be in the same transaction', () => {
  expectSame('ip', [
    ...ruleset('ip', []),
    {
      verb: 'add',
      kind: 'element',
      family: 'ip',
      table,
      name: 'ranges',
      elem: [concat('cni0', prefix('10.1.0.0', 16), 'tcp', 80)],
    },
  ])
})

test.each<{ name: string; expr: Json[] }>([
  { name: 'a counter', expr: [{ counter: null }, accept] },
  {
    name: 'a port of TCP, which needs to be asked for first',
    expr: [match(payload('tcp', 'dport'), 80), accept],
  },
  { name: 'an address of the other family', expr: [match(payload('ip6', 'saddr'), 'fd00::1'), accept] },
  {
    name: 'a set without a name',
    expr: [match(payload('ip', 'saddr'), { set: ['10.0.0.1', '10.0.0.2'] }), drop],
  },
  { name: 'a range', expr: [match(payload('ip', 'saddr'), { range: ['10.0.0.1', '10.0.0.9'] }), drop] },
  { name: 'links by the beginning of their names', expr: [match(meta('iifname'), 'veth*'), drop] },
  { name: 'less than', expr: [match(payload('th', 'dport'), 1024, '<'), drop] },
  { name: 'one state, not as a bit', expr: [match(ct('state'), 'new'), drop] },
  { name: 'masquerade at random', expr: [{ masquerade: { flags: 'random' } }] },
])('$name is left to nft, with nothing done', ({ expr }) => {
  using host = freshNamespace()
  expect(host.inside(() => applyBatch(ruleset('ip', [expr])))).toBe(false)
  expect(nft(host, ['list', 'ruleset'])).toBe('')
})
