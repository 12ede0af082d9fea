/** Sends each of ten new containers a packet as soon as ADD has ended, of ptp and of a new bridge; prints how long the answers took. */
import { removeLink } from '../../chain/linux/netlink/link.ts'
import { bridge } from '../../main/bridge.ts'
import { ptp } from '../../main/ptp.ts'
import { askUdp, serveUdp } from '../fixtures/http.ts'
import { freshNamespace, hostNamespace } from '../fixtures/namespace.ts'
import { mustCall } from '../fixtures/plugin.ts'
import { dualStack, ipam, ipamWith } from './support.ts'

const host = hostNamespace()
const milliseconds: number[] = []
for (let round = 0; round < 10; round++) {
  using container = freshNamespace('first-packet')
  const pool = ipamWith(dualStack)
  const config = { bridge: 'first0', isGateway: true, ipam }
  const request = { netns: container, config, delegates: [pool.plugin] }
  const plugin = round % 2 === 0 ? ptp : bridge
  await mustCall(plugin, 'ADD', request)
  using _server = await serveUdp(container, { port: 7, address: '10.1.0.2' })
  const start = performance.now()
  await askUdp(host, { address: '10.1.0.2', port: 7 }, { timeout: 3000 })
  milliseconds.push(Math.round(performance.now() - start))
  await mustCall(plugin, 'DEL', request)
  removeLink(host.route, 'first0')
}
console.log(JSON.stringify(milliseconds))
