import { expect, test } from 'bun:test'
import { freshNamespace, hostNamespace } from '../fixtures/namespace.ts'
import { execute, mustExecute, ours } from '../fixtures/plugin.ts'
import { injected } from './injected.ts'

test('ptp works where netlink has no options, as before Linux 4.3', () => {
  using host = hostNamespace()
  using container = freshNamespace('old')
  using ptp = injected('setsockopt:error=ENOPROTOOPT', 'ptp')
  host.addAddress('lo', '10.6.0.1/32') // of another link, which a kernel without filters tells of too
  const before = host.links().length
  const ipam = { type: 'host-local', subnet: '10.5.0.0/24', routes: [{ dst: '0.0.0.0/0' }] }
  const config = { type: 'ptp', ipam }
  const request = { netns: container, config, path: ours }
  const prevResult = mustExecute(ptp.file, 'ADD', request)
  expect(container.addresses('eth0')).toEqual([prevResult.ips[0].address])
  const again = { ...request, config: { ...config, prevResult } }
  expect(execute(ptp.file, 'CHECK', again)).toMatchObject({ status: 0, stdout: '' })
  expect(execute(ptp.file, 'DEL', again)).toMatchObject({ status: 0, stdout: '' })
  expect(host.links()).toHaveLength(before)
})
