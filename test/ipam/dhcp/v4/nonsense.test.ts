import { expect, test } from 'bun:test'
import { readdirSync } from 'node:fs'
import { stateFolder } from '../../../../ipam/dhcp/daemon/state.ts'
import { type Message, messageType } from '../../../../ipam/dhcp/v4/packet.ts'
import { dhcp } from '../../../../ipam/dhcp.ts'
import { call, mustCall } from '../../../fixtures/plugin.ts'
import { daemon, type Heard, type Listener, lan, listenOn } from '../network.ts'

const bytes = (...values: number[]) => Uint8Array.from(values)
const SERVER = bytes(10, 9, 0, 1)

/** What a sane server sends, as one of the two answers. */
function sane(to: Heard): Partial<Message> & { options: Map<number, Uint8Array> } {
  const isRequest = to.message.options.get(53)?.[0] === messageType.request
  return {
    yourAddress: '10.9.0.77',
    options: new Map([
      [1, bytes(255, 255, 255, 0)],
      [51, bytes(0, 0, 0, 120)],
      [53, bytes(isRequest ? messageType.acknowledge : messageType.offer)],
      [54, SERVER],
    ]),
  }
}

type Answer = (to: Heard, answer: Listener['answer']) => void

/** One thing of a sane answer replaced. */
const changed =
  (change: (message: ReturnType<typeof sane>) => Partial<Message>): Answer =>
  (to, answer) => {
    const message = sane(to)
    answer(to, { ...message, ...change(message) } as typeof message)
  }
const withOption = (code: number, value: Uint8Array): Answer =>
  changed(({ options }) => ({ options: new Map([...options, [code, value]]) }))
const without = (code: number): Answer =>
  changed(({ options }) => ({ options: new Map([...options].filter(([key]) => key !== code)) }))
const spoilt =
  (spoil: (message: Uint8Array) => Uint8Array): Answer =>
  (to, answer) =>
    answer(to, sane(to), spoil)

const nonsense: { name: string; reply: Answer }[] = [
  { name: 'another transaction', reply: changed(() => ({ transaction: 1 })) },
  { name: "another client's offer", reply: changed(() => ({ hardware: '02:00:00:00:00:01' })) },
  { name: 'a request instead of a reply', reply: changed(() => ({ operation: 'request' })) },
  { name: 'a lease of zero seconds', reply: withOption(51, bytes(0, 0, 0, 0)) },
  { name: 'no server', reply: without(54) },
  { name: 'no type', reply: without(53) },
  { name: 'no address', reply: changed(() => ({ yourAddress: '0.0.0.0' })) },
  { name: 'a multicast address', reply: changed(() => ({ yourAddress: '224.0.0.1' })) },
  { name: 'options that are cut off', reply: spoilt(message => message.subarray(0, 242)) },
  { name: 'a message that is cut off', reply: spoilt(message => message.subarray(0, 100)) },
  { name: 'no cookie', reply: spoilt(message => message.fill(0, 236, 240)) },
  { name: 'nothing', reply: spoilt(() => new Uint8Array(0)) },
  { name: 'noise', reply: spoilt(message => crypto.getRandomValues(message)) },
]

test.concurrent.each(nonsense)(
  'a server that answers $name is not believed, and a sane one after it is',
  async ({ reply }) => {
    using network = lan()
    let answers = 0
    using _server = listenOn(network.namespace, 'br0', (to, answer) => {
      if (answers++ < 2) reply(to, answer)
      answer(to, sane(to))
    })
    await using dhcpDaemon = await daemon()
    const container = network.attach('container')
    const config = { ipam: { type: 'dhcp', daemonSocketPath: dhcpDaemon.socket } }
    const { ips } = await mustCall(dhcp, 'ADD', { config, netns: container })
    expect(ips).toEqual([{ address: '10.9.0.77/24' }])
  },
)

test.concurrent.each(nonsense)(
  'a server that answers $name only: ADD ends in time, and nothing is kept',
  async ({ reply }) => {
    using network = lan()
    using _server = listenOn(network.namespace, 'br0', reply)
    await using dhcpDaemon = await daemon('-timeout', '50ms', '-resendtimeout', '200ms')
    const container = network.attach('container')
    const config = { ipam: { type: 'dhcp', daemonSocketPath: dhcpDaemon.socket } }
    const { json } = await call(dhcp, 'ADD', { config, netns: container })
    expect(json).toMatchObject({
      code: 999,
      msg: expect.stringContaining(
        'error calling DHCP.Allocate: no more tries: no server offered an address',
      ),
    })
    expect(readdirSync(stateFolder(dhcpDaemon.socket))).toEqual(['lock'])
  },
)

test.concurrent('ten thousand options are read, and the lease is what it is', async () => {
  using network = lan()
  const many = Buffer.concat([bytes(...Array.from({ length: 10_000 }, () => [224, 0]).flat(), 255)])
  using _server = listenOn(network.namespace, 'br0', (to, answer) =>
    answer(to, sane(to), message => Buffer.concat([message.subarray(0, message.lastIndexOf(255)), many])),
  )
  const container = network.attach('container')
  network.namespace.run('ip', 'link', 'set', 'br0', 'mtu', '65000')
  network.namespace.run('ip', 'link', 'set', 'port1', 'mtu', '65000')
  await using dhcpDaemon = await daemon()
  container.run('ip', 'link', 'set', 'eth0', 'mtu', '65000')
  const config = { ipam: { type: 'dhcp', daemonSocketPath: dhcpDaemon.socket } }
  expect((await mustCall(dhcp, 'ADD', { config, netns: container })).ips).toEqual([
    { address: '10.9.0.77/24' },
  ])
})

test.concurrent('a server that offers and never acknowledges: ADD ends in time, and what it may have kept is given back', async () => {
  using network = lan()
  using server = listenOn(network.namespace, 'br0', (to, answer) => {
    if (to.message.options.get(53)?.[0] === messageType.discover) answer(to, sane(to))
  })
  await using dhcpDaemon = await daemon('-timeout', '500ms', '-resendtimeout', '600ms')
  const container = network.attach('container')
  const config = { ipam: { type: 'dhcp', daemonSocketPath: dhcpDaemon.socket } }
  const { json } = await call(dhcp, 'ADD', { config, netns: container })
  expect(json.msg).toContain('no server acknowledged the request')
  expect((await server.next(messageType.release)).message.clientAddress).toBe('10.9.0.77')
})

test.concurrent('a server that gives no subnet mask is of no use', async () => {
  using network = lan()
  using server = listenOn(network.namespace, 'br0', without(1))
  await using dhcpDaemon = await daemon()
  const container = network.attach('container')
  const config = { ipam: { type: 'dhcp', daemonSocketPath: dhcpDaemon.socket } }
  const { json } = await call(dhcp, 'ADD', { config, netns: container })
  expect(json.msg).toContain(
    'DHCP option Subnet Mask not found in DHCPACK: the server 10.9.0.1 gave none with 10.9.0.77',
  )
  await server.next(messageType.release)
})
