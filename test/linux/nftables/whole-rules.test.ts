/** Rules with all that they do, as the kernel has them. */
import { expect, test } from 'bun:test'
import { readText, readUint32Big } from '../../../chain/linux/netlink/codec.ts'
import { listRules } from '../../../chain/linux/nftables/list.ts'
import { openNetfilter } from '../../../chain/linux/nftables/netfilter.ts'
import { listWholeRules } from '../../../chain/linux/nftables/whole-rules.ts'
import { freshNamespace } from '../../fixtures/namespace.ts'

test('each is told with its chain, its comment and its expressions, in order', () => {
  using host = freshNamespace()
  host.run(
    'nft',
    'table ip t { chain c { ip saddr 10.1.0.2 counter accept comment "mine"; drop; }; chain d { }; }',
  )
  host.inside(() => {
    using netfilter = openNetfilter()
    const rules = listWholeRules(netfilter, 'ip', 't')
    expect(
      rules.map(({ chain, comment, expressions }) => [chain, comment, expressions.map(({ name }) => name)]),
    ).toEqual([
      ['c', 'mine', ['payload', 'cmp', 'counter', 'immediate']],
      ['c', '', ['immediate']],
    ])
    const [payload] = rules[0]?.expressions ?? []
    expect(readUint32Big(payload?.data.get(3) ?? new Uint8Array(4))).toBe(12) // NFTA_PAYLOAD_OFFSET of the source
    expect(rules.map(({ handle }) => handle)).toEqual(
      listRules(netfilter, { family: 'ip', table: 't' }).map(({ handle }) => handle),
    )
  })
})

test('of extensions of iptables the name is there, and of a table that is not there nothing', () => {
  using host = freshNamespace()
  host.run(
    'iptables-nft',
    '-w',
    '-A',
    'FORWARD',
    '-m',
    'statistic',
    '--mode',
    'nth',
    '--every',
    '2',
    '--packet',
    '0',
    '-j',
    'MARK',
    '--set-mark',
    '1',
  )
  host.inside(() => {
    using netfilter = openNetfilter()
    const [rule] = listWholeRules(netfilter, 'ip', 'filter')
    const names = rule?.expressions.map(
      ({ name, data }) => `${name} ${readText(data.get(1) ?? new Uint8Array(0))}`,
    )
    expect(names?.filter(name => /^(match|target)/.test(name))).toEqual(['match statistic', 'target MARK'])
    expect(listWholeRules(netfilter, 'ip6', 'filter')).toEqual([])
  })
})
