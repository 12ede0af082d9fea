/** Whose an element, a chain and a record are is never told by a name: what has been flushed, or an older version wrote, is known. */
import { afterAll, expect, test } from 'bun:test'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { getHttp, serveHttp } from '../../fixtures/http.ts'
import { freshNamespace, hostNamespace } from '../../fixtures/namespace.ts'
import { elements, http, network, published, removeBridges } from './place.ts'

afterAll(removeBridges)

const conditions = () =>
  /chain (conditions-[0-9a-f-]+)/.exec(hostNamespace().run('nft', 'list', 'ruleset'))?.[1]

test.each([
  { name: 'the rules of its chain', harm: (chain: string) => ['flush', 'chain', 'ip', 'catena', chain] },
  { name: 'the elements that lead there', harm: () => ['flush', 'map', 'ip', 'catena', 'port_conditions'] },
])('a container with conditions whose DEL comes after somebody has flushed $name leaves none', async row => {
  using one = freshNamespace()
  using other = freshNamespace()
  const config = { conditionsV4: ['ip', 'saddr', '0.0.0.0/0'] }
  const chain = published(one, { mappings: [http(8080)], config })
  const neighbour = published(other, { mappings: [http(8081)], containerId: 'neighbour' })
  await neighbour.add()
  await chain.add()
  hostNamespace().run('nft', ...row.harm(conditions() ?? ''))
  expect(conditions()).toBeDefined()
  await chain.del()
  expect(conditions()).toBeUndefined()
  await neighbour.del()
})

test('a second ADD after both have been flushed makes the chain of conditions again', async () => {
  using host = hostNamespace()
  using one = freshNamespace()
  using other = freshNamespace()
  const config = { conditionsV4: ['ip', 'saddr', '0.0.0.0/0'] }
  const chain = published(one, { mappings: [http(8080)], config })
  const neighbour = published(other, { mappings: [http(8081)], containerId: 'neighbour' })
  await neighbour.add()
  await chain.add()
  host.run('nft', 'flush', 'chain', 'ip', 'catena', conditions() ?? '')
  host.run('nft', 'flush', 'map', 'ip', 'catena', 'port_conditions')
  using again = freshNamespace()
  const second = published(again, { mappings: [http(8080)], config })
  await chain.del()
  await second.add()
  expect(await second.check()).toMatchObject({ status: 0 })
  await second.del()
  expect(conditions()).toBeUndefined()
  await neighbour.del()
  expect(elements()).toEqual([])
  expect(host.run('nft', 'list', 'tables')).not.toContain('catena')
})

test('the next network of a container takes the ports over by a record that an older version wrote', async () => {
  using host = hostNamespace()
  using container = freshNamespace()
  const [first, second] = [8, 9].map(number =>
    published(container, { mappings: [http(8080)], ...network(number) }),
  )
  await first?.add()
  await second?.add()
  const folder = '/run/catena/ports/heirs'
  const [file = ''] = readdirSync(folder)
  const record = JSON.parse(readFileSync(`${folder}/${file}`, 'utf8'))
  const [{ owned }] = Object.values(record) as [{ owned: { elements: object[] } }]
  const port = { family: 'ip', collection: 'port_port', key: ['tcp', 8080], value: 80 }
  expect(owned.elements).toContainEqual(port)
  const [address = ''] = second?.result.ips[0].address.split('/') ?? []
  expect(owned.elements).toContainEqual({
    family: 'ip',
    collection: 'hairpin_source',
    key: [address, { prefix: { addr: '10.9.0.0', len: 16 } }],
  })
  // and one entry that no version has written
  owned.elements.push({ family: 'ip', collection: 'none', key: [] })
  writeFileSync(`${folder}/${file}`, JSON.stringify(record))
  await first?.del()
  using _server = serveHttp(container, { port: 80 })
  expect(await getHttp(host, { address: '127.0.0.1', port: 8080 })).toBe('10.9.0.1')
  await second?.del()
  expect(elements()).toEqual([])
})

test('what leads into a chain of iptables is noted in the form that every version reads', async () => {
  using container = freshNamespace()
  const chain = published(container, { mappings: [http(8080)], config: { backend: 'iptables' } })
  await chain.add()
  const folder = '/run/catena/iptables'
  const [file = ''] = readdirSync(folder).filter(name => name.startsWith('CNI-DN-'))
  const [share] = Object.values(JSON.parse(readFileSync(`${folder}/${file}`, 'utf8'))) as [
    { parts: { ip: { enter: object[] } } },
  ]
  expect(share.parts.ip.enter).toEqual([
    { chain: 'CNI-HOSTPORT-DNAT', words: expect.arrayContaining(['--destination-ports', '8080']) },
  ])
  expect(await chain.check()).toMatchObject({ status: 0 })
  await chain.del()
})
