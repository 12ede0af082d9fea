/** What a rule does, read from its expressions: as nft and iptables write them. */
import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { CodecError } from '../../../chain/linux/netlink/codec.ts'
import { readExpressions } from '../../../chain/linux/nftables/expression.ts'
import { listRules } from '../../../chain/linux/nftables/list.ts'
import { openNetfilter } from '../../../chain/linux/nftables/netfilter.ts'
import { freshNamespace } from '../../fixtures/namespace.ts'

/** A rule in a table that has chains `first` and `second`. */
function read(family: 'ip' | 'ip6', rule: string) {
  using host = freshNamespace()
  host.run(
    'nft',
    `table ${family} t { chain first { }; chain second { }; chain base { type filter hook forward priority 0; ${rule}; }; }`,
  )
  return host.inside(() => {
    using netfilter = openNetfilter()
    const [{ handle: _, chain: __, ...found } = { handle: 0, chain: '' }] = listRules(netfilter, {
      family,
      table: 't',
      chain: 'base',
    })
    return found
  })
}

const nothing = { comment: '', targets: [], mayDrop: false }

describe('a rule of nft', () => {
  test.each([
    ['accept', {}],
    ['counter return', {}],
    ['drop', { mayDrop: true }],
    ['reject', { mayDrop: true }],
    ['jump first', { targets: ['first'] }],
    ['goto second', { targets: ['second'] }],
    ['ip saddr 10.1.0.2 accept', { source: '10.1.0.2' }],
    ['ip daddr 10.1.0.2 drop', { destination: '10.1.0.2', mayDrop: true }],
    [
      'ip saddr 10.1.0.2 ip daddr 10.1.0.3 jump first',
      { source: '10.1.0.2', destination: '10.1.0.3', targets: ['first'] },
    ],
    ['ip saddr != 10.1.0.2 accept', {}],
    ['ip saddr 10.1.0.0/24 accept', {}],
    ['ip saddr { 10.1.0.2, 10.1.0.3 } accept', {}],
    ['ip ttl 1 drop', { mayDrop: true }],
    ['iifname "cni0" accept', { input: 'cni0' }],
    ['oifname "cni0" drop', { output: 'cni0', mayDrop: true }],
    ['iifname "cni*" accept', {}],
    ['iifname != "cni0" accept', {}],
    ['mark set 1', {}],
    ['accept comment "mine"', { comment: 'mine' }],
    ['iifname vmap { "a": jump first, "b": drop }', {}],
  ])('%s', (rule, content) => {
    expect(read('ip', rule)).toEqual({ ...nothing, ...content })
  })

  test('with addresses of IPv6', () => {
    expect(read('ip6', 'ip6 saddr fd00::2 ip6 daddr fd00::3 goto first')).toEqual({
      ...nothing,
      source: 'fd00::2',
      destination: 'fd00::3',
      targets: ['first'],
    })
  })
})

describe('a rule of iptables', () => {
  const rows: [string, object][] = [
    [
      '-s 10.1.0.2 -d 10.1.0.3 -i in0 -o out0 -m comment --comment words -j ACCEPT',
      { source: '10.1.0.2', destination: '10.1.0.3', input: 'in0', output: 'out0', comment: 'words' },
    ],
    ['-s 10.1.0.0/24 ! -d 10.1.0.3 -i in+ -j LOG', {}],
    ['-j REJECT', { mayDrop: true }],
    ['-p tcp --dport 80 -j DROP', { mayDrop: true }],
    ['-j MARK --set-mark 1', {}],
    ['-j NFQUEUE --queue-num 1', { mayDrop: true }],
  ]
  test('is read as one of nft', () => {
    using host = freshNamespace()
    for (const [rule] of rows) host.run('iptables-nft', '-w', '-A', 'FORWARD', ...rule.split(' '))
    const found = host.inside(() => {
      using netfilter = openNetfilter()
      return listRules(netfilter, { family: 'ip', table: 'filter', chain: 'FORWARD' }).map(
        ({ handle: _, chain: __, ...rest }) => rest,
      )
    })
    expect(found).toEqual(rows.map(([, content]) => ({ ...nothing, ...content })))
  })
})

test('no expressions do nothing, and bytes that are none are refused as such', () => {
  expect(readExpressions(undefined)).toEqual(nothing)
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), bytes => {
      try {
        readExpressions(bytes)
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(CodecError)
      }
    }),
    { numRuns: 300 },
  )
})
