/** Where what an owner needs is taken: who gives way, who shares, who waits, and who is asked. */
import { describe, expect, test } from 'bun:test'
import { addOwned } from '../../../chain/filter/nftables/apply.ts'
import { clearTheWay, type OnConflict } from '../../../chain/filter/nftables/conflict.ts'
import { type Element, masquerade, type Owned } from '../../../chain/filter/nftables/elements.ts'
import { listOwned } from '../../../chain/filter/nftables/read.ts'
import { applyRuleset } from '../../../chain/linux/nftables/engine.ts'
import { openNetfilter } from '../../../chain/linux/nftables/netfilter.ts'
import { ownerOf } from '../../../chain/plugin/owner.ts'
import type { Attachment } from '../../../chain/protocol/attachment.ts'
import { attachmentOf } from '../../fixtures/attachment.ts'
import { hostNamespace } from '../../fixtures/namespace.ts'
import { withoutRuleset } from '../../fixtures/ruleset.ts'

const host = hostNamespace()
withoutRuleset()

const [mine, neighbours, foreign] = [
  attachmentOf('mine'),
  attachmentOf('neighbour'),
  attachmentOf('other', { network: 'other-net' }),
] as [Attachment, Attachment, Attachment]
const names = new Map([mine, neighbours, foreign].map(each => [ownerOf(each).id, each.containerId]))

const ownedBy = (attachment: Attachment, ...elements: Element[]): Owned => ({
  owner: ownerOf(attachment),
  elements,
})
const source = (address: string): Element => ({ family: 'ip', kind: 'masquerade', key: [address] })
const port = (number: number): Element => ({
  family: 'ip',
  kind: 'published-port',
  key: ['tcp', number],
  value: 80,
})

/** Who has what, as "mine masquerade 10.1.0.2". */
function held(): string[] {
  using netfilter = openNetfilter()
  const text = ({ key, kind, owner }: ReturnType<typeof listOwned>[number]) =>
    `${names.get(owner ?? '') ?? 'unowned'} ${kind} ${(kind === 'waiting' ? key.slice(1) : key).join(' ')}`
  return listOwned(netfilter).map(text).sort()
}

const add = (owned: Owned, onConflict?: OnConflict) => addOwned(applyRuleset, owned, onConflict)

describe('a key that another owner has', () => {
  test('of the same network is taken, with all that is of the same role', async () => {
    await add(ownedBy(neighbours, source('10.1.0.2'), source('10.1.0.3'), port(8080)))
    await add(ownedBy(mine, source('10.1.0.2')))
    expect(held()).toEqual(['mine masquerade 10.1.0.2', 'neighbour published-port tcp 8080'])
  })

  test('of another network is shared where it can be: the second one waits, and is next', async () => {
    await add(ownedBy(foreign, source('10.1.0.2'), source('10.1.0.9')))
    await add(ownedBy(mine, source('10.1.0.2'), source('10.1.0.3')))
    expect(held()).toEqual([
      'mine masquerade 10.1.0.3',
      'mine waiting 10.1.0.2',
      'other masquerade 10.1.0.2',
      'other masquerade 10.1.0.9',
    ])
  })

  test('of another network is taken where it cannot be shared', async () => {
    await add(ownedBy(foreign, port(8080), port(9090), source('10.1.0.2')))
    await add(ownedBy(mine, port(8080)))
    expect(held()).toEqual(['mine published-port tcp 8080', 'other masquerade 10.1.0.2'])
  })

  test('is left, or refused, where whoever is asked says so; what is free is added all the same', async () => {
    await add(ownedBy(neighbours, port(8080)))
    const asked: string[] = []
    await add(ownedBy(mine, port(8080), port(8081)), ({ owner }, wanted) => {
      asked.push(`${names.get(owner ?? '')} ${wanted.key.join(' ')}`)
      return 'leave'
    })
    expect(asked).toEqual(['neighbour tcp 8080'])
    expect(held()).toEqual(['mine published-port tcp 8081', 'neighbour published-port tcp 8080'])
    const refuse: OnConflict = () => {
      throw new Error('port 8080 is taken')
    }
    await expect(add(ownedBy(mine, port(8080)), refuse)).rejects.toThrow('port 8080 is taken')
    expect(held()).toEqual(['mine published-port tcp 8081', 'neighbour published-port tcp 8080'])
  })

  test('is oneself’s: a retry replaces all of the role, and asks no other', async () => {
    await add(ownedBy(mine, port(8080), port(8081), source('10.1.0.2')))
    await add(ownedBy(mine, port(8080), port(8082)), () => {
      throw new Error('asked')
    })
    expect(held()).toEqual([
      'mine masquerade 10.1.0.2',
      'mine published-port tcp 8080',
      'mine published-port tcp 8082',
    ])
  })
})

test('what somebody has written by hand is unowned, and not taken over', async () => {
  await add(ownedBy(neighbours, source('10.1.0.9')))
  host.run('nft', 'add', 'element', 'ip', 'catena', 'masquerade_source', '{ 10.1.0.2 comment "by hand" }')
  await add(ownedBy(mine, source('10.1.0.2')))
  expect(held()).toEqual([
    'mine waiting 10.1.0.2',
    'neighbour masquerade 10.1.0.9',
    'unowned masquerade 10.1.0.2',
  ])
})

test('a prefix that overlaps is a conflict as an equal one is', async () => {
  const wide = masquerade([{ address: '10.1.0.2', network: '10.0.0.0/8' }])
  const narrow = masquerade([{ address: '10.1.0.2', network: '10.1.0.0/16' }])
  await add(ownedBy(foreign, ...narrow))
  await add(ownedBy(mine, ...wide))
  using netfilter = openNetfilter()
  const active = listOwned(netfilter).filter(({ kind }) => kind === 'masquerade-exception')
  expect(active).toMatchObject([
    { key: ['10.1.0.2', { prefix: { addr: '10.0.0.0', len: 8 } }], owner: ownerOf(mine).id },
  ])
  expect(held().filter(each => each.startsWith('other'))).toHaveLength(2)
})

test('the plan is made without anything being changed', async () => {
  await add(ownedBy(neighbours, source('10.1.0.2')))
  const before = held()
  using netfilter = openNetfilter()
  const { commands, remaining } = clearTheWay(netfilter, ownedBy(mine, source('10.1.0.2')), () => 'take')
  expect(commands).toMatchObject([{ verb: 'delete', name: 'masquerade_source', elem: ['10.1.0.2'] }])
  expect(remaining.elements).toEqual([source('10.1.0.2')])
  expect(held()).toEqual(before)
})
