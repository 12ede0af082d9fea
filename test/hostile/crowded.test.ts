/** Tables that are full of what is others': the kernel leaves out what is not asked for. Counted in bytes, since a clock depends on the machine. */
import { expect, test } from 'bun:test'
import { writeFileSync } from 'node:fs'
import { listAddresses } from '../../chain/linux/netlink/address.ts'
import { listLinks } from '../../chain/linux/netlink/link.ts'
import { listRoutes } from '../../chain/linux/netlink/route.ts'
import type { Transport } from '../../chain/linux/netlink/socket.ts'
import { freshNamespace } from '../fixtures/namespace.ts'

const CROWD = 2000

function counting(route: Transport): {
  transport: Transport
  bytesOf(list: () => { length: number }): number
} {
  let bytes = 0
  const transport: Transport = {
    ...route,
    receive() {
      const datagram = route.receive()
      bytes += datagram.length
      return datagram
    },
  }
  return {
    transport,
    bytesOf(list) {
      bytes = 0
      list()
      return bytes
    },
  }
}

test('what is listed of a link, a table, a master or a kind costs what there is of it, not what there is', () => {
  using namespace = freshNamespace('crowded')
  const commands = [
    'link add own0 type bridge',
    'link add other0 type bridge',
    'link set own0 up',
    'link set other0 up',
    'address add 10.250.0.1/16 dev other0',
    ...Array.from({ length: 100 }, (_, index) => `link add v${index} master other0 type veth peer w${index}`),
    'link add port0 master own0 type veth peer port1',
    'link add shaper0 type ifb',
    ...Array.from(
      { length: CROWD },
      (_, index) => `route add 20.0.${index >> 8}.${index & 255} via 10.250.0.2`,
    ),
    ...Array.from(
      { length: CROWD },
      (_, index) => `address add 30.0.${index >> 8}.${index & 255}/32 dev other0`,
    ),
    'address add 10.1.0.1/24 dev own0',
    'route add 40.0.0.0/8 dev own0 table 40',
  ]
  const file = `${namespace.path}.commands`
  writeFileSync(file, commands.join('\n'))
  namespace.run('sh', '-c', `ip -batch ${file} && rm ${file}`)
  const own = namespace.link('own0').index
  const { bytesOf, transport } = counting(namespace.route)
  const all = bytesOf(() => listRoutes(transport))
  expect(all).toBeGreaterThan(CROWD * 50)
  const lists = {
    'routes of a link': () => listRoutes(transport, { link: own }),
    'routes of a table': () => listRoutes(transport, { table: 40 }),
    'addresses of a link': () => listAddresses(transport, own),
    'ports of a bridge': () => listLinks(transport, { master: own }),
    'links of a kind': () => listLinks(transport, { kind: 'ifb' }),
  }
  for (const [name, list] of Object.entries(lists)) {
    expect({ name, found: list().length > 0 }).toEqual({ name, found: true })
    expect(bytesOf(list), name).toBeLessThan(4500)
  }
})
