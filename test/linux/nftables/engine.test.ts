/** The engine of plugins: over netlink what can be encoded there, by nft the rest; either refuses in one shape. */
import { expect, test } from 'bun:test'
import { errno } from '../../../chain/linux/libc/errno.ts'
import { applyRuleset } from '../../../chain/linux/nftables/engine.ts'
import { rulesetGeneration } from '../../../chain/linux/nftables/list.ts'
import { openNetfilter } from '../../../chain/linux/nftables/netfilter.ts'
import type { Command } from '../../../chain/linux/nftables/nft.ts'
import { hostNamespace } from '../../fixtures/namespace.ts'
import { ruleset, withoutRuleset } from '../../fixtures/ruleset.ts'

const host = hostNamespace()
withoutRuleset()

const table: Command = { verb: 'add', kind: 'table', family: 'ip', name: 't' }
const chain: Command = { verb: 'create', kind: 'chain', family: 'ip', table: 't', name: 'c' }
/** A condition of somebody's, which nothing here encodes. */
const limited: Command = {
  verb: 'add',
  kind: 'rule',
  family: 'ip',
  table: 't',
  chain: 'c',
  expr: [{ limit: { rate: 10, per: 'second' } }, { accept: null }],
}

/** Has no nft for the while. */
function withoutNft(): Disposable {
  const path = process.env.PATH
  const hidden = ['/usr/sbin/nft', '/sbin/nft'].filter(
    each => Bun.spawnSync(['mount', '--bind', '/dev/null', each]).success,
  )
  process.env.PATH = '/none'
  return {
    [Symbol.dispose]() {
      process.env.PATH = path
      for (const each of hidden.reverse()) Bun.spawnSync(['umount', each])
    },
  }
}

test('nothing to do needs no engine', async () => {
  using _missing = withoutNft()
  await applyRuleset([])
})

test('what can be encoded is applied without nft', async () => {
  {
    using _missing = withoutNft()
    await applyRuleset([table, chain])
  }
  expect(host.run('nft', 'list', 'chains')).toContain('chain c')
})

test('what cannot is applied by nft, the rest of the transaction with it', async () => {
  await applyRuleset([table, chain, limited])
  expect(ruleset()).toContain('limit rate 10/second')
})

test('and where there is no nft, is refused as a whole, and says what is missing', async () => {
  {
    using _missing = withoutNft()
    await expect(applyRuleset([table, chain, limited])).rejects.toMatchObject({
      message: expect.stringMatching(/nft/),
    })
  }
  expect(ruleset()).toBe('')
})

test.each([
  ['over netlink', [table, chain, chain]],
  ['by nft', [table, chain, limited, chain]],
])('a refusal %s names the command, and nothing is done', async (_, commands) => {
  await expect(applyRuleset(commands)).rejects.toMatchObject({
    operation: 'apply nftables rules',
    subject: 'create chain ip t c',
    errno: errno.EEXIST,
  })
  expect(ruleset()).toBe('')
})

test('a ruleset that has changed since the decision is told by ERESTART, and nothing is done', async () => {
  using netfilter = openNetfilter()
  const generation = rulesetGeneration(netfilter)
  await applyRuleset([table], generation)
  await expect(applyRuleset([chain], generation)).rejects.toMatchObject({ errno: errno.ERESTART })
  expect(host.run('nft', 'list', 'chains')).not.toContain('chain c')
  await applyRuleset([chain], rulesetGeneration(netfilter))
})
