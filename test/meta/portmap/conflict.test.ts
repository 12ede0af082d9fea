/** A host port that another container or another network of the same one holds. */
import { afterAll, expect, test } from 'bun:test'
import { portmap } from '../../../meta/portmap.ts'
import type { Chain } from '../../fixtures/chain.ts'
import { getHttp, serveHttp } from '../../fixtures/http.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { mustCall } from '../../fixtures/plugin.ts'
import { difference, snapshot } from '../../fixtures/snapshot.ts'
import { elements, http, network, published, removeBridges } from './place.ts'

afterAll(removeBridges)

test('a host port that a live container holds is refused, naming its publisher, and nothing is left of the attempt', async () => {
  using one = freshNamespace()
  using other = freshNamespace()
  const publisher = published(one, { mappings: [http(8080)], containerId: 'publisher' })
  const late = published(other, { mappings: [http(8081), http(8080)], containerId: 'late' })
  await publisher.add()
  const before = elements()
  await expect(late.add()).rejects.toThrow(/host port 8080\/tcp is taken by another container .*publisher/)
  expect(elements().filter(element => element.includes('port_'))).toEqual(
    before.filter(element => element.includes('port_')),
  )
  await late.del()
  expect(elements()).toEqual(before)
  await publisher.del()
})

test('a host port whose publisher is dead is taken over', async () => {
  using other = freshNamespace()
  const dead = freshNamespace()
  const publisher = published(dead, { mappings: [http(8080), http(8443)], containerId: 'publisher' })
  await publisher.add()
  dead[Symbol.dispose]()
  const next = published(other, { mappings: [http(8080)], containerId: 'next' })
  await next.add()
  using _server = serveHttp(other, { port: 80 })
  expect(await getHttp(hostNamespace(), { address: '127.0.0.1', port: 8080 })).toBe('10.1.0.1')
  expect(elements()).not.toContain('ip port_address tcp 8443')
  await publisher.del()
  expect(elements()).toContain('ip port_address tcp 8080')
  await next.del()
})

/** The same container on another network, with the same port. */
const onNetwork = (number: number, container: Namespace) =>
  published(container, { mappings: [http(8080)], ...network(number) })

test('the same ports on a second network of one container stay with the first', async () => {
  using container = freshNamespace()
  const first = published(container, { mappings: [http(8080)] })
  const second = onNetwork(9, container)
  await first.add()
  await second.add()
  using _server = serveHttp(container, { port: 80 })
  expect(await getHttp(hostNamespace(), { address: '127.0.0.1', port: 8080 })).toBe('10.1.0.1')
  expect(await second.check()).toMatchObject({ status: 0 })
  await second.del()
  await first.del()
  expect(elements()).toEqual([])
})

test('ports go over to the next network of a container when the first one is taken from it, and are unpublished at the end', async () => {
  using host = hostNamespace()
  using container = freshNamespace()
  const before = snapshot()
  const [first, second, third] = [8, 9, 7].map(number => onNetwork(number, container)) as [
    Chain,
    Chain,
    Chain,
  ]
  for (const chain of [first, second, third]) await chain.add()
  using _server = serveHttp(container, { port: 80 })
  const answersFrom = async () => await getHttp(host, { address: '127.0.0.1', port: 8080 })
  expect(await answersFrom()).toBe('10.8.0.1')
  await first.del()
  expect(await answersFrom()).toBe('10.9.0.1')
  expect(await second.check()).toMatchObject({ status: 0 })
  expect(await third.check()).toMatchObject({ status: 0 })
  await first.add()
  expect(await answersFrom()).toBe('10.9.0.1')
  await mustCall(portmap, 'GC', {
    config: { type: 'portmap', name: 'network-9', 'cni.dev/valid-attachments': [] },
  })
  expect(['10.7.0.1', '10.8.0.1']).toContain(await answersFrom())
  await second.del()
  await first.del()
  expect(await answersFrom()).toBe('10.7.0.1')
  await third.del()
  expect(elements()).toEqual([])
  expect(difference(before, snapshot()).added.filter(line => line.includes('/run/'))).toEqual([])
})
