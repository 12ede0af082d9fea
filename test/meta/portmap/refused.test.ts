/** Configurations of portmap that are refused, and those that DEL gets over. */
import { afterAll, expect, test } from 'bun:test'
import { portmap } from '../../../meta/portmap.ts'
import { getHttp, serveHttp } from '../../fixtures/http.ts'
import { freshNamespace } from '../../fixtures/namespace.ts'
import { call, mustCall } from '../../fixtures/plugin.ts'
import { elements, http, outsideHost, published, removeBridges } from './place.ts'

afterAll(removeBridges)

test.each([
  {
    name: 'a port above 65535',
    mapping: http(70000),
    says: 'runtimeConfig.portMappings[0].hostPort: Invalid host port number: 70000, must be between 1 and 65535: got 70000',
  },
  {
    name: 'a port of 0',
    mapping: http(0),
    says: 'runtimeConfig.portMappings[0].hostPort: Invalid host port number: 0, must be between 1 and 65535: got 0',
  },
  {
    name: 'an unknown protocol',
    mapping: http(80, { protocol: 'icmp' }),
    says: 'runtimeConfig.portMappings[0].protocol: must be tcp, udp or sctp: got "icmp"',
  },
  {
    name: 'a host address that is none',
    mapping: http(80, { hostIP: 'here' }),
    says: 'runtimeConfig.portMappings[0].hostIP: must be an address: got "here"',
  },
])('$name is refused with the path of its key', async ({ mapping, says }) => {
  const { status, json } = await call(portmap, 'ADD', {
    netns: '/run/netns/none',
    config: {
      type: 'portmap',
      runtimeConfig: { portMappings: [mapping] },
      prevResult: { ips: [{ address: '10.1.0.2/16' }] },
    },
  })
  expect({ status, code: json.code, msg: json.msg }).toEqual({ status: 1, code: 7, msg: says })
})

test.each([
  { name: 'a port that ADD refuses', changes: { runtimeConfig: { portMappings: [http(0)] } } },
  {
    name: 'one port twice',
    changes: { runtimeConfig: { portMappings: [http(80), http(80, { containerPort: 81 })] } },
  },
  { name: "conditions in iptables' language", changes: { conditionsV4: ['-s', '10.0.0.0/8'] } },
  { name: 'an unknown backend', changes: { backend: 'ipfw' } },
  { name: 'a torn prevResult', changes: { prevResult: { ips: [{ address: 'bogus' }] } } },
  { name: 'a prevResult of another version', changes: { prevResult: { cniVersion: '0.2.0' } } },
])('DEL takes everything away although its configuration holds $name', async ({ changes }) => {
  using container = freshNamespace()
  const before = elements()
  const chain = published(container, { mappings: [http(8080)], bridge: { ipMasq: false } })
  await chain.add()
  await mustCall(portmap, 'DEL', { netns: container, config: { type: 'portmap', ...changes } })
  expect(elements()).toEqual(before)
  await chain.del()
})

test.each([
  { name: 'as it is', twice: [http(8080), http(8080)] },
  { name: 'for all addresses, and for those of IPv6', twice: [http(8080, { hostIP: '::' }), http(8080)] },
  {
    name: 'for each family',
    twice: [http(8080), http(8080, { hostIP: '0.0.0.0' }), http(8080, { hostIP: '::' })],
  },
  { name: 'in capitals', twice: [http(8080, { protocol: 'TCP' }), http(8080)] },
  {
    name: 'for one address in two spellings',
    twice: [http(8080), http(8080, { hostIP: '2001:db8::1' }), http(8080, { hostIP: '2001:DB8:0::1' })],
  },
])('a port said twice, $name, is one, of either backend', async ({ twice }) => {
  using outside = outsideHost()
  using container = freshNamespace()
  using _server = serveHttp(container, { port: 80, answer: 'here' })
  for (const backend of ['nftables', 'iptables']) {
    const chain = published(container, { mappings: [...twice], config: { backend } })
    await chain.add()
    for (const address of ['192.0.2.1', '2001:db8::1'])
      expect(await getHttp(outside, { address, port: 8080 })).toBe('here')
    expect(await chain.check()).toMatchObject({ status: 0 })
    await chain.del()
  }
})

test.each([
  { name: 'as it is', twice: [http(8080), http(8080, { containerPort: 81 })] },
  {
    name: 'for all addresses, and for those of IPv6',
    twice: [http(8080, { hostIP: '::' }), http(8080, { containerPort: 81 })],
  },
])('a port said twice, $name, for two ports of the container is refused', async ({ twice }) => {
  const { json } = await call(portmap, 'ADD', {
    netns: '/run/netns/none',
    config: {
      type: 'portmap',
      runtimeConfig: { portMappings: twice },
      prevResult: { ips: [{ address: '10.1.0.2/16' }] },
    },
  })
  expect(json).toMatchObject({
    code: 7,
    msg: expect.stringMatching(/^runtimeConfig\.portMappings: must not send one host port to two/),
  })
})

test('conditions that nft does not take are refused with its own words', async () => {
  const { json } = await call(portmap, 'ADD', {
    netns: '/run/netns/none',
    config: {
      type: 'portmap',
      conditionsV4: ['ip', 'sadr', '10.0.0.0/8'],
      runtimeConfig: { portMappings: [http(8080)] },
      prevResult: { ips: [{ address: '10.1.0.2/16' }] },
    },
  })
  expect(json).toMatchObject({
    code: 7,
    msg: expect.stringContaining('conditionsV4'),
    details: expect.stringContaining('sadr'),
  })
})
