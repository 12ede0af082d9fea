/** What stands in for a backend that a node has not, and what failure shows that it has not. */
import { describe, expect, test } from 'bun:test'
import { explainLack, fallbackFor, proven } from '../../chain/filter/fallback.ts'
import { chainsOf } from '../../chain/filter/nftables/chains.ts'
import { IptablesError } from '../../chain/linux/iptables/apply.ts'
import { errno, SystemError } from '../../chain/linux/libc/errno.ts'
import { applyRuleset } from '../../chain/linux/nftables/engine.ts'
import { type Command, type Engine, NftError } from '../../chain/linux/nftables/nft.ts'
import { CniError } from '../../chain/protocol/error.ts'
import { choose, hideTools } from '../fixtures/iptables.ts'
import { hostNamespace } from '../fixtures/namespace.ts'

const set: Command = {
  verb: 'add',
  kind: 'set',
  family: 'ip',
  table: 't',
  name: 's',
  type: ['ipv4_addr', 'ipv4_addr'],
}
const chain: Command = { verb: 'add', kind: 'chain', family: 'ip', table: 't', name: 'c' }
const refusal = (number: number, command?: Command) =>
  new NftError('apply nftables rules: no', 'no', { errno: number, command })
const broken = new IptablesError('apply iptables rules: no', { family: 'ip', said: 'no' })
const none = new SystemError('open a netfilter socket', errno.EPROTONOSUPPORT)

const OLD = /^nf_tables of this kernel holds no networks beside addresses in one set, which takes Linux 5\.6$/
const NONE = /^the kernel has no nf_tables$/

/** What a kernel of some release, or without nf_tables, answers to our tables. */
const lacks: { name: string; thrown: Error; why: RegExp }[] = [
  { name: 'no netfilter sockets', thrown: none, why: NONE },
  { name: 'a batch that is not supported', thrown: refusal(errno.EOPNOTSUPP), why: NONE },
  { name: 'a set with flags that are unknown', thrown: refusal(errno.EINVAL, set), why: OLD },
  { name: 'a set with flags that are not supported', thrown: refusal(errno.EOPNOTSUPP, set), why: OLD },
  {
    name: 'a map of that kind',
    thrown: refusal(errno.EINVAL, { ...set, kind: 'map', map: 'ipv4_addr' }),
    why: OLD,
  },
]

/** What has nothing to do with what the node has. */
const others = [
  refusal(errno.EEXIST, set),
  refusal(errno.EINVAL, chain),
  refusal(errno.EOPNOTSUPP, chain),
  refusal(errno.EINVAL, { ...set, verb: 'delete' }),
  refusal(errno.EINVAL),
  refusal(errno.EPERM),
  new SystemError('open a netfilter socket', errno.ENOMEM),
  new TypeError('no such function'),
]

describe('where nftables fails', () => {
  test.each(lacks)('by $name, iptables stands in', ({ thrown, why }) => {
    using _choice = choose('legacy')
    for (const each of [thrown, new CniError(999, 'no', { cause: thrown })])
      expect(fallbackFor(each)).toEqual({
        backend: 'iptables',
        variant: 'legacy',
        why: expect.stringMatching(why),
        by: 'use',
      })
  })

  test('for another reason, nothing does', () => {
    for (const each of others)
      expect({ of: each.message, other: fallbackFor(each) }).toEqual({ of: each.message, other: undefined })
    expect(fallbackFor('a text')).toBeUndefined()
  })

  test('and there are no tools of iptables either, nothing is left', () => {
    using _tools = hideTools()
    for (const { thrown } of lacks) expect(fallbackFor(thrown)).toBeUndefined()
  })
})

test('where iptables fails, nftables stands in', () => {
  for (const each of [broken, new CniError(999, 'no', { cause: broken })])
    expect(fallbackFor(each)).toEqual({
      backend: 'nftables',
      why: 'iptables does not work on this node',
      by: 'use',
    })
})

test('a lack is told with what helps, and any other failure as it is', () => {
  for (const { thrown, why } of lacks)
    expect(explainLack(thrown)).toMatchObject({
      code: 999,
      message: expect.stringMatching(why),
      details: expect.stringMatching(
        /; set the backend to iptables, install its tools .* or run Linux 5\.6 or later$/,
      ),
      cause: thrown,
    })
  for (const each of others) expect(explainLack(each)).toBe(each)
})

describe('STATUS', () => {
  const nftables = { backend: 'nftables', why: 'nothing on this node uses iptables', by: 'use' } as const
  const lacking: Engine = () => Promise.reject(refusal(errno.EINVAL, set))

  test('tries our own tables’ sets, and leaves nothing', async () => {
    const host = hostNamespace()
    const before = host.run('nft', 'list', 'ruleset')
    const tried: Command[][] = []
    const engine: Engine = async commands => {
      tried.push([...commands])
      await applyRuleset(commands)
    }
    expect(await proven(nftables, engine)).toBe(nftables)
    expect(host.run('nft', 'list', 'ruleset')).toBe(before)
    const intervals = (commands: readonly Command[]) =>
      commands.flatMap(command => (command.kind === 'set' && command.flags ? [command.name] : []))
    expect(intervals(tried.flat())).toEqual(intervals(chainsOf('ip', 'base')))
    expect(intervals(tried.flat())).not.toEqual([])
  })

  test('asks nothing about iptables', async () => {
    const decision = { backend: 'iptables', variant: 'legacy', why: 'it is used', by: 'use' } as const
    expect(await proven(decision, () => Promise.reject(new Error('asked')))).toBe(decision)
  })

  test('tells what ADD would take instead', async () => {
    using _choice = choose('nf_tables')
    expect(await proven(nftables, lacking)).toMatchObject({ backend: 'iptables', variant: 'nf_tables' })
  })

  test.each([
    { name: 'a configuration insists', by: 'configuration' as const, tools: true },
    { name: 'nothing is left', by: 'use' as const, tools: false },
  ])('is code 50 where $name', async ({ by, tools }) => {
    using _tools = tools ? choose('nf_tables') : hideTools()
    await expect(proven({ ...nftables, by }, lacking)).rejects.toMatchObject({
      code: 50,
      message: expect.stringMatching(OLD),
      details: expect.stringContaining('or run Linux 5.6 or later'),
    })
  })

  test('passes on what is no lack', async () => {
    const busy = refusal(errno.EBUSY)
    await expect(proven(nftables, () => Promise.reject(busy))).rejects.toBe(busy)
  })
})
