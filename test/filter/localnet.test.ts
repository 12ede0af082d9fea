/** The links that portmap has opened to 127.0.0.0/8, and how each is closed again, whoever empties the table that guards them. */
import { afterEach, beforeEach, expect, test } from 'bun:test'
import { readdirSync, rmSync } from 'node:fs'
import {
  closeGuardedLinks,
  closeLink,
  isOpen,
  KEPT_OPEN,
  localnetKey,
  note,
  noteOf,
} from '../../chain/filter/localnet.ts'
import { addOwned } from '../../chain/filter/nftables/apply.ts'
import { sweepElements } from '../../chain/filter/sweep.ts'
import { createLink, removeLink } from '../../chain/linux/netlink/link.ts'
import { applyRuleset } from '../../chain/linux/nftables/engine.ts'
import { openNetfilter } from '../../chain/linux/nftables/netfilter.ts'
import { ownerOf } from '../../chain/plugin/owner.ts'
import { attachmentOf } from '../fixtures/attachment.ts'
import { hostNamespace } from '../fixtures/namespace.ts'

const host = hostNamespace()
const links = ['guarded0', 'kept0', 'admin0', 'noted0']
const owner = ownerOf(attachmentOf('one'))

beforeEach(() => {
  host.run('nft', 'flush', 'ruleset')
  for (const name of links) createLink(host.route, { name, kind: { type: 'bridge' } })
})
afterEach(() => {
  host.run('nft', 'flush', 'ruleset')
  rmSync('/run/catena/localnet', { recursive: true, force: true })
  for (const name of links) removeLink(host.route, name)
})

const open = (link: string) => host.setSysctl(localnetKey(link), '1')
const opened = () => links.filter(isOpen)
const guard = (...guarded: string[]) =>
  addOwned(applyRuleset, {
    owner,
    elements: [{ family: 'ip', kind: 'forwarded', key: ['10.1.0.2'] }],
    shared: guarded.map(link => ({ family: 'ip', kind: 'localnet-guard', key: [link] })),
  })

test('what is noted of a link is read as it was, and nothing of others', () => {
  note('guarded0', '')
  note('kept0', KEPT_OPEN)
  expect(links.map(noteOf)).toEqual(['', KEPT_OPEN, undefined, undefined])
  note('kept0', '')
  expect(noteOf('kept0')).toBe('')
})

test('a link is closed with its note, once; one that has gone has only its note to lose', () => {
  open('guarded0')
  note('guarded0', '')
  note('gone0', '')
  closeLink('guarded0')
  closeLink('guarded0')
  closeLink('gone0')
  expect(opened()).toEqual([])
  expect(readdirSync('/run/catena/localnet')).toEqual([])
})

test('a VLAN’s dot is part of its name, and opens no other link', () => {
  createLink(host.route, { name: 'guarded0.7', kind: { type: 'bridge' } })
  using _link = { [Symbol.dispose]: () => void removeLink(host.route, 'guarded0.7') }
  open('guarded0.7')
  expect([isOpen('guarded0.7'), isOpen('guarded0'), isOpen('none0')]).toEqual([true, false, false])
})

test('what the elements of a table guard is closed, but what iptables guards as well', async () => {
  for (const link of links) open(link)
  await guard('guarded0', 'kept0')
  note('guarded0', '')
  note('kept0', KEPT_OPEN)
  note('noted0', '') // of another table
  using netfilter = openNetfilter()
  closeGuardedLinks(netfilter, 'ip6')
  expect(opened()).toEqual(links)
  closeGuardedLinks(netfilter, 'ip')
  expect(opened()).toEqual(['kept0', 'admin0', 'noted0'])
})

test('the last one who leaves a table closes it before the guard goes, and none before', async () => {
  open('guarded0')
  await guard('guarded0')
  note('guarded0', '')
  const second = ownerOf(attachmentOf('two'))
  await addOwned(applyRuleset, {
    owner: second,
    elements: [{ family: 'ip', kind: 'forwarded', key: ['10.1.0.3'] }],
  })
  const leave = (id: string, engine = applyRuleset) =>
    sweepElements(engine, { roles: ['firewall'], isOwner: each => each === id })
  await leave(owner.id)
  expect(opened()).toEqual(['guarded0'])
  let wasOpen: string[] = []
  await leave(second.id, async commands => {
    wasOpen = opened()
    await applyRuleset(commands)
  })
  expect(wasOpen).toEqual([])
  expect(host.run('nft', 'list', 'ruleset')).toBe('')
})
