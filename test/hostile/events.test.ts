import { expect, test } from 'bun:test'
import { setLink } from '../../chain/linux/netlink/link.ts'
import { awaitEvent, openEvents } from '../../chain/linux/netlink/socket.ts'
import { definePlugin } from '../../chain/plugin/define.ts'
import { bridge } from '../../main/bridge.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { mustCall } from '../fixtures/plugin.ts'

const LINKS = 1 // RTNLGRP_LINK

/** More link events than a socket has room for. */
function makeEvents(somewhere: Namespace, name: string, count: number): void {
  for (let each = 0; each < count; each++) setLink(somewhere.route, name, { mtu: 1400 + (each % 2) })
}

test('more events than a socket has room for are a reason to look, and no failure', () => {
  using namespace = freshNamespace()
  namespace.createLink({ name: 'busy', kind: { type: 'bridge' } })
  using events = namespace.inside(() => openEvents(LINKS))
  makeEvents(namespace, 'busy', 2000)
  let looks = 0
  const look = () => ++looks === 1
  expect(awaitEvent(events, look, 5000)).toBe(true) // one look, for all of them
  setLink(namespace.route, 'busy', { alias: 'last' })
  expect(awaitEvent(events, () => namespace.link('busy').alias === 'last', 5000)).toBe(true)
})

test('a bridge with spanning tree takes a container while a thousand links change', async () => {
  using host = hostNamespace()
  using container = freshNamespace('container')
  host.run('ip', 'link', 'add', 'tree0', 'type', 'bridge', 'stp_state', '1', 'forward_delay', '200')
  try {
    const busy = definePlugin({
      name: 'busy-ipam',
      add() {
        makeEvents(host, 'lo', 1000)
        return { interfaces: [], ips: [{ address: '10.1.0.2/24' }], routes: [], dns: {} }
      },
      check: () => undefined,
      del: () => undefined,
    })
    const config = { bridge: 'tree0', ipam: { type: 'busy-ipam' } }
    const request = { netns: container, config, delegates: [busy] }
    await mustCall(bridge, 'ADD', request)
    expect(container.addresses('eth0')).toEqual(['10.1.0.2/24'])
    await mustCall(bridge, 'DEL', request)
  } finally {
    setLink(host.route, 'lo', { mtu: 65536 })
    host.run('ip', 'link', 'delete', 'tree0')
  }
})
