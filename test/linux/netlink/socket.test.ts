import { describe, expect, test } from 'bun:test'
import { errno, SystemError } from '../../../chain/linux/libc/errno.ts'
import { close } from '../../../chain/linux/libc/file.ts'
import { bind, SOCK_RAW, sendTo, socket } from '../../../chain/linux/libc/socket.ts'
import { listAddresses } from '../../../chain/linux/netlink/address.ts'
import {
  CodecError,
  encodeMessage,
  flag,
  join,
  type Message,
  messages,
  text,
} from '../../../chain/linux/netlink/codec.ts'
import {
  changeLink,
  createLink,
  findLink,
  getLink,
  listLinks,
  setLink,
} from '../../../chain/linux/netlink/link.ts'
import { listRoutes, listRouteTables } from '../../../chain/linux/netlink/route.ts'
import {
  attempt,
  awaitEvent,
  batch,
  dump,
  isRefusal,
  KernelError,
  openEvents,
  openRoute,
  readRefusal,
  request,
  type Transport,
  transportOver,
} from '../../../chain/linux/netlink/socket.ts'
import { inNamespace } from '../../../chain/linux/netns.ts'
import { freshNamespace } from '../../fixtures/namespace.ts'
import { acknowledgement, refusal } from './captured.ts'

// linux/netlink.h
const ERROR = 2 // NLMSG_ERROR
const DONE = 3 // NLMSG_DONE
const MULTI = 2 // NLM_F_MULTI
const INTERRUPTED = 0x10 // NLM_F_DUMP_INTR
const CAPPED = 0x100 // NLM_F_CAPPED
const ACK_TLVS = 0x200 // NLM_F_ACK_TLVS
const SENTENCE = 1 // NLMSGERR_ATTR_MSG

const AF_NETLINK = 16

/** struct sockaddr_nl of a port. */
function addressOf(port: number): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(12))
  bytes.setUint16(0, AF_NETLINK, true)
  bytes.setUint32(4, port, true)
  return new Uint8Array(bytes.buffer)
}

const wanted = { operation: 'set mtu 10 on eth0', type: 19, payload: new Uint8Array(16) }

function int32(value: number): Uint8Array {
  return new Uint8Array(new Int32Array([value]).buffer)
}

type Answer = Omit<Message, 'sequence'> & { sequence?: number }

/** A kernel whose answers to the n-th datagram are written down; each list of answers is one datagram. */
function scripted(...script: ((sent: Message[]) => Answer[][])[]): Transport & { sent: Message[][] } {
  const sent: Message[][] = []
  const queue: Uint8Array[] = []
  return {
    sent,
    send(datagram) {
      const received = [...messages(datagram)]
      const answers = script[sent.length]?.(received) ?? []
      sent.push(received)
      const sequence = received[0]?.sequence ?? 0
      for (const datagram of answers) {
        queue.push(join(...datagram.map(answer => encodeMessage({ sequence, ...answer }))))
      }
    },
    receive() {
      const datagram = queue.shift()
      if (!datagram) throw new Error('the script has no more answers')
      return datagram
    },
    close() {},
    [Symbol.dispose]() {},
  }
}

const header = (length: number) => join(int32(length), new Uint8Array(12))
const acknowledged: Answer = { type: ERROR, flags: CAPPED, payload: join(int32(0), header(32)) }

const refused = (number: number, sentence?: string): Answer => ({
  type: ERROR,
  flags: CAPPED | (sentence === undefined ? 0 : ACK_TLVS),
  payload: join(int32(-number), header(32), ...(sentence === undefined ? [] : [text(SENTENCE, sentence)])),
})

const part = (value: number, flags = MULTI): Answer => ({ type: 16, flags, payload: new Uint8Array([value]) })
const done = (flags = MULTI): Answer => ({ type: DONE, flags, payload: int32(0) })
const valuesOf = (found: Message[]) => found.map(({ payload }) => payload[0])

describe('a request', () => {
  test('ends with its acknowledgement and answers what came before it', () => {
    const kernel = scripted(() => [[part(7, 0)], [acknowledged]])
    expect(valuesOf(request(kernel, wanted))).toEqual([7])
    expect(kernel.sent.flat().map(({ type, flags }) => ({ type, flags }))).toEqual([{ type: 19, flags: 5 }])
  })

  test('passes over answers to others: late ones and events', () => {
    const kernel = scripted(() => [
      [{ ...refused(19), sequence: 0 }],
      [{ ...part(1), sequence: 4e9 }],
      [acknowledged],
    ])
    expect(request(kernel, wanted)).toEqual([])
  })

  test("is refused with what was done, the errno and the kernel's own sentence", () => {
    const kernel = scripted(() => [[refused(22, 'mtu less than device minimum')]])
    expect(() => request(kernel, wanted)).toThrow(
      new KernelError('set mtu 10 on eth0', 22, 'mtu less than device minimum'),
    )
  })

  test('is refused without a sentence where the kernel gives none', () => {
    const kernel = scripted(() => [[refused(1)]])
    expect(() => request(kernel, wanted)).toThrow('set mtu 10 on eth0: Operation not permitted (EPERM)')
  })

  test('is refused without a sentence where what was sent comes back and looks like one', () => {
    const payload = join(int32(-1), header(16), text(SENTENCE, 'an attribute of the request'))
    const kernel = scripted(() => [[{ type: ERROR, flags: 0, payload }]])
    expect(() => request(kernel, wanted)).toThrow(new KernelError(wanted.operation, 1))
  })

  test('with an errno that has no name here is refused in words all the same', () => {
    const kernel = scripted(() => [[refused(114)]])
    expect(() => request(kernel, wanted)).toThrow(
      'set mtu 10 on eth0: Operation already in progress (errno 114)',
    )
  })
})

describe('a captured answer', () => {
  const only = (datagram: Uint8Array) => {
    const [message] = messages(datagram)
    if (!message) throw new Error('no message')
    return message
  }

  test('of the kernel that carried a request out', () => {
    expect(readRefusal('x', only(acknowledgement))).toBeUndefined()
  })

  test('of the kernel that refused one and echoed it whole', () => {
    expect(readRefusal('set mtu 10 on veth0', only(refusal))).toEqual(
      new KernelError('set mtu 10 on veth0', errno.EINVAL, 'mtu less than device minimum'),
    )
  })
})

describe('an errno is told although what follows it is malformed:', () => {
  test.each([
    { name: 'nothing follows', flags: ACK_TLVS, payload: int32(-22) },
    {
      name: 'the header of the request is cut',
      flags: ACK_TLVS,
      payload: join(int32(-22), new Uint8Array(8)),
    },
    {
      name: 'the request is longer than the message',
      flags: ACK_TLVS,
      payload: join(int32(-22), header(4096)),
    },
    {
      name: 'the request is negatively long',
      flags: ACK_TLVS,
      payload: join(int32(-22), header(-16), text(1, 'x')),
    },
    {
      name: 'an attribute is cut',
      flags: ACK_TLVS | CAPPED,
      payload: join(int32(-22), header(32), new Uint8Array(3)),
    },
    {
      name: 'an attribute is longer than the message',
      flags: ACK_TLVS | CAPPED,
      payload: join(int32(-22), header(32), new Uint8Array([200, 0, 1, 0])),
    },
    {
      name: 'no attribute is a sentence',
      flags: ACK_TLVS | CAPPED,
      payload: join(int32(-22), header(32), flag(9)),
    },
  ])('$name', ({ flags, payload }) => {
    const kernel = scripted(() => [[{ type: ERROR, flags, payload }]])
    expect(() => request(kernel, wanted)).toThrow(new KernelError(wanted.operation, errno.EINVAL))
  })
})

test('an answer without an errno is no answer', () => {
  const kernel = scripted(() => [[{ type: ERROR, flags: 0, payload: new Uint8Array(2) }]])
  expect(() => request(kernel, wanted)).toThrow(CodecError)
})

describe('several requests', () => {
  const other = { ...wanted, operation: 'set mtu 1 on eth1' }

  test('go out in one datagram; each one is told what came of it', () => {
    const kernel = scripted(([first, second]) => [
      [
        { ...refused(22), sequence: first?.sequence ?? 0 },
        { ...part(3, 0), sequence: second?.sequence ?? 0 },
        { ...acknowledged, sequence: second?.sequence ?? 0 },
      ],
    ])
    const [one, two] = attempt(kernel, [wanted, other])
    expect(one).toEqual(new KernelError(wanted.operation, 22))
    expect(Array.isArray(two) && valuesOf(two)).toEqual([3])
    expect(kernel.sent.length).toBe(1)
  })

  test('fail as one with the first refusal', () => {
    const kernel = scripted(sent => [
      sent.map(({ sequence }, index) => ({ ...refused(index + 1), sequence })),
    ])
    expect(() => batch(kernel, [wanted, other])).toThrow(new KernelError(wanted.operation, 1))
  })

  test('may be none at all, for which the kernel is not asked', () => {
    const kernel = scripted()
    expect(batch(kernel, [])).toEqual([])
    expect(kernel.sent).toEqual([])
  })
})

describe('a dump', () => {
  test('is read to its end over several datagrams', () => {
    const kernel = scripted(() => [[part(1), part(2)], [part(3)], [done()]])
    expect(valuesOf(dump(kernel, wanted))).toEqual([1, 2, 3])
  })

  test.each<{ name: string; first: Answer[][] }>([
    { name: 'on one of its parts', first: [[part(1, MULTI | INTERRUPTED), part(2)], [done()]] },
    { name: 'on its end', first: [[part(1)], [done(MULTI | INTERRUPTED)]] },
  ])('that the kernel marks as interrupted $name is taken again, never returned', ({ first }) => {
    const kernel = scripted(
      () => first,
      () => [[part(8)], [done()]],
    )
    expect(valuesOf(dump(kernel, wanted))).toEqual([8])
    expect(kernel.sent.length).toBe(2)
  })

  test('that is interrupted for ever is refused', () => {
    const interrupted = () => [[part(1), done(MULTI | INTERRUPTED)]]
    const kernel = scripted(...Array.from({ length: 100 }, () => interrupted))
    expect(() => dump(kernel, wanted)).toThrow(
      new KernelError(wanted.operation, errno.EAGAIN, 'the list changed while it was read, 64 times'),
    )
  })

  test('is refused at its beginning', () => {
    const kernel = scripted(() => [[refused(95, 'not here')]])
    expect(() => dump(kernel, wanted)).toThrow(new KernelError(wanted.operation, 95, 'not here'))
  })

  test('is refused at its end, where the sentence follows the errno at once', () => {
    const end = {
      type: DONE,
      flags: MULTI | ACK_TLVS,
      payload: join(int32(-22), text(SENTENCE, 'no such filter')),
    }
    const kernel = scripted(() => [[part(1), end]])
    expect(() => dump(kernel, wanted)).toThrow(new KernelError(wanted.operation, 22, 'no such filter'))
  })

  test('passes over the rest of one that was given up', () => {
    const kernel = scripted(
      () => [[refused(1)]],
      ([sent]) => [[{ ...part(1), sequence: (sent?.sequence ?? 0) - 1 }], [part(2), done()]],
    )
    expect(() => dump(kernel, wanted)).toThrow(KernelError)
    expect(valuesOf(dump(kernel, wanted))).toEqual([2])
  })
})

describe('the real kernel', () => {
  test('says in its own sentence why it refuses', () => {
    using namespace = freshNamespace()
    namespace.createLink({ name: 'one', kind: { type: 'veth', peer: { name: 'two' } } })
    const refuse = () => setLink(namespace.route, 'one', { mtu: 10 })
    expect(refuse).toThrow(new KernelError('set mtu 10 on one', errno.EINVAL, 'mtu less than device minimum'))
  })

  test('carries out the others of a batch of which one is refused', () => {
    using namespace = freshNamespace()
    namespace.createLink({ name: 'one', kind: { type: 'bridge' } })
    const answers = attempt(namespace.route, [
      changeLink('none', { up: true }),
      changeLink('one', { mtu: 1300 }),
    ])
    expect(answers.map(answer => isRefusal(answer, errno.ENODEV))).toEqual([true, false])
    expect(namespace.link('one').mtu).toBe(1300)
  })

  test('hands out lists that are longer than one datagram', () => {
    using namespace = freshNamespace()
    const link = namespace.link('lo').index
    const some = Array.from({ length: 700 }, (_, index) => `10.${index >> 8}.${index & 255}.1`)
    for (const address of some) namespace.addAddress('lo', address)
    const listed = listAddresses(namespace.route, link, [2]).map(({ address }) => address)
    expect(listed.filter(address => address !== '127.0.0.1').sort()).toEqual(some.sort())
  })

  test('tells of what happens to those who joined a group, without waiting for more', () => {
    using namespace = freshNamespace()
    using events = namespace.inside(() => openEvents(1)) // RTNLGRP_LINK
    createLink(namespace.route, { name: 'seen', kind: { type: 'bridge' } })
    expect(awaitEvent(events, () => findLink(namespace.route, 'seen') !== undefined, 5000)).toBe(true)
    expect(awaitEvent(events, () => false, 20)).toBe(false)
  })

  test('is the only one that is heard: what came to a socket before it was connected is passed over', () => {
    using namespace = freshNamespace()
    const port = 0x7000_0000 + process.pid
    const early = namespace.inside(() => socket(AF_NETLINK, SOCK_RAW, 0))
    bind(early, addressOf(port))
    using heard = transportOver(early)
    const liar = namespace.inside(() => socket(AF_NETLINK, SOCK_RAW, 0))
    const lies = new Uint8Array(100_000).fill(0xff) // no messages at all, and larger than any buffer to begin with
    for (let each = 0; each < 2; each++) sendTo(liar, lies, addressOf(port))
    close(liar)
    expect(findLink(heard, 'lo')?.up).toBe(true)
  })

  test('that knows no options answers with more than is asked for, which is left out here', () => {
    using namespace = freshNamespace()
    const [one, other] = ['one', 'other'].map((name, index) =>
      namespace.createLink({ name, kind: { type: 'bridge' } }, `10.1.${index}.1/24`),
    )
    if (!one || !other) throw new Error('unreachable')
    namespace.createLink({ name: 'port', kind: { type: 'veth', peer: { name: 'peer' } }, master: one.index })
    namespace.run('ip', 'route', 'add', '10.9.0.0/16', 'dev', 'other', 'table', '77')
    const old = namespace.inside(() => socket(AF_NETLINK, SOCK_RAW, 0)) // no option is set
    for (const route of [transportOver(old), namespace.inside(openRoute)]) {
      using _open = route
      const names = (links: { name: string }[]) => links.map(({ name }) => name)
      expect(listAddresses(route, one.index, [2]).map(({ address }) => address)).toEqual(['10.1.0.1'])
      expect(names(listLinks(route, { master: one.index }))).toEqual(['port'])
      expect(names(listLinks(route, { kind: 'veth' })).sort()).toEqual(['peer', 'port'])
      const destinations = (filter: Parameters<typeof listRoutes>[1]) =>
        listRoutes(route, { families: [2], ...filter }).map(({ destination }) => destination)
      expect(destinations({ table: 77 })).toEqual(['10.9.0.0'])
      expect(destinations({ table: 78 })).toEqual([])
      expect(destinations({ table: 254, link: other.index })).toEqual(['10.1.1.0'])
      expect(destinations({ link: 4711 })).toEqual([])
      expect(destinations({ prefixLength: 16 })).toEqual(['10.9.0.0'])
      expect([...listRouteTables(route)].sort()).toEqual([254, 255, 77])
    }
  })

  test('answers more requests at once than answers fit a socket', () => {
    using namespace = freshNamespace()
    const asked = Array.from({ length: 1000 }, (_, index) => getLink(index % 10 === 0 ? 'none' : 'lo'))
    const answers = attempt(namespace.route, asked)
    expect(answers.map(answer => isRefusal(answer, errno.ENODEV))).toEqual(
      asked.map((_, index) => index % 10 === 0),
    )
  })

  test('a socket keeps to the namespace that it was opened in', () => {
    using namespace = freshNamespace()
    using inside = inNamespace(namespace.path, openRoute)
    using outside = openRoute()
    createLink(inside, { name: 'inner', kind: { type: 'bridge' } })
    expect(findLink(inside, 'inner')?.kind).toBe('bridge')
    expect(findLink(outside, 'inner')).toBeUndefined()
  })

  test('a closed socket may be closed again, and refuses requests', () => {
    const route = openRoute()
    route.close()
    route.close()
    expect(() => findLink(route, 'lo')).toThrow(SystemError)
  })
})
