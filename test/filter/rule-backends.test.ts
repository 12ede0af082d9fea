/** What keeps an attachment's rules, for who wants to see it. */
import { afterEach, beforeAll, expect, test } from 'bun:test'
import { mkdirSync, writeFileSync } from 'node:fs'
import { addMasquerade } from '../../chain/filter/iptables/masquerade.ts'
import { addOwned } from '../../chain/filter/nftables/apply.ts'
import { type Element, masquerade } from '../../chain/filter/nftables/elements.ts'
import { describeRuleBackends, readRuleBackends } from '../../chain/filter/rule-backends.ts'
import { applyRuleset } from '../../chain/linux/nftables/engine.ts'
import { ownerOf } from '../../chain/plugin/owner.ts'
import { recordsIn } from '../../chain/plugin/state.ts'
import { attachmentOf } from '../fixtures/attachment.ts'
import { choose } from '../fixtures/iptables.ts'
import { runUnprivileged } from '../fixtures/unprivileged.ts'
import { clearHost, forgetRules } from './backend/place.ts'

beforeAll(clearHost)
afterEach(forgetRules)

const one = attachmentOf('one')
const add = (elements: readonly Element[], attachment = one) =>
  addOwned(applyRuleset, { owner: ownerOf(attachment), elements })
const sources = [{ address: '10.1.0.2', network: '10.1.0.0/16' }]

test('nothing, where there are no rules', () => {
  expect(readRuleBackends()(one)).toEqual({})
})

test.each<[string, readonly Element[], object]>([
  ['masquerade', masquerade(sources), { masquerade: 'nftables' }],
  [
    'a port of any address',
    [{ family: 'ip', kind: 'published-address', key: ['tcp', 80], value: '10.1.0.2' }],
    { ports: 'nftables' },
  ],
  [
    'a port of one address of IPv6',
    [{ family: 'ip6', kind: 'published-address', key: ['fd00::1', 'tcp', 80], value: 'fd00:1::2' }],
    { ports: 'nftables' },
  ],
  ['being forwarded', [{ family: 'ip6', kind: 'forwarded', key: ['fd00:1::2'] }], { firewall: 'nftables' }],
  [
    'a policy',
    [{ family: 'ip', kind: 'policy-member', key: ['cni0', '10.1.0.2'] }],
    { firewall: 'nftables' },
  ],
])('%s is told of by the element, of its owner alone', async (_, elements, backends) => {
  await add(elements)
  const read = readRuleBackends()
  expect(read(one)).toEqual(backends)
  expect(read(attachmentOf('two'))).toEqual({})
})

test('what iptables has is told of by the record, for masquerade and ports apart, and before what nftables has', async () => {
  using _choice = choose('nf_tables')
  await add(masquerade(sources))
  await addMasquerade(one, sources)
  expect(readRuleBackends()(one)).toEqual({ masquerade: 'iptables' })
  const shares = recordsIn('iptables', () => true)
  shares.remember('CNI-DN-0123', { eth0: { attachment: one, parts: {} } })
  expect(readRuleBackends()(one)).toEqual({ masquerade: 'iptables', ports: 'iptables' })
})

test('firewall’s own record counts more than an element', async () => {
  await add([{ family: 'ip', kind: 'forwarded', key: ['10.1.0.2'] }])
  recordsIn('firewall', () => true).remember(ownerOf(one).id, { backend: 'firewalld' })
  expect(readRuleBackends()(one)).toEqual({ firewall: 'firewalld' })
})

test.each(['', '{', '{"eth0":7}', '{"eth0":{"attachment":7}}', '[]'])(
  'a record that reads %p tells of no owner',
  text => {
    mkdirSync('/run/catena/iptables', { recursive: true })
    writeFileSync('/run/catena/iptables/CNI-DN-0123.json', text)
    expect(readRuleBackends()(one)).toEqual({})
  },
)

test('who may not ask is told nothing, and no error', () => {
  const told = runUnprivileged(`
    import { readRuleBackends } from '/chain/filter/rule-backends.ts'
    console.log(JSON.stringify(readRuleBackends()({ network: 'n', containerId: 'c', ifname: 'i' })))`)
  expect(told).toBe('{}\n')
})

test.each([
  [{}, undefined],
  [{ ports: 'nftables' }, 'nftables'],
  [{ masquerade: 'nftables', ports: 'nftables', firewall: 'nftables' }, 'nftables'],
  [{ masquerade: 'nftables', ports: 'iptables' }, 'masquerade nftables, ports iptables'],
])('%j in words: %p', (backends, words) => {
  expect(describeRuleBackends(backends)).toBe(words as string)
})
