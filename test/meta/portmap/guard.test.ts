/** The guard of 127.0.0.0/8 outlives whoever flushes the ruleset: the next container brings it back. */
import { expect, test } from 'bun:test'
import { hostLocal } from '../../../ipam/host-local.ts'
import { bridge } from '../../../main/bridge.ts'
import { portmap } from '../../../meta/portmap.ts'
import { elements } from '../../fixtures/bridge.ts'
import { type Chain, chainOf } from '../../fixtures/chain.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../../fixtures/namespace.ts'

// subnets of its own: bridges of other tests stay
const ranges = [[{ subnet: '10.62.0.0/16' }], [{ subnet: 'fd00:62::/64' }]]
const ipam = { type: 'host-local', ranges }

function publishing(container: Namespace, hostPort: number): Chain {
  const runtimeConfig = { portMappings: [{ hostPort, containerPort: 80, protocol: 'tcp' }] }
  const links = [
    { plugin: bridge, config: { bridge: 'guard0', isDefaultGateway: true, ipam } },
    { plugin: portmap, config: { runtimeConfig } },
  ]
  return chainOf(links, {
    name: 'guard',
    netns: container,
    containerId: container.name,
    delegates: [hostLocal],
  })
}

const key = 'net/ipv4/conf/guard0/route_localnet'
const guards = () => elements().filter(element => element.startsWith('ip route_localnet '))

test('after a flush the next container has the guard again, and with the last one the door is closed', async () => {
  using host = hostNamespace()
  using one = freshNamespace()
  using other = freshNamespace()
  const [first, second] = [publishing(one, 8080), publishing(other, 8081)]
  await first.add()
  expect(guards()).toEqual(['ip route_localnet guard0'])
  host.run('nft', 'flush', 'ruleset')
  await second.add()
  expect(guards()).toEqual(['ip route_localnet guard0'])
  await first.del()
  await second.del()
  expect({ guards: guards(), open: host.sysctl(key) }).toEqual({ guards: [], open: '0' })
})

test('what an administrator has opened is neither guarded nor closed', async () => {
  using host = hostNamespace()
  using container = freshNamespace()
  const chain = publishing(container, 8080)
  await chain.add()
  await chain.del()
  host.setSysctl(key, '1')
  await chain.add()
  expect(guards()).toEqual([])
  await chain.del()
  expect(host.sysctl(key)).toBe('1')
  host.setSysctl(key, '0')
})
