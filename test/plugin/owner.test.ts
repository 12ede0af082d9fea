/** Who owns what we leave in the kernel, as its comment says. */
import { expect, test } from 'bun:test'
import {
  attachmentHash,
  hostEndName,
  hostEndOf,
  isSameNetwork,
  isStale,
  ownerIn,
  ownerOf,
  readableOwner,
} from '../../chain/plugin/owner.ts'

const attachment = { network: 'net', containerId: 'container-1', ifname: 'eth0' }

test('an owner is its network and its attachment, and says so in words', () => {
  const { id, comment } = ownerOf(attachment)
  expect(id).toMatch(/^[0-9a-f]{16}-[0-9a-f]{16}$/)
  expect(id.endsWith(`-${attachmentHash(attachment)}`)).toBe(true)
  expect(comment).toBe(`${id}, net: net, if: eth0, id: container-1`)
  expect([ownerIn(comment), readableOwner(comment)]).toEqual([id, 'net: net, if: eth0, id: container-1'])
})

test('networks, containers and interfaces are told apart, also where their names run into one another', () => {
  const all = [
    attachment,
    { ...attachment, network: 'other' },
    { ...attachment, ifname: 'eth1' },
    { ...attachment, containerId: 'container-2' },
  ].map(each => ownerOf(each).id)
  expect(new Set(all).size).toBe(4)
  expect(all.map(each => isSameNetwork(all[0] ?? '', each))).toEqual([true, false, true, true])
})

test('a comment has room in the kernel and no quotation marks, however long the names are', () => {
  const { id, comment } = ownerOf({ ...attachment, network: '"'.repeat(3).padEnd(200, 'x') })
  expect(comment).toHaveLength(127)
  expect(comment).not.toContain('"')
  expect(ownerIn(comment)).toBe(id)
})

test.each([
  '',
  'by hand',
  '0123456789abcdef-0123456789abcde',
  '0123456789abcdef-0123456789abcdef0',
  'x'.repeat(33),
])('unowned is what says "%s"', comment => {
  expect(ownerIn(comment)).toBeUndefined()
})

test("the host's end of a pair follows from the attachment alone", () => {
  expect(hostEndName(attachment)).toBe(hostEndOf(ownerOf(attachment).id))
  expect(hostEndName(attachment)).toMatch(/^veth[0-9a-f]{8}$/)
})

test('stale is what belongs to the network and to none of its valid attachments', () => {
  const owners = [
    attachment,
    { ...attachment, containerId: 'container-2' },
    { ...attachment, network: 'other', containerId: 'container-2' },
  ].map(each => ownerOf(each).id)
  const valid = [{ containerId: 'container-1', ifname: 'eth0' }]
  expect(owners.map(isStale('net', valid))).toEqual([false, true, false])
  expect(owners.map(isStale('net', []))).toEqual([true, true, false])
})
