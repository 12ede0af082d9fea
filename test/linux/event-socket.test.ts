import { expect, test } from 'bun:test'
import { existsSync } from 'node:fs'
import { addressBytes } from '../../chain/ip/bytes.ts'
import { AF_INET6 } from '../../chain/ip/family.ts'
import { openEventSocket } from '../../chain/linux/event-socket.ts'
import { O_RDONLY, open } from '../../chain/linux/libc/file.ts'
import { bind, SOCK_DGRAM, SOCK_NONBLOCK, socket } from '../../chain/linux/libc/socket.ts'
import { ETH_P_ARP, openLinkSocket } from '../../chain/linux/packet-socket.ts'
import { frameSocketOf } from '../../ipam/dhcp/link/client-link.ts'
import { connect, freshNamespace } from '../fixtures/namespace.ts'

const deaf = { received: () => undefined, failed: () => undefined }

test('a port that was heard at can be bound to again at once', async () => {
  const address = new Uint8Array(28) // struct sockaddr_in6
  address.set([AF_INET6, 0, 0x1f, 0x90])
  address.set(addressBytes('::1'), 8)
  for (let round = 0; round < 50; round++) {
    const descriptor = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0)
    bind(descriptor, address)
    openEventSocket(descriptor, deaf).close()
    await new Promise(setImmediate)
  }
})

test('over a line whose link went down nothing is sent: its number may be another socket’s', async () => {
  using one = freshNamespace('one')
  using other = freshNamespace('other')
  connect({ namespace: one, name: 'eth0' }, { namespace: other, name: 'eth0' })
  const descriptor = one.inside(() => openLinkSocket(one.link('eth0').index, ETH_P_ARP))
  const failed = Promise.withResolvers<void>()
  const sent: Uint8Array[] = []
  const eventSocket = openEventSocket(
    descriptor,
    { received: () => undefined, failed: () => failed.resolve() },
    { lingers: true },
  )
  const line = frameSocketOf(eventSocket, bytes => void sent.push(bytes))
  line.send(Uint8Array.of(1))
  one.run('ip', 'link', 'set', 'eth0', 'down')
  await failed.promise
  line.send(Uint8Array.of(2))
  expect(sent).toEqual([Uint8Array.of(1)])
  expect(existsSync(`/proc/self/fd/${descriptor}`)).toBe(false)
  eventSocket.close()
})

test('what no event loop takes is closed, and has failed', async () => {
  const file = open('/proc/self/status', O_RDONLY) // epoll_ctl: EPERM
  const failed = Promise.withResolvers<Error>()
  const eventSocket = openEventSocket(file, { received: () => undefined, failed: failed.resolve })
  expect(await failed.promise).toBeInstanceOf(Error)
  expect([eventSocket.isOpen(), existsSync(`/proc/self/fd/${file}`)]).toEqual([false, false])
})
