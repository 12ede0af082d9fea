import { expect, test } from 'bun:test'
import { dhcp } from '../../../ipam/dhcp.ts'
import { hostNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { call, mustCall, peerExecutable } from '../../fixtures/plugin.ts'
import { daemon, dnsmasq, lan, start } from './network.ts'

const routes = ['--dhcp-option=121,192.168.7.0/24,10.9.0.9,0.0.0.0/0,10.9.0.1']

function configFor(socket: string) {
  const request = [{ option: '121' }]
  return { type: 'bridge', ipam: { type: 'dhcp', daemonSocketPath: socket, request, priority: 9 } }
}

/** The Go plugin, without keeping the daemon in this process from answering it. */
async function goPlugin(verb: string, container: Namespace, config: object) {
  const child = Bun.spawn([peerExecutable('dhcp')], {
    stdin: Buffer.from(JSON.stringify({ cniVersion: '1.0.0', name: 'test-net', ...config })),
    env: {
      CNI_COMMAND: verb,
      CNI_CONTAINERID: 'container-1',
      CNI_NETNS: container.path,
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/',
    },
    stdout: 'pipe',
  })
  const output = await new Response(child.stdout).text()
  return { status: await child.exited, json: output === '' ? undefined : JSON.parse(output) }
}

const lease = {
  ips: [{ address: expect.stringMatching(/^10\.9\.0\.[5-9]\d\/24$/), gateway: '10.9.0.1' }],
  routes: [
    { dst: '192.168.7.0/24', gw: '10.9.0.9', priority: 9 },
    { dst: '0.0.0.0/0', gw: '10.9.0.1', priority: 9 },
  ],
}

test('the Go plugin gets, checks and releases a lease from our daemon', async () => {
  using network = lan()
  await using server = await dnsmasq(network.namespace, {}, ...routes)
  await using dhcpDaemon = await daemon()
  const container = network.attach('container')
  const config = configFor(dhcpDaemon.socket)
  const added = await goPlugin('ADD', container, config)
  expect(added).toEqual({ status: 0, json: { cniVersion: '1.0.0', ...lease } })
  expect(await goPlugin('CHECK', container, { ...config, prevResult: added.json })).toEqual({
    status: 0,
    json: undefined,
  })
  expect(await goPlugin('DEL', container, config)).toEqual({ status: 0, json: undefined })
  await server.says(/DHCPRELEASE/)
  await dhcpDaemon.end()
})

test('our daemon refuses the Go plugin in words that it passes on', async () => {
  await using dhcpDaemon = await daemon()
  using network = lan()
  const container = network.attach('container')
  const config = { ipam: { daemonSocketPath: dhcpDaemon.socket, request: [{ option: 'colour' }] } }
  const { status, json } = await goPlugin('ADD', container, config)
  expect(status).toBe(1)
  expect(json).toMatchObject({
    code: 999,
    msg: expect.stringContaining('Can not parse option \\"colour\\"'.replaceAll('\\', '')),
  })
})

test('our plugin gets, checks and releases a lease from the Go daemon', async () => {
  using network = lan()
  using host = hostNamespace()
  await using _server = await dnsmasq(network.namespace, {}, ...routes)
  const container = network.attach('container')
  const socket = '/run/cni/go.sock'
  await using goDaemon = start(host, [peerExecutable('dhcp'), 'daemon', '-socketpath', socket])
  const config = configFor(socket)
  let added = await call(dhcp, 'ADD', { config, netns: container })
  while (added.json.code === 11) added = await call(dhcp, 'ADD', { config, netns: container })
  expect(added.json).toEqual({ cniVersion: '1.1.0', ...lease })
  await mustCall(dhcp, 'STATUS', { config })
  await mustCall(dhcp, 'CHECK', { config: { ...config, prevResult: added.json }, netns: container })
  const foreign = { ...added.json, ips: [{ address: '10.8.0.7/24' }] }
  expect(
    (await call(dhcp, 'CHECK', { config: { ...config, prevResult: foreign }, netns: container })).json.msg,
  ).toContain('which prevResult does not have')
  await mustCall(dhcp, 'DEL', { config, netns: container })
  await goDaemon.says(/releasing lease/) // what it sends comes from 0.0.0.0 to one host, which kernels do not accept
})
