import { expect, test } from 'bun:test'
import { errno } from '../../../chain/linux/libc/errno.ts'
import { applyBatch } from '../../../chain/linux/nftables/batch.ts'
import { type Command, type Json, NftError, nftDocument } from '../../../chain/linux/nftables/nft.ts'
import { freshNamespace, type Namespace } from '../../fixtures/namespace.ts'

const RULESET = `table ip t {
  set single { type ipv4_addr; }
  set alone { type ipv4_addr; flags interval; }
  set several { type ipv4_addr . ipv4_addr . inet_proto . inet_service; flags interval; }
  set port { type ifname . ether_addr; }
  map addresses { type inet_proto . inet_service : ipv4_addr; }
  map ports { type ipv4_addr . inet_proto . inet_service : inet_service; }
  map chains { type inet_service : verdict; }
  chain one { accept; accept comment "second"; }
  chain two { }
  chain three { }
}
`

function loaded(): Namespace {
  const host = freshNamespace()
  nft(host, ['-f', '-'], RULESET)
  return host
}

function nft(host: Namespace, options: string[], stdin: string): string {
  return host.inside(() => {
    const { success, stdout, stderr } = Bun.spawnSync(['nft', ...options], { stdin: Buffer.from(stdin) })
    if (!success) throw new Error(`${stderr}`)
    return `${stdout}`
  })
}

/** Everything that nft sees, as a set of lines: elements come in an order of the kernel's. */
function listed(host: Namespace): string[] {
  const { nftables } = JSON.parse(nft(host, ['-j', 'list', 'ruleset'], '')) as {
    nftables: { [kind: string]: { elem?: Json[]; handle?: number } }[]
  }
  return nftables
    .filter(each => !('metainfo' in each))
    .flatMap(each =>
      Object.entries(each).flatMap(([kind, { elem = [], handle: _, ...rest }]) => [
        `${kind} ${JSON.stringify(rest)}`,
        ...elem.map(one => `${kind} ${JSON.stringify(rest)} ${JSON.stringify(one)}`),
      ]),
    )
    .sort()
}

const add = (name: string, ...elem: Json[]): Command => ({
  verb: 'add',
  kind: 'element',
  family: 'ip',
  table: 't',
  name,
  elem,
})
const noted = (val: Json, comment: string): Json => ({ elem: { val, comment } })
const concat = (...parts: Json[]): Json => ({ concat: parts })

/** Rows that the batch must encode, each judged by nft: the same commands leave the same ruleset behind. */
const same: { name: string; before?: Command[]; commands: Command[] }[] = [
  { name: 'an address', commands: [add('single', '10.0.0.1', '10.0.0.2')] },
  { name: 'an address with its owner', commands: [add('single', noted('10.0.0.1', 'net container eth0'))] },
  {
    name: 'a concatenation with a network',
    commands: [
      add(
        'several',
        noted(concat('10.0.0.1', { prefix: { addr: '10.1.0.0', len: 16 } }, 'tcp', 80), 'owner'),
      ),
    ],
  },
  {
    name: 'a concatenation with a network that ends within a byte',
    commands: [add('several', concat('10.0.0.1', { prefix: { addr: '10.1.16.0', len: 20 } }, 'udp', 53))],
  },
  {
    name: 'an interface and a hardware address',
    commands: [add('port', concat('veth0123abcd', '02:00:00:00:00:01'))],
  },
  {
    name: 'an address of a port',
    commands: [add('addresses', [noted(concat('tcp', 8080), 'web'), '10.0.0.9'])],
  },
  { name: 'a port of a port', commands: [add('ports', [concat('10.0.0.1', 'sctp', 8080), 80])] },
  { name: 'a chain of a port', commands: [add('chains', [noted(443, 'tls'), { goto: { target: 'one' } }])] },
  {
    name: 'the deletion of an element among others',
    before: [add('single', '10.0.0.1', noted('10.0.0.2', 'stays'))],
    commands: [
      { verb: 'delete', kind: 'element', family: 'ip', table: 't', name: 'single', elem: ['10.0.0.1'] },
    ],
  },
  {
    name: 'the deletion of an element of a map, and of a range',
    before: [
      add('ports', [concat('10.0.0.1', 'tcp', 1), 2]),
      add('several', concat('10.0.0.1', { prefix: { addr: '10.1.0.0', len: 16 } }, 'tcp', 80)),
    ],
    commands: [
      {
        verb: 'delete',
        kind: 'element',
        family: 'ip',
        table: 't',
        name: 'ports',
        elem: [concat('10.0.0.1', 'tcp', 1)],
      },
      {
        verb: 'delete',
        kind: 'element',
        family: 'ip',
        table: 't',
        name: 'several',
        elem: [concat('10.0.0.1', { prefix: { addr: '10.1.0.0', len: 16 } }, 'tcp', 80)],
      },
    ],
  },
  {
    name: 'the emptying and the deletion of a chain',
    commands: [
      { verb: 'flush', kind: 'chain', family: 'ip', table: 't', name: 'one' },
      { verb: 'delete', kind: 'chain', family: 'ip', table: 't', name: 'one' },
      { verb: 'delete', kind: 'chain', family: 'ip', table: 't', name: 'two' },
    ],
  },
  {
    name: 'more elements than one message holds, and more than one datagram usually does',
    commands: [
      add(
        'single',
        ...Array.from({ length: 4000 }, (_, index) =>
          noted(`10.7.${index >> 8}.${index & 255}`, 'x'.repeat(40)),
        ),
      ),
    ],
  },
  {
    name: 'more commands than the usual buffer holds acknowledgements',
    commands: Array.from({ length: 2000 }, (_, index) => ({
      verb: 'add',
      kind: 'chain',
      family: 'ip',
      table: 't',
      name: `chain-${index}`,
    })),
  },
  { name: 'the deletion of a table', commands: [{ verb: 'delete', kind: 'table', family: 'ip', name: 't' }] },
]

test.each(same)('$name: the kernel has the same afterwards as after nft', ({ before = [], commands }) => {
  using ours = loaded()
  using theirs = loaded()
  for (const host of [ours, theirs]) if (before.length) nft(host, ['-j', '-f', '-'], nftDocument(before))
  expect(ours.inside(() => applyBatch(commands))).toBe(true)
  nft(theirs, ['-j', '-f', '-'], nftDocument(commands))
  expect(listed(ours)).toEqual(listed(theirs))
})

test.each<{ name: string; commands: Command[] }>([
  { name: 'the emptying of a table', commands: [{ verb: 'flush', kind: 'table', family: 'ip', name: 't' }] },
  {
    name: 'a chain before others',
    commands: [{ verb: 'insert', kind: 'chain', family: 'ip', table: 't', name: 'x' }],
  },
  {
    name: 'a network in a set of single addresses',
    commands: [add('single', { prefix: { addr: '10.1.0.0', len: 16 } })],
  },
  { name: 'an interval that is no concatenation', commands: [add('alone', '10.0.0.1')] },
  {
    name: 'a range',
    commands: [add('several', concat('10.0.0.1', { range: ['10.1.0.0', '10.1.0.9'] }, 'tcp', 80))],
  },
  {
    name: 'a comment that is longer than nft takes',
    commands: [add('single', noted('10.0.0.1', 'x'.repeat(300)))],
  },
  { name: 'too few parts', commands: [add('addresses', [concat('tcp'), '10.0.0.9'])] },
  { name: 'one such among others', commands: [add('single', '10.0.0.1'), add('alone', '10.0.0.1')] },
])('$name is left to nft, with nothing done', ({ commands }) => {
  using host = loaded()
  const before = listed(host)
  expect(host.inside(() => applyBatch(commands))).toBe(false)
  expect(listed(host)).toEqual(before)
})

test.each<{ name: string; commands: Command[]; refused: number; number: number }>([
  {
    name: 'an element that must not exist',
    commands: [
      add('single', '10.0.0.1'),
      { verb: 'create', kind: 'element', family: 'ip', table: 't', name: 'single', elem: ['10.0.0.1'] },
    ],
    refused: 1,
    number: errno.EEXIST,
  },
  {
    name: 'a key that has another value',
    commands: [
      add('chains', [443, { goto: { target: 'one' } }]),
      add('single', '10.0.0.3'),
      add('chains', [443, { goto: { target: 'two' } }]),
    ],
    refused: 2,
    number: errno.EEXIST,
  },
  {
    name: 'the deletion of what is not there',
    commands: [
      add('single', '10.0.0.1'),
      { verb: 'delete', kind: 'chain', family: 'ip', table: 't', name: 'none' },
    ],
    refused: 1,
    number: errno.ENOENT,
  },
  {
    name: 'a set that is not there',
    commands: [add('single', '10.0.0.1'), add('none', '10.0.0.1')],
    refused: 1,
    number: errno.ENOENT,
  },
])('$name: refused with statement and errno, and nothing of the transaction is left', row => {
  using host = loaded()
  const before = listed(host)
  let thrown: unknown
  try {
    host.inside(() => applyBatch(row.commands))
  } catch (error) {
    thrown = error
  }
  if (!(thrown instanceof NftError)) throw thrown
  expect({ command: thrown.command, number: thrown.errno }).toEqual({
    command: row.commands[row.refused],
    number: row.number,
  })
  expect(listed(host)).toEqual(before)
})
