/** Everything that an attachment has in any packet filter is taken away, wherever it is and whoever has put it there. */
import { afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { chainName, MASQUERADE_PREFIX, PORTS_PREFIX, partOf } from '../../chain/filter/iptables/chains.ts'
import { addMasquerade } from '../../chain/filter/iptables/masquerade.ts'
import { addOwned } from '../../chain/filter/nftables/apply.ts'
import { masquerade } from '../../chain/filter/nftables/elements.ts'
import { sweepAttachment, sweepStale } from '../../chain/filter/sweep.ts'
import { takeLock } from '../../chain/linux/lock.ts'
import { applyRuleset } from '../../chain/linux/nftables/engine.ts'
import type { Engine } from '../../chain/linux/nftables/nft.ts'
import { ownerOf } from '../../chain/plugin/owner.ts'
import type { Attachment } from '../../chain/protocol/attachment.ts'
import { attachmentOf } from '../fixtures/attachment.ts'
import { elements } from '../fixtures/bridge.ts'
import { breakTools, choose, clearRules, saved, variants } from '../fixtures/iptables.ts'
import { hostNamespace } from '../fixtures/namespace.ts'
import { flushRuleset } from '../fixtures/ruleset.ts'

const clear = () => {
  clearRules('nat')
  flushRuleset()
  Bun.spawnSync(['rm', '-rf', '/run/catena/iptables'])
}
beforeAll(clear)
afterEach(clear)

const everything = { roles: ['masquerade'], chains: [MASQUERADE_PREFIX] } as const
const one = attachmentOf('one')
const sourcesOf = (last: number) => [{ address: `10.1.0.${last}`, network: '10.1.0.0/16' }]

/** An attachment's masquerade in our tables, and in iptables of each variant. */
async function everywhere(attachment: Attachment, last: number): Promise<void> {
  await addOwned(applyRuleset, { owner: ownerOf(attachment), elements: masquerade(sourcesOf(last)) })
  for (const variant of variants) await addMasquerade(attachment, sourcesOf(last), variant)
}

/** Where an address is still told of. */
const placesOf = (last: number) => [
  ...(elements().some(each => each.includes(`10.1.0.${last}`)) ? ['nftables'] : []),
  ...variants.filter(variant => saved(variant).join().includes(`10.1.0.${last}`)),
]

test('it is found wherever it is, and taken away without what is others’', async () => {
  using _choice = choose('nf_tables')
  await everywhere(one, 2)
  await everywhere(attachmentOf('two'), 3)
  expect([placesOf(2), placesOf(3)]).toEqual([
    ['nftables', 'nf_tables', 'legacy'],
    ['nftables', 'nf_tables', 'legacy'],
  ])
  await sweepAttachment(applyRuleset, one, everything)
  expect([placesOf(2), placesOf(3)]).toEqual([[], ['nftables', 'nf_tables', 'legacy']])
  await sweepAttachment(applyRuleset, one, everything)
  expect(partOf(MASQUERADE_PREFIX, one)).toBeUndefined()
})

test('other roles and other chains of it stay', async () => {
  using _choice = choose('nf_tables')
  await everywhere(one, 2)
  await addOwned(applyRuleset, {
    owner: ownerOf(one),
    elements: [{ family: 'ip', kind: 'forwarded', key: ['10.1.0.2'] }],
  })
  await sweepAttachment(applyRuleset, one, { roles: ['masquerade'] })
  expect(elements()).toEqual(['ip forwarded 10.1.0.2'])
  await sweepAttachment(applyRuleset, one, { roles: [], chains: [PORTS_PREFIX] })
  expect(placesOf(2)).toEqual(['nftables', 'nf_tables', 'legacy'])
})

test('GC takes what is stale, once it is told where to look', async () => {
  using _choice = choose('nf_tables')
  await everywhere(one, 2)
  await everywhere(attachmentOf('alive'), 3)
  await everywhere(attachmentOf('one', { network: 'other-net' }), 4)
  const stale = { network: 'test-net', valid: [{ containerId: 'alive', ifname: 'eth0' }] }
  await sweepStale(applyRuleset, stale, { roles: ['masquerade'] })
  expect(placesOf(2)).toEqual(['nf_tables', 'legacy'])
  await sweepStale(applyRuleset, stale, everything)
  expect([2, 3, 4].map(placesOf)).toEqual([
    [],
    ['nftables', 'nf_tables', 'legacy'],
    ['nftables', 'nf_tables', 'legacy'],
  ])
})

test('more goes in the same transaction: all of it, or none', async () => {
  using _choice = choose('nf_tables')
  const host = hostNamespace()
  await everywhere(one, 2)
  host.run('nft', 'add', 'table', 'ip', 'theirs')
  const transactions: number[] = []
  const engine: Engine = async (commands, generation) => {
    transactions.push(commands.length)
    await applyRuleset(commands, generation)
  }
  const extra = () => [{ verb: 'delete', kind: 'table', family: 'ip', name: 'theirs' } as const]
  await sweepAttachment(engine, one, { ...everything, extra })
  expect(transactions).toHaveLength(1)
  expect(host.run('nft', 'list', 'tables')).not.toContain('theirs')
})

describe('where nf_tables refuses', () => {
  const refusing: Engine = () => Promise.reject(new Error('the ruleset is refused'))

  test('the older iptables is swept all the same, and what is left is found by the next sweep', async () => {
    using _choice = choose('nf_tables')
    await everywhere(one, 2)
    await expect(sweepAttachment(refusing, one, everything)).rejects.toThrow('the ruleset is refused')
    expect(placesOf(2)).toEqual(['nftables', 'nf_tables'])
    expect(partOf(MASQUERADE_PREFIX, one)).toBeDefined()
    await sweepAttachment(applyRuleset, one, everything)
    expect(placesOf(2)).toEqual([])
  })
})

test('a sweep that iptables refuses keeps no lock: the next one in this process goes through', async () => {
  using choice = choose('legacy')
  await addMasquerade(one, sourcesOf(2))
  Bun.spawnSync(['ln', '-sf', '/bin/false', `${choice.folder}/iptables-restore`])
  await expect(sweepAttachment(applyRuleset, one, everything)).rejects.toThrow('remove')
  using _free = takeLock('/run/catena/iptables/lock', { tryOnly: true })
  expect(_free).toBeDefined()
})

test('what the tools of the nf_tables variant would refuse needs none of them to go', async () => {
  using choice = choose('nf_tables')
  await addMasquerade(one, sourcesOf(2))
  breakTools(choice, 'exit 1')
  await sweepAttachment(applyRuleset, one, everything)
  expect(saved('nf_tables').join()).not.toContain(chainName(MASQUERADE_PREFIX, one))
})
