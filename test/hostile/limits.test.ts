/** A process that may have few descriptors: an ADD that fails for it leaves no link, and says so in a document. */
import { expect, test } from 'bun:test'
import { findLink, removeLink } from '../../chain/linux/netlink/link.ts'
import { freshNamespace, hostNamespace } from '../fixtures/namespace.ts'
import { executeCommand, mustExecute, ourExecutable } from '../fixtures/plugin.ts'

const ipam = { type: 'host-local', ranges: [[{ subnet: '10.78.0.0/24' }]] }
const config = { type: 'bridge', bridge: 'limits0', isGateway: true, ipMasq: true, ipam }

test('whatever number of descriptors is too low for ADD, the bridge that it made goes with it', () => {
  const file = ourExecutable('bridge')
  const outcomes: number[] = []
  for (let limit = 8; limit <= 24; limit++) {
    using container = freshNamespace('limits')
    using host = hostNamespace()
    const environment = { CATENA_WARM: 'off' } // a service's workers have limits of their own
    const options = { netns: container, path: file.slice(0, file.lastIndexOf('/')), config, environment }
    const { status, json } = executeCommand(['prlimit', `--nofile=${limit}:${limit}`, file], 'ADD', options)
    outcomes.push(status)
    const links = { container: container.links().length, bridge: findLink(host.route, 'limits0')?.kind }
    if (status === 0) expect(links).toEqual({ container: 2, bridge: 'bridge' })
    else {
      expect({ limit, ...links }).toEqual({ limit, container: 1, bridge: undefined })
      expect(json).toMatchObject({ code: expect.any(Number), msg: expect.any(String) })
    }
    mustExecute(file, 'DEL', options)
    removeLink(host.route, 'limits0')
  }
  expect([...new Set(outcomes)]).toEqual([1, 0])
})
