/** Netfilter sockets: closed when that keeps no call waiting, and kept by who does many calls. */
import { afterEach, expect, test } from 'bun:test'
import { readlinkSync } from 'node:fs'
import { dropKept, useChildEnvironment } from '../../../chain/linux/child-environment.ts'
import { tableExists } from '../../../chain/linux/nftables/list.ts'
import { openNetfilter, openNetfilterIfPresent } from '../../../chain/linux/nftables/netfilter.ts'
import { freshNamespace } from '../../fixtures/namespace.ts'

afterEach(dropKept)

/** What a descriptor is open to; undefined when it is closed. */
function openedAt(descriptor: number): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`)
  } catch {
    return undefined
  }
}

test('a socket speaks of the namespace in which it was opened', () => {
  using container = freshNamespace()
  container.run('nft', 'add', 'table', 'ip', 'there')
  using inside = container.inside(openNetfilter)
  using outside = openNetfilter()
  expect([inside, outside].map(each => tableExists(each, 'ip', 'there'))).toEqual([true, false])
})

test('closing waits for nothing, and comes later', async () => {
  const netfilter = openNetfilter()
  const { descriptor } = netfilter
  const socket = openedAt(descriptor)
  expect(socket).toStartWith('socket:')
  netfilter.close()
  expect(openedAt(descriptor)).toBe(socket as string)
  await new Promise(resolve => setTimeout(resolve, 100))
  expect(openedAt(descriptor)).not.toBe(socket as string)
})

test('who does many calls has one socket for all, until one of them fails', () => {
  using _calls = useChildEnvironment({
    process: { pid: 1, parent: 0 },
    environment: {},
    run: () => ({ status: 0, stdout: '', stderr: '' }),
  })
  const one = openNetfilter()
  one.close()
  const again = openNetfilter()
  expect(again.descriptor).toBe(one.descriptor)
  expect(tableExists(again, 'ip', 'none')).toBe(false)
  const socket = openedAt(one.descriptor)
  dropKept()
  expect(openedAt(one.descriptor)).not.toBe(socket as string)
  using next = openNetfilter()
  expect(tableExists(next, 'ip', 'none')).toBe(false)
})

test('where there are netfilter sockets, there is one to look by', () => {
  using netfilter = openNetfilterIfPresent()
  expect(netfilter).toBeDefined()
})
