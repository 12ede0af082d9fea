import { expect, test } from 'bun:test'
import { removeAddress } from '../../../chain/linux/netlink/address.ts'
import { changeBridgePort, removeLink, setLink } from '../../../chain/linux/netlink/link.ts'
import { request } from '../../../chain/linux/netlink/socket.ts'
import { bridge } from '../../../main/bridge.ts'
import { freshNetwork } from '../../fixtures/bridge.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { call } from '../../fixtures/plugin.ts'

interface Scene {
  host: Namespace
  container: Namespace
  bridge: string
  hostEnd: string
}

const config = { ipMasq: true, macspoofchk: true, hairpinMode: true, portIsolation: true }

test.each<{ what: string; breakIt: (scene: Scene) => unknown; says: string | RegExp }>([
  {
    what: 'an address',
    breakIt: ({ container }) =>
      removeAddress(container.route, {
        link: container.link('eth0').index,
        address: '10.1.0.2',
        prefixLength: 16,
      }),
    says: 'Failed to match addr 10.1.0.2/16 on interface eth0',
  },
  {
    what: 'an IPv6 address',
    breakIt: ({ container }) =>
      removeAddress(container.route, {
        link: container.link('eth0').index,
        address: 'fd00:1::2',
        prefixLength: 64,
      }),
    says: 'Failed to match addr fd00:1::2/64 on interface eth0',
  },
  {
    what: 'a route',
    breakIt: ({ container }) => container.run('ip', 'route', 'del', 'default'),
    says: 'Expected Route 0.0.0.0/0 via 10.1.0.1 not found in routing table',
  },
  {
    what: 'the container end, taken down and its routes put back,',
    breakIt: ({ container }) => setLink(container.route, 'eth0', { up: false }),
    says: 'Interface eth0 is down',
  },
  {
    what: "the container end's hardware address",
    breakIt: ({ container }) => setLink(container.route, 'eth0', { address: '02:00:00:00:00:99' }),
    says: /^Interface eth0 Mac \S+ doesn't match container Mac: 02:00:00:00:00:99$/,
  },
  {
    what: 'the container end',
    breakIt: ({ container }) => removeLink(container.route, 'eth0'),
    says: /^Container Interface name in prevResult: eth0 not found: interface eth0 is not in /,
  },
  {
    what: 'the container end, replaced by another kind of link,',
    breakIt: ({ container }) => {
      removeLink(container.route, 'eth0')
      container.createLink({ name: 'eth0', kind: { type: 'bridge' } })
    },
    says: 'Error: Container interface eth0 not of type veth: it is a bridge',
  },
  {
    what: 'the host end, taken off the bridge,',
    breakIt: ({ host, hostEnd }) => setLink(host.route, hostEnd, { master: 0 }),
    says: /^CNI veth created for bridge br\w+ was not found: eth0 has no host end on it$/,
  },
  {
    what: 'the host end, taken down,',
    breakIt: ({ host, hostEnd }) => setLink(host.route, hostEnd, { up: false }),
    says: /^host end veth\w+ is down$/,
  },
  {
    what: "the host end's hardware address",
    breakIt: ({ host, hostEnd }) => setLink(host.route, hostEnd, { address: '02:00:00:00:00:99' }),
    says: /^Interface veth\w+ Mac doesn't match: \S+ not found: it has 02:00:00:00:00:99$/,
  },
  {
    what: 'hairpin mode',
    breakIt: ({ host, hostEnd }) => request(host.route, changeBridgePort(hostEnd, { hairpin: false })),
    says: /^host end veth\w+ is not in hairpin mode$/,
  },
  {
    what: 'port isolation',
    breakIt: ({ host, hostEnd }) => request(host.route, changeBridgePort(hostEnd, { isolated: false })),
    says: /^host end veth\w+ is not isolated$/,
  },
  {
    what: 'a gateway address',
    breakIt: ({ host, bridge }) =>
      removeAddress(host.route, { link: host.link(bridge).index, address: 'fd00:1::1', prefixLength: 64 }),
    says: /^gateway address fd00:1::1\/64 is not on bridge /,
  },
  {
    what: 'the bridge, taken down,',
    breakIt: ({ host, bridge }) => setLink(host.route, bridge, { up: false }),
    says: /^bridge br\w+ is down$/,
  },
  {
    what: "the bridge's hardware address",
    breakIt: ({ host, bridge }) => setLink(host.route, bridge, { address: '02:00:00:00:00:99' }),
    says: /^Bridge interface br\w+ Mac doesn't match: \S+: it has 02:00:00:00:00:99$/,
  },
  {
    what: 'the bridge',
    breakIt: ({ host, bridge }) => removeLink(host.route, bridge),
    says: /^Interface name br\w+ not found: the bridge is gone$/,
  },
  {
    what: 'the ruleset',
    breakIt: ({ host }) => host.run('nft', 'flush', 'ruleset'),
    says: /^table \w+ catena is missing$/,
  },
  {
    what: 'the masquerade of an address',
    breakIt: ({ host }) =>
      host.run('nft', 'delete', 'element', 'ip', 'catena', 'masquerade_source', '{ 10.1.0.2 }'),
    says: 'element ip catena masquerade_source ["10.1.0.2"] is missing',
  },
  {
    what: 'the filter of forged frames',
    breakIt: ({ host }) => host.run('nft', 'delete', 'table', 'bridge', 'catena'),
    says: 'table bridge catena is missing',
  },
])('CHECK notices that $what is no longer as ADD left it', async ({ breakIt, says }) => {
  using host = hostNamespace()
  await using network = freshNetwork(config)
  using container = freshNamespace()
  const chain = network.chain(container)
  const { interfaces } = await chain.add()
  expect(await chain.check()).toMatchObject({ status: 0 })
  breakIt({ host, container, bridge: network.bridge, hostEnd: interfaces[1].name })
  const { status, json } = await chain.check()
  expect({ status, code: json.code, msg: json.msg }).toEqual({
    status: 1,
    code: 999,
    msg: typeof says === 'string' ? says : expect.stringMatching(says),
  })
})

test('CHECK notices that the bridge is no longer promiscuous', async () => {
  using host = hostNamespace()
  await using network = freshNetwork({ promiscMode: true })
  using container = freshNamespace()
  const chain = network.chain(container)
  await chain.add()
  expect(await chain.check()).toMatchObject({ status: 0 })
  setLink(host.route, network.bridge, { promiscuous: false })
  expect((await chain.check()).json.msg).toBe(
    `Bridge interface ${network.bridge} configured Promisc Mode true doesn't match current state: it is not promiscuous`,
  )
})

test('CHECK notices that the IPAM plugin no longer knows the address', async () => {
  await using network = freshNetwork()
  using container = freshNamespace()
  const chain = network.chain(container)
  await chain.add()
  hostNamespace().run('rm', `/var/lib/cni/networks/${network.name}/10.1.0.2`)
  expect((await chain.check()).status).toBe(1)
})

test('CHECK without prevResult is refused', async () => {
  await using network = freshNetwork({ ipam: {}, isDefaultGateway: false })
  using container = freshNamespace()
  await network.attach(container)
  const { json } = await call(bridge, 'CHECK', network.call(container))
  expect(json).toMatchObject({ code: 7, msg: 'prevResult: bridge: Required prevResult missing' })
})
