import { expect, test } from 'bun:test'
import { readdirSync } from 'node:fs'
import { addressBytes } from '../../../../chain/ip/bytes.ts'
import { stateFolder } from '../../../../ipam/dhcp/daemon/state.ts'
import {
  encodeMessage,
  encodeOptions,
  type Message,
  messageType,
  type Option,
  option,
  optionValue,
} from '../../../../ipam/dhcp/v6/packet.ts'
import { dhcp } from '../../../../ipam/dhcp.ts'
import { call, mustCall } from '../../../fixtures/plugin.ts'
import { type Daemon, daemon, lan } from '../network.ts'
import { type Heard6, type Listener6, lan6, listenOn6 } from './network.ts'

const SERVER = Uint8Array.of(0, 3, 0, 1, 2, 0, 0, 0, 9, 1)
const word = (value: number) => Buffer.from(value.toString(16).padStart(8, '0'), 'hex')

interface Offer {
  address: string
  valid: number
  server: Uint8Array | undefined
  client: Uint8Array
  iaid: Uint8Array
  transaction: number
  type: number
  more: Option[]
}

/** What a sane server sends, with some of it replaced. */
function answerTo({ message }: Heard6, changes: Partial<Offer> = {}): Message {
  const association = optionValue(message.options, option.addresses) ?? new Uint8Array(12)
  const offer: Offer = {
    address: 'fd00:9::77',
    valid: 120,
    server: SERVER,
    client: optionValue(message.options, option.client) ?? new Uint8Array(0),
    iaid: association.subarray(0, 4),
    transaction: message.transaction,
    type: message.type === messageType.solicit ? messageType.advertise : messageType.reply,
    more: [],
    ...changes,
  }
  const inside = {
    code: option.address,
    value: Buffer.concat([addressBytes(offer.address), word(offer.valid), word(offer.valid)]),
  }
  const value = Buffer.concat([offer.iaid, word(0), word(0), encodeOptions([inside])])
  return {
    type: offer.type,
    transaction: offer.transaction,
    options: [
      ...(offer.server ? [{ code: option.server, value: offer.server }] : []),
      { code: option.client, value: offer.client },
      { code: option.addresses, value },
      ...offer.more,
    ],
  }
}

const changed =
  (changes: (to: Heard6) => Partial<Offer>) =>
  (to: Heard6, listener: Listener6): void =>
    listener.answer(to, answerTo(to, changes(to)))
const spoilt =
  (spoil: (bytes: Uint8Array) => Uint8Array) =>
  (to: Heard6, listener: Listener6): void =>
    listener.answer(to, spoil(encodeMessage(answerTo(to))))

const nonsense: { name: string; reply: (to: Heard6, listener: Listener6) => void }[] = [
  {
    name: 'another transaction',
    reply: changed(({ message }) => ({ transaction: message.transaction ^ 1 })),
  },
  { name: 'another client', reply: changed(() => ({ client: Uint8Array.of(0, 4, 1, 2, 3) })) },
  { name: 'no server', reply: changed(() => ({ server: undefined })) },
  { name: 'a server without name', reply: changed(() => ({ server: new Uint8Array(0) })) },
  { name: 'another association', reply: changed(() => ({ iaid: Uint8Array.of(9, 9, 9, 9) })) },
  { name: 'lifetimes of zero', reply: changed(() => ({ valid: 0 })) },
  { name: 'a multicast address', reply: changed(() => ({ address: 'ff02::1' })) },
  { name: 'no address', reply: changed(() => ({ address: '::' })) },
  { name: 'requests instead of replies', reply: changed(() => ({ type: messageType.solicit })) },
  {
    name: 'the wrong kind of reply',
    reply: changed(({ message }) => ({
      type: message.type === messageType.solicit ? messageType.reply : messageType.advertise,
    })),
  },
  { name: 'options that are cut off', reply: spoilt(bytes => bytes.subarray(0, bytes.length - 5)) },
  {
    name: 'an address that is cut off',
    reply: spoilt(bytes => Buffer.concat([bytes.subarray(0, -30), bytes.subarray(-10)])),
  },
  { name: 'three bytes', reply: spoilt(bytes => bytes.subarray(0, 3)) },
  { name: 'nothing', reply: spoilt(() => new Uint8Array(0)) },
  { name: 'noise', reply: spoilt(bytes => crypto.getRandomValues(bytes)) },
]

const configFor = (dhcpDaemon: Daemon, ipv6: string) => ({
  ipam: { type: 'dhcp', daemonSocketPath: dhcpDaemon.socket, ipv4: false, ipv6 },
})
const filesOf = ({ socket }: Daemon) => readdirSync(stateFolder(socket))

test.concurrent.each(nonsense)(
  'a server that answers $name is not believed, and a sane answer after it is',
  async ({ reply }) => {
    using network = lan6()
    let answers = 0
    using _server = listenOn6(network.namespace, {
      reply(to, listener) {
        if (answers++ < 2) reply(to, listener)
        listener.answer(to, answerTo(to))
      },
    })
    await using dhcpDaemon = await daemon('-timeout', '100ms')
    const container = network.attach('container')
    const { ips } = await mustCall(dhcp, 'ADD', { config: configFor(dhcpDaemon, 'dhcp'), netns: container })
    expect(ips).toEqual([{ address: 'fd00:9::77/128' }])
  },
)

test.concurrent.each(nonsense)(
  'a server that answers $name only: ADD ends in time, and nothing is kept',
  async ({ reply }) => {
    using network = lan6()
    using _server = listenOn6(network.namespace, { reply })
    await using dhcpDaemon = await daemon('-timeout', '50ms', '-resendtimeout', '300ms')
    const container = network.attach('container')
    const { json } = await call(dhcp, 'ADD', { config: configFor(dhcpDaemon, 'dhcp'), netns: container })
    expect(json).toMatchObject({
      code: 999,
      msg: expect.stringContaining('no DHCPv6 server offered an address'),
    })
    expect(filesOf(dhcpDaemon)).toEqual(['lock'])
  },
)

test.concurrent('an empty datagram before every answer ends no socket', async () => {
  using network = lan6()
  using _server = listenOn6(network.namespace, {
    reply(to, listener) {
      listener.answer(to, new Uint8Array(0))
      listener.answer(to, answerTo(to))
    },
  })
  await using dhcpDaemon = await daemon('-timeout', '100ms', '-resendtimeout', '2s')
  const container = network.attach('container')
  const { ips } = await mustCall(dhcp, 'ADD', { config: configFor(dhcpDaemon, 'dhcp'), netns: container })
  expect(ips).toEqual([{ address: 'fd00:9::77/128' }])
})

test.concurrent('no answer to a renewal that is nonsense takes an address away', async () => {
  using network = lan6()
  let renewals = 0
  using _server = listenOn6(network.namespace, {
    reply(to, listener) {
      const { type } = to.message
      if (type !== messageType.renew && type !== messageType.rebind)
        listener.answer(to, answerTo(to, { valid: 2 }))
      else if (renewals++ === 0) for (const { reply } of nonsense) reply(to, listener)
      else listener.answer(to, answerTo(to))
    },
  })
  await using dhcpDaemon = await daemon('-timeout', '100ms')
  const container = network.attach('container')
  const config = configFor(dhcpDaemon, 'dhcp')
  const result = await mustCall(dhcp, 'ADD', { config, netns: container })
  container.addAddress('eth0', result.ips[0].address)
  expect(await dhcpDaemon.event('renewed')).toMatchObject({ address: 'fd00:9::77/128', seconds: 120 })
  expect(renewals).toBe(2)
  expect(container.addresses('eth0')).toEqual(['fd00:9::77/128'])
  expect(dhcpDaemon.events.filter(({ event }) => event === 'lost')).toEqual([])
})

test.concurrent('ten thousand options are read, and the lease is what it is', async () => {
  using network = lan6()
  const more = Array.from({ length: 10_000 }, () => ({ code: 999, value: new Uint8Array(0) }))
  using _server = listenOn6(network.namespace, { reply: changed(() => ({ more })) })
  const container = network.attach('container')
  for (const [namespace, link] of [
    [network.namespace, 'br0'],
    [network.namespace, 'port2'],
    [container, 'eth0'],
  ] as const)
    namespace.run('ip', 'link', 'set', link, 'mtu', '65000')
  await using dhcpDaemon = await daemon('-timeout', '300ms')
  const { ips } = await mustCall(dhcp, 'ADD', { config: configFor(dhcpDaemon, 'dhcp'), netns: container })
  expect(ips).toEqual([{ address: 'fd00:9::77/128' }])
})

const advertised = (lifetime: number, ...options: (Uint8Array | number[])[]) =>
  Buffer.concat([
    Uint8Array.of(134, 0, 0, 0, 64, 0, lifetime >> 8, lifetime, 0, 0, 0, 0, 0, 0, 0, 0),
    ...options.map(each => Uint8Array.from(each)),
  ])
const prefix = (valid: number, preferred: number) =>
  Buffer.concat([
    Uint8Array.of(3, 4, 64, 0xc0),
    word(valid),
    word(preferred),
    word(0),
    addressBytes('fd00:9::'),
  ])

type Solicited = (listener: Listener6) => void
const badRouters: { name: string; solicited: Solicited }[] = [
  {
    name: 'through a router',
    solicited: listener =>
      listener.advertise(advertised(1800, prefix(9, 9)), undefined, frame => frame.fill(254, 21, 22)),
  },
  {
    name: 'with a wrong checksum',
    solicited: listener =>
      listener.advertise(advertised(1800, prefix(9, 9)), undefined, frame => frame.fill(1, 56, 58)),
  },
  {
    name: 'from a global address',
    solicited: listener => listener.advertise(advertised(1800, prefix(9, 9)), 'fd00:9::1'),
  },
  {
    name: 'with an option of no length',
    solicited: listener => listener.advertise(advertised(1800, [3, 0, 0, 0, 0, 0, 0, 0])),
  },
  {
    name: 'with an option that is cut off',
    solicited: listener => listener.advertise(advertised(1800, prefix(9, 9).subarray(0, 16))),
  },
  { name: 'of eight bytes', solicited: listener => listener.advertise(advertised(1800).subarray(0, 8)) },
  {
    name: 'with a prefix of no time',
    solicited: listener => listener.advertise(advertised(1800, prefix(0, 0))),
  },
  {
    name: 'with a prefix that contradicts itself',
    solicited: listener => listener.advertise(advertised(1800, prefix(1, 9))),
  },
]

// one after another: the router is this process, which the setup of others would keep busy past the client's patience
test.each(badRouters)(
  'an advertisement $name makes no address, and a sane one after it does',
  async ({ solicited }) => {
    using network = lan6()
    let solicitations = 0
    using _router = listenOn6(network.namespace, {
      solicited(listener) {
        solicited(listener)
        if (++solicitations >= 2) listener.advertise(advertised(1800, prefix(900, 900)))
      },
    })
    await using dhcpDaemon = await daemon('-timeout', '300ms')
    const container = network.attach('container')
    container.setSysctl('net/ipv6/conf/eth0/router_solicitations', '0') // the kernel's own are not to be counted
    const { ips } = await mustCall(dhcp, 'ADD', { config: configFor(dhcpDaemon, 'slaac'), netns: container })
    expect(ips).toEqual([
      { address: expect.stringMatching(/^fd00:9::\S+\/64$/), gateway: expect.any(String) },
    ])
    expect(solicitations).toBeGreaterThanOrEqual(2)
  },
)

test.concurrent('thousands of prefixes in one advertisement: sixteen addresses, and ADD ends', async () => {
  using network = lan6()
  const many = Array.from({ length: 2000 }, (_, index) => {
    const one = Uint8Array.from(prefix(900, 900))
    one.set([index >> 8, index], 20)
    return one
  })
  using _router = listenOn6(network.namespace, {
    solicited: listener => listener.advertise(advertised(1800, ...many)),
  })
  const container = network.attach('container')
  for (const [namespace, link] of [
    [network.namespace, 'br0'],
    [network.namespace, 'port2'],
    [container, 'eth0'],
  ] as const)
    namespace.run('ip', 'link', 'set', link, 'mtu', '65535')
  await using dhcpDaemon = await daemon('-timeout', '500ms')
  const { ips } = await mustCall(dhcp, 'ADD', { config: configFor(dhcpDaemon, 'slaac'), netns: container })
  expect(ips.length).toBe(16)
})

test.concurrent('of a flood of nonsense a few lines are told, and what makes sense is heard all the same', async () => {
  using network = lan6()
  const sound = advertised(1800, prefix(900, 900))
  using router = listenOn6(network.namespace, { solicited: listener => listener.advertise(sound) })
  await using dhcpDaemon = await daemon('-timeout', '100ms')
  const container = network.attach('container')
  await mustCall(dhcp, 'ADD', { config: configFor(dhcpDaemon, 'slaac'), netns: container })
  for (let count = 0; count < 200; count++) router.advertise(advertised(1800, [3, 0, 0, 0, 0, 0, 0, 0]))
  router.advertise(advertised(0, prefix(900, 900)))
  await dhcpDaemon.event('routed')
  const ignored = dhcpDaemon.events.filter(({ event }) => event === 'ignored')
  expect(ignored).toHaveLength(10)
  expect(ignored.at(-1)).toMatchObject({ quiet: 'what else is ignored in this minute is not told' })
})

test.concurrent('an interface without a link-local address is told', async () => {
  using network = lan()
  const container = network.attach('container')
  container.setSysctl('net/ipv6/conf/eth0/addr_gen_mode', '1')
  await using dhcpDaemon = await daemon('-timeout', '100ms')
  const { json } = await call(dhcp, 'ADD', { config: configFor(dhcpDaemon, 'slaac'), netns: container })
  expect(json.msg).toContain('ipam.ipv6: eth0 has no link-local address')
  expect(filesOf(dhcpDaemon)).toEqual(['lock'])
})
