/** Host ports that another container holds, by either backend; and a container that goes over from one to the other. */
import { afterAll, afterEach, describe, expect, test } from 'bun:test'
import { readdirSync } from 'node:fs'
import { portmap } from '../../../meta/portmap.ts'
import { getHttp, serveHttp } from '../../fixtures/http.ts'
import { clearRules } from '../../fixtures/iptables.ts'
import { freshNamespace, hostNamespace } from '../../fixtures/namespace.ts'
import { mustCall } from '../../fixtures/plugin.ts'
import { chained, ownRules, published } from './iptables.ts'
import { http, network, removeBridges } from './place.ts'

afterEach(() => clearRules())

afterAll(removeBridges)

describe('a host port that another holds', () => {
  const backends = ['iptables', 'nftables']
  test.each(backends.flatMap(theirs => backends.map(ours => ({ theirs, ours }))))(
    'is refused while that lives, and taken over when it is dead: $ours after $theirs',
    async ({ theirs, ours }) => {
      using one = freshNamespace()
      using other = freshNamespace()
      const publisher = published(one, {
        mappings: [http(8080)],
        containerId: 'publisher',
        config: { backend: theirs },
      })
      const late = published(other, {
        mappings: [http(8081), http(8080)],
        containerId: 'late',
        config: { backend: ours },
      })
      await publisher.add()
      await expect(late.add()).rejects.toThrow(
        /host port 8080\/tcp is taken by another container .*publisher/,
      )
      await late.del()
      using _server = serveHttp(other, { port: 80 })
      one[Symbol.dispose]()
      await late.add()
      expect(await getHttp(hostNamespace(), { address: '127.0.0.1', port: 8080 })).toMatch(/^10\.1\./)
      await publisher.del()
      expect(await getHttp(hostNamespace(), { address: '127.0.0.1', port: 8080 })).toMatch(/^10\.1\./)
      await late.del()
      expect(ownRules('nf_tables')).toEqual([])
    },
  )

  test.each(backends.flatMap(theirs => backends.map(ours => ({ theirs, ours }))))(
    'is kept by the first of two networks of one container, and goes over to the second: $ours after $theirs',
    async ({ theirs, ours }) => {
      using host = hostNamespace()
      using container = freshNamespace()
      using other = freshNamespace()
      const mappings = [http(8080)]
      const first = published(container, { mappings, config: { backend: theirs } })
      const second = published(container, {
        mappings,
        config: { backend: ours },
        ...network(9),
      })
      const late = published(other, { mappings, containerId: 'late', config: { backend: theirs } })
      await first.add()
      await second.add()
      using _server = serveHttp(container, { port: 80 })
      const answersFrom = async () => await getHttp(host, { address: '127.0.0.1', port: 8080 })
      if (theirs === ours) expect(await answersFrom()).toMatch(/^10\.1\./)
      expect(await second.check()).toMatchObject({ status: 0 })
      await first.del()
      expect(await answersFrom()).toMatch(/^10\.9\./)
      expect(await second.check()).toMatchObject({ status: 0 })
      await expect(late.add()).rejects.toThrow('host port 8080/tcp is taken by another container')
      await late.del()
      await second.del()
      await late.add()
      await late.del()
      expect(ownRules('nf_tables')).toEqual([])
      expect(readdirSync('/run/catena/ports/claimed')).toEqual(['lock'])
    },
  )
})

test('a container that was published by nftables is swept where the configuration now says iptables, and the other way round', async () => {
  using container = freshNamespace()
  const options = (backend: string) => ({
    netns: container,
    config: { ...chained({}, [http(8080)]), backend },
  })
  for (const [before, after] of [
    ['nftables', 'iptables'],
    ['iptables', 'nftables'],
  ] as const) {
    await mustCall(portmap, 'ADD', options(before))
    await mustCall(portmap, 'DEL', options(after))
    expect(hostNamespace().run('nft', 'list', 'ruleset')).not.toContain('8080')
  }
})

test('an ADD after a killed one leaves nothing of what that published: by the other backend, or on other ports', async () => {
  const options = (backend: string, port: number) => ({
    netns: '/run/netns/none',
    config: { ...chained({}, [http(port)]), backend },
  })
  const reserved = () => readdirSync('/run/catena/ports/claimed').toSorted()
  await mustCall(portmap, 'ADD', options('iptables', 8080))
  await mustCall(portmap, 'ADD', options('iptables', 8081))
  expect(reserved()).toEqual(['ip-tcp-8081-any', 'ip6-tcp-8081-any', 'lock'])
  await mustCall(portmap, 'ADD', options('nftables', 8081))
  expect(reserved()).toEqual(['lock'])
  expect(ownRules('nf_tables')).toEqual([])
  await mustCall(portmap, 'ADD', options('iptables', 8081))
  expect(hostNamespace().run('nft', 'list', 'tables')).not.toContain('catena')
  await mustCall(portmap, 'DEL', options('iptables', 8081))
})
