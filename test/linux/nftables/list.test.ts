import { expect, test } from 'bun:test'
import { existsSync } from 'node:fs'
import { encodeMessage } from '../../../chain/linux/netlink/codec.ts'
import { dump, type Transport } from '../../../chain/linux/netlink/socket.ts'
import {
  describeSets,
  filledSets,
  findChain,
  listBaseChains,
  listChains,
  listElements,
  listRules,
  rulesetGeneration,
  tableExists,
} from '../../../chain/linux/nftables/list.ts'
import { openNetfilter } from '../../../chain/linux/nftables/netfilter.ts'
import type { Family } from '../../../chain/linux/nftables/nft.ts'
import { freshNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { jumpRule } from '../netlink/captured.ts'

const RULESET = `table ip t {
  set single { type ipv4_addr; elements = { 10.0.0.1 comment "one", 10.0.0.2 } }
  set several { type ipv4_addr . ipv4_addr; flags interval; elements = { 10.0.0.1 . 10.1.0.0/16 comment "range" } }
  map addresses { type inet_proto . inet_service : ipv4_addr; elements = { tcp . 80 comment "web" : 10.0.0.9 } }
  map chains { type inet_service : verdict; elements = { 443 comment "tls" : goto other } }
  chain base { type filter hook input priority -7; policy accept;
    tcp dport 80 jump other comment "owner one"
    ip saddr 10.0.0.1 goto third
    accept
  }
  chain other { accept comment "last"; }
  chain third { }
}
`

function loaded(): Namespace & { netfilter: Transport } {
  const host = freshNamespace()
  host.inside(() => {
    const { success, stderr } = Bun.spawnSync(['nft', '-f', '-'], { stdin: Buffer.from(RULESET) })
    if (!success) throw new Error(`${stderr}`)
  })
  return { ...host, netfilter: host.inside(openNetfilter) }
}

test('a rule as the kernel tells of it: its chain, its comment, and where it jumps to', () => {
  let sequence = 0
  const kernel: Transport = {
    send: datagram => {
      sequence = new DataView(datagram.buffer, datagram.byteOffset).getUint32(8, true)
    },
    receive: () =>
      Buffer.concat([
        encodeMessage({ type: 0xa06, flags: 2, sequence, payload: jumpRule }), // NFT_MSG_NEWRULE, NLM_F_MULTI
        encodeMessage({ type: 3, flags: 2, sequence, payload: new Uint8Array(4) }), // NLMSG_DONE
      ]),
    close() {},
    [Symbol.dispose]() {},
  }
  expect(listRules(kernel, { family: 'ip', table: 't' })).toEqual([
    { chain: 'c', handle: 3, comment: 'owner one', targets: ['d'], mayDrop: false },
  ])
})

test('sets that hold something are told from empty ones', () => {
  using host = loaded()
  host.run('nft', 'add element ip t single { 10.0.0.3 }; add set ip t empty { type ipv4_addr; }')
  host.run('nft', 'flush set ip t several; flush map ip t chains')
  expect(filledSets(host.netfilter, 'ip', 't').sort()).toEqual(['addresses', 'single'])
  expect(filledSets(host.netfilter, 'ip6', 't')).toEqual([])
})

test('rules are read in order, with comments and targets, of a table or of one chain', () => {
  using host = loaded()
  const read = (of: { chain?: string } = {}) =>
    listRules(host.netfilter, { family: 'ip', table: 't', ...of }).map(({ chain, comment, targets }) => ({
      chain,
      comment,
      targets,
    }))
  const base = [
    { chain: 'base', comment: 'owner one', targets: ['other'] },
    { chain: 'base', comment: '', targets: ['third'] },
    { chain: 'base', comment: '', targets: [] },
  ]
  expect(read({ chain: 'base' })).toEqual(base)
  expect(read()).toEqual([...base, { chain: 'other', comment: 'last', targets: [] }])
  expect(read({ chain: 'third' })).toEqual([])
})

test("a rule's handle is the one by which nft deletes it", () => {
  using host = loaded()
  const [rule] = listRules(host.netfilter, { family: 'ip', table: 't', chain: 'base' })
  host.run('nft', 'delete', 'rule', 'ip', 't', 'base', 'handle', String(rule?.handle))
  expect(
    listRules(host.netfilter, { family: 'ip', table: 't', chain: 'base' }).map(({ comment }) => comment),
  ).toEqual(['', ''])
})

test('chains are read with hook, priority, policy and type, where they have them', () => {
  using host = loaded()
  const chains = listChains(host.netfilter, 'ip').map(({ handle, ...chain }) => ({
    ...chain,
    numbered: handle > 0,
  }))
  expect(chains).toEqual([
    { table: 't', name: 'base', hook: 1, priority: -7, policy: 1, type: 'filter', numbered: true },
    { table: 't', name: 'other', numbered: true },
    { table: 't', name: 'third', numbered: true },
  ])
})

test('sets and maps are told apart, and intervals', () => {
  using host = loaded()
  const kinds = describeSets(host.netfilter, 'ip', 't').map(({ name, isMap, isInterval }) => ({
    name,
    isMap,
    isInterval,
  }))
  expect(kinds).toEqual([
    { name: 'single', isMap: false, isInterval: false },
    { name: 'several', isMap: false, isInterval: true },
    { name: 'addresses', isMap: true, isInterval: false },
    { name: 'chains', isMap: true, isInterval: false },
  ])
})

test('elements are read with key, value and comment', () => {
  using host = loaded()
  const read = (set: string) =>
    listElements(host.netfilter, { family: 'ip', table: 't', set }).map(({ key, keyEnd, data, ...rest }) => ({
      key: Buffer.from(key).toHex(),
      ...(keyEnd ? { keyEnd: Buffer.from(keyEnd).toHex() } : {}),
      data: Buffer.from(data).toHex(),
      ...rest,
    }))
  expect(read('single').sort((one, other) => (one.key < other.key ? -1 : 1))).toEqual([
    { key: '0a000001', data: '', comment: 'one' },
    { key: '0a000002', data: '', comment: '' },
  ])
  expect(read('several')).toEqual([
    { key: '0a0000010a010000', keyEnd: '0a0000010a01ffff', data: '', comment: 'range' },
  ])
  expect(read('addresses')).toEqual([{ key: '0600000000500000', data: '0a000009', comment: 'web' }])
  expect(read('chains')).toEqual([{ key: '01bb', data: '', comment: 'tls', target: 'other', verdict: -4 }])
})

test('thousands of elements are read whole', () => {
  using host = loaded()
  const some = Array.from(
    { length: 3000 },
    (_, index) => `10.9.${index >> 8}.${index & 255} comment "owner ${index}"`,
  )
  host.inside(() =>
    Bun.spawnSync(['nft', '-f', '-'], {
      stdin: Buffer.from(`add element ip t single { ${some.join(', ')} }`),
    }),
  )
  const comments = listElements(host.netfilter, { family: 'ip', table: 't', set: 'single' }).map(
    ({ comment }) => comment,
  )
  expect(new Set(comments).size).toBe(3002)
})

test.each([
  { rule: 'ip saddr 10.0.0.2 accept', content: { source: '10.0.0.2', mayDrop: false } },
  { rule: 'ip daddr 10.0.0.2 drop', content: { destination: '10.0.0.2', mayDrop: true } },
  { rule: 'ip saddr 10.0.0.0/24 ip daddr != 10.0.0.2 return', content: { mayDrop: false } },
  { rule: 'ip saddr { 10.0.0.2, 10.0.0.3 } reject', content: { mayDrop: true } },
  { rule: 'iifname "eth0" oifname "veth*" accept', content: { input: 'eth0', mayDrop: false } },
  {
    rule: 'iifname != "eth0" oifname "eth1" jump other',
    content: { output: 'eth1', targets: ['other'], mayDrop: false },
  },
  { rule: 'meta mark set 1 counter log', content: { mayDrop: false } },
])('what $rule matches and leads to is read', ({ rule, content }) => {
  using host = loaded()
  host.run('nft', `add chain ip t fresh; add rule ip t fresh ${rule}`)
  const [found] = listRules(host.netfilter, { family: 'ip', table: 't', chain: 'fresh' })
  const { handle: _handle, ...rest } = found ?? { handle: 0 }
  expect(rest).toEqual({ chain: 'fresh', comment: '', targets: [], ...content })
})

test.each([
  { words: ['-s', '10.0.0.2', '-j', 'LOG'], content: { source: '10.0.0.2', mayDrop: false } },
  { words: ['-d', '10.0.0.2/32', '-j', 'REJECT'], content: { destination: '10.0.0.2', mayDrop: true } },
  {
    words: ['-i', 'eth0', '!', '-o', 'eth0', '-j', 'MARK', '--set-mark', '1'],
    content: { input: 'eth0', mayDrop: false },
  },
  { words: ['-o', 'eth+', '-p', 'tcp', '-j', 'NFQUEUE'], content: { mayDrop: true } },
])("what iptables' $words matches and leads to is read", ({ words, content }) => {
  using host = loaded()
  host.run('iptables-nft', '-A', 'FORWARD', ...words)
  const [found] = listRules(host.netfilter, { family: 'ip', table: 'filter', chain: 'FORWARD' })
  const { handle: _handle, ...rest } = found ?? { handle: 0 }
  expect(rest).toEqual({ chain: 'FORWARD', comment: '', targets: [], ...content })
})

test('base chains are picked out of all', () => {
  using host = loaded()
  expect(listChains(host.netfilter, 'ip').map(({ name }) => name)).toEqual(['base', 'other', 'third'])
  expect(listBaseChains(host.netfilter, 'ip')).toEqual(listChains(host.netfilter, 'ip').slice(0, 1))
})

test('a chain is found with its policy, and one that is not there is none', () => {
  using host = loaded()
  expect(findChain(host.netfilter, { family: 'ip', table: 't', chain: 'base' })).toMatchObject({
    name: 'base',
    policy: 1,
    priority: -7,
  })
  expect(findChain(host.netfilter, { family: 'ip', table: 't', chain: 'none' })).toBeUndefined()
  expect(findChain(host.netfilter, { family: 'ip6', table: 't', chain: 'base' })).toBeUndefined()
})

test('what is not there is empty, not an error', () => {
  using host = loaded()
  const { netfilter } = host
  for (const [family, table] of [
    ['ip', 'none'],
    ['ip6', 't'],
  ] as [Family, string][]) {
    expect({
      exists: tableExists(netfilter, family, table),
      rules: listRules(netfilter, { family, table }),
      sets: describeSets(netfilter, family, table),
      elements: listElements(netfilter, { family, table, set: 'single' }),
    }).toEqual({ exists: false, rules: [], sets: [], elements: [] })
  }
  expect(tableExists(netfilter, 'ip', 't')).toBe(true)
  expect(listRules(netfilter, { family: 'ip', table: 't', chain: 'none' })).toEqual([])
  expect(listElements(netfilter, { family: 'ip', table: 't', set: 'none' })).toEqual([])
})

test('the generation goes up by one with each transaction, and with nothing else', () => {
  using host = loaded()
  const read = () => rulesetGeneration(host.netfilter)
  const before = read()
  expect(read()).toBe(before)
  host.run('nft', 'add', 'table', 'ip', 'another')
  expect(read()).toBe(before + 1)
})

test('a list that another changes while it is read is still whole', () => {
  using host = loaded()
  const some = Array.from({ length: 500 }, (_, index) => `add chain ip t chain${index}`)
  host.inside(() => Bun.spawnSync(['nft', '-f', '-'], { stdin: Buffer.from(some.join('\n')) }))
  let changes = 0
  const meddling: Transport = {
    ...host.netfilter,
    receive: () => {
      const datagram = host.netfilter.receive()
      if (changes < 3) host.run('nft', 'add', 'table', 'ip', `meddle${changes++}`)
      return datagram
    },
  }
  const found = dump(meddling, {
    operation: 'list chains',
    type: 0xa04,
    payload: new Uint8Array([2, 0, 0, 0]),
  })
  expect(found.length).toBe(503)
  expect(changes).toBe(3)
})

test('closing a netfilter socket holds nothing up: it is open for a while yet, and closed in the end', async () => {
  const { descriptor, close } = openNetfilter()
  const isOpen = () => existsSync(`/proc/self/fd/${descriptor}`)
  close()
  expect(isOpen()).toBe(true)
  while (isOpen()) await new Promise(setImmediate)
})
