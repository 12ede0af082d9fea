/** A container's chains in iptables: named as the Go plugins name them, shared by its interfaces, found and left again. */
import { afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import {
  addChain,
  type ChainSpec,
  chainName,
  hasOwnChain,
  leaveChains,
  lockRulesIfUsed,
  MASQUERADE_PREFIX,
  missingFromChain,
  ownershipComment,
  PORTS_PREFIX,
  partOf,
  requireIptables,
  staleAttachments,
} from '../../../chain/filter/iptables/chains.ts'
import { masqueradeChain } from '../../../chain/filter/iptables/masquerade.ts'
import { sweepAttachment } from '../../../chain/filter/sweep.ts'
import { takeLock } from '../../../chain/linux/lock.ts'
import { applyRuleset } from '../../../chain/linux/nftables/engine.ts'
import { attachmentOf } from '../../fixtures/attachment.ts'
import { breakTools, choose, clearRules, hideTools, iptables, saved } from '../../fixtures/iptables.ts'
import { clearHost, forgetRules } from '../backend/place.ts'

beforeAll(clearHost)
afterEach(forgetRules)

const one = attachmentOf('one')
const second = attachmentOf('one', { ifname: 'eth1' })
const chain = chainName(MASQUERADE_PREFIX, one)
const sourcesOf = (...lasts: number[]) =>
  lasts.map(last => ({ address: `10.${last}.0.2`, network: `10.${last}.0.0/16` }))
const specOf = (attachment = one, ...lasts: number[]): ChainSpec =>
  masqueradeChain(attachment, sourcesOf(...(lasts.length ? lasts : [1])))
const rules = () => saved('nf_tables').filter(line => line.startsWith('-A'))
const leave = (attachment = one) =>
  sweepAttachment(applyRuleset, attachment, { roles: [], chains: [MASQUERADE_PREFIX] })

test('a chain is named by network and container, in so many letters as iptables takes', () => {
  // SHA-512 of "test-netone", cut: utils.FormatChainName and MustFormatChainNameWithPrefix of the Go plugins
  const digest = new Bun.CryptoHasher('sha512').update('test-netone').digest('hex')
  expect(chain).toBe(`CNI-${digest.slice(0, 24)}`)
  expect(chainName(PORTS_PREFIX, one)).toBe(`CNI-DN-${digest.slice(0, 21)}`)
  expect(chainName(MASQUERADE_PREFIX, second)).toBe(chain)
  expect(ownershipComment('dnat ', one)).toBe('dnat name: "test-net" id: "one"')
})

describe('with tools of the nf_tables variant', () => {
  test('an interface’s part is made, noted, found, and gone without a trace', async () => {
    using _choice = choose('nf_tables')
    expect([partOf(MASQUERADE_PREFIX, one), hasOwnChain(MASQUERADE_PREFIX, one)]).toEqual([undefined, false])
    await addChain(specOf())
    expect(partOf(MASQUERADE_PREFIX, one)).toMatchObject({ variant: 'nf_tables' })
    expect([partOf(MASQUERADE_PREFIX, second), hasOwnChain(MASQUERADE_PREFIX, one)]).toEqual([
      undefined,
      true,
    ])
    expect(await missingFromChain(specOf())).toBeUndefined()
    await leave()
    expect([rules(), readdirSync('/run/catena/iptables').filter(name => name.endsWith('.json'))]).toEqual([
      [],
      [],
    ])
    expect(await missingFromChain(specOf())).toMatch(/^rule .* is missing in table nat of ip$/)
  })

  test('what it had before is replaced', async () => {
    using _choice = choose('nf_tables')
    await addChain(specOf(one, 1))
    await addChain(specOf(one, 2))
    expect(rules().join()).not.toContain('10.1.0')
    expect(await missingFromChain(specOf(one, 2))).toBeUndefined()
  })

  test('two interfaces share it, and the one that stays keeps its part', async () => {
    using _choice = choose('nf_tables')
    await addChain(specOf(one, 1))
    const alone = rules()
    await addChain(specOf(second, 2))
    expect(rules().length).toBeGreaterThan(alone.length)
    for (const spec of [specOf(one, 1), specOf(second, 2)])
      expect(await missingFromChain(spec)).toBeUndefined()
    await leave(second)
    expect(rules()).toEqual(alone)
    await leave()
    expect(rules()).toEqual([])
  })

  test('what was noted of an interface whose chain has gone comes not back with another’s', async () => {
    using _choice = choose('nf_tables')
    await addChain(specOf(one, 1))
    iptables('nf_tables', 'ip', '-F')
    iptables('nf_tables', 'ip', '-X')
    await addChain(specOf(second, 2))
    expect(rules().join()).not.toContain('10.1.0')
    expect(partOf(MASQUERADE_PREFIX, one)).toBeUndefined()
  })

  test.each([
    '',
    '{',
    '{"eth0":{"attachment":{},"parts":7}}',
    '{"eth0":{"attachment":{},"parts":{"ip":{"rules":7}}}}',
    '{"eth0":{"attachment":{},"parts":{},"variant":"xt"}}',
  ])('a note that reads %p is none', async text => {
    using _choice = choose('nf_tables')
    await addChain(specOf())
    writeFileSync(`/run/catena/iptables/${chain}.json`, text)
    expect(partOf(MASQUERADE_PREFIX, one)).toBeUndefined()
    await leave()
    expect(rules()).toEqual([])
  })

  test('a part is noted before it is made: what a kill leaves between is found', async () => {
    using choice = choose('nf_tables')
    breakTools(choice, 'exit 1')
    await expect(addChain(specOf())).rejects.toThrow()
    expect(JSON.parse(readFileSync(`/run/catena/iptables/${chain}.json`, 'utf8'))).toHaveProperty('eth0')
  })
})

describe('leaving', () => {
  test('touches nothing until it is finished, and tells which chains go', async () => {
    using _choice = choose('nf_tables')
    await addChain(specOf(one, 1))
    await addChain(specOf(second, 2))
    const partly = leaveChains([one], [MASQUERADE_PREFIX, PORTS_PREFIX])
    expect([
      partly.isRemovedChain(chain),
      partly.isRemovedChain(chainName(PORTS_PREFIX, one)),
      partly.isRemovedChain('CNI-x'),
    ]).toEqual([false, true, false])
    const whole = leaveChains([one, second], [MASQUERADE_PREFIX])
    expect(whole.isRemovedChain(chain)).toBe(true)
    expect(partOf(MASQUERADE_PREFIX, one)).toBeDefined()
    await whole.finish()
    expect(partOf(MASQUERADE_PREFIX, one)).toBeUndefined()
  })

  test('does not fail where what others have cannot be made again', async () => {
    using choice = choose('nf_tables')
    await addChain(specOf(one, 1))
    await addChain(specOf(second, 2))
    const leaving = leaveChains([one], [MASQUERADE_PREFIX])
    breakTools(choice, 'exit 1')
    await leaving.finish()
    expect(partOf(MASQUERADE_PREFIX, second)).toBeDefined()
  })
})

describe('what is stale', () => {
  const idsOf = (valid: Parameters<typeof staleAttachments>[1]) =>
    staleAttachments('test-net', valid)
      .map(({ containerId, ifname }) => `${containerId} ${ifname}`)
      .sort()

  test('is known by what was noted, interface by interface', async () => {
    using _choice = choose('nf_tables')
    await addChain(specOf(one, 1))
    await addChain(specOf(second, 2))
    await addChain(specOf(attachmentOf('three', { network: 'other-net' }), 3))
    expect(idsOf([{ containerId: 'one', ifname: 'eth0' }])).toEqual(['one eth1'])
    expect(
      idsOf([
        { containerId: 'one', ifname: 'eth0' },
        { containerId: 'one', ifname: 'eth1' },
      ]),
    ).toEqual([])
  })

  test('is known by the comments of rules that others have made, container by container', () => {
    using _choice = choose('nf_tables')
    const rule = (comment: string) =>
      iptables('nf_tables', 'ip', '-A', 'POSTROUTING', '-m', 'comment', '--comment', comment, '-j', 'RETURN')
    rule('name: "test-net" id: "theirs"')
    rule('dnat name: "test-net" id: "published"')
    rule('name: "other-net" id: "others"')
    rule('name: "test-net" id: "alive"')
    rule('name: "test-net" id: "half')
    expect(idsOf([{ containerId: 'alive', ifname: 'net1' }])).toEqual(['published ', 'theirs '])
  })
})

test('rules are not waited for where none were ever made, and else until who is at it has ended', async () => {
  clearRules()
  expect(lockRulesIfUsed()).toBeUndefined()
  using _choice = choose('nf_tables')
  await addChain(specOf())
  {
    using _held = lockRulesIfUsed()
    expect(takeLock('/run/catena/iptables/lock', { tryOnly: true, shared: true })).toBeUndefined()
  }
  using _free = takeLock('/run/catena/iptables/lock', { tryOnly: true })
  expect(_free).toBeDefined()
})

test('STATUS is code 50 where the tools are not installed', () => {
  expect(requireIptables).not.toThrow()
  using _tools = hideTools()
  expect(requireIptables).toThrow(
    expect.objectContaining({ code: 50, message: 'apply iptables rules: iptables is not installed' }),
  )
})
