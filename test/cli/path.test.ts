/** What `catena path` says of a packet, held against a real one of the same kind. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { parsePlace, questionFor } from '../../chain/cli/path.ts'
import { inNamespace } from '../../chain/linux/netns.ts'
import { probe } from '../../chain/observe/packet/probe.ts'
import { readRuleset } from '../../chain/observe/packet/ruleset.ts'
import type { Way } from '../../chain/observe/packet/steps.ts'
import { walk } from '../../chain/observe/packet/walk.ts'
import { type Outside, outsideHost } from '../fixtures/bridge.ts'
import { askUdp, getHttp, serveHttp, serveUdp } from '../fixtures/http.ts'
import type { Namespace } from '../fixtures/namespace.ts'
import { type Added, bridgeChain, freshNode, seen, type TestNode } from '../fixtures/node.ts'
import { ourExecutable } from '../fixtures/plugin.ts'

setDefaultTimeout(60_000)

const ports = (hostPort: number) => ({
  capabilityArgs: { portMappings: [{ hostPort, containerPort: 80, protocol: 'tcp' }] },
})

let node: TestNode
let outside: Outside
let servers: Disposable[]
let web: Added
let client: Added
let elsewhere: Added
let six: Added

/** As a namespace to ask and to serve from. */
const place = ({ name, netns }: Added) =>
  ({ name, inside: body => inNamespace(netns, body) }) as Pick<Namespace, 'name' | 'inside'> as Namespace

beforeAll(async () => {
  node = await freshNode()
  outside = outsideHost()
  node.network('ours', '10.31.0.0/24')
  node.network('theirs', '10.32.0.0/24')
  node.network('nft', '10.33.0.0/24', [
    ...bridgeChain('nft', '10.33.0.0/24', { ipMasqBackend: 'nftables' }).slice(0, 1),
    { type: 'portmap', backend: 'nftables', capabilities: { portMappings: true } },
  ])
  web = await node.add('ours', 'web', ports(8080))
  client = await node.add('ours', 'client')
  elsewhere = await node.add('theirs', 'elsewhere', { by: 'go', ...ports(8081) })
  const third = await node.add('nft', 'third', { by: 'go', ...ports(8082) })
  node.network('dual', '', [
    {
      type: 'bridge',
      bridge: 'br-dual',
      isDefaultGateway: true,
      ipMasq: true,
      ipam: { type: 'host-local', ranges: [[{ subnet: '10.34.0.0/24' }], [{ subnet: 'fd00:34::/64' }]] },
    },
    { type: 'portmap', capabilities: { portMappings: true } },
  ])
  six = await node.add('dual', 'six', {
    capabilityArgs: {
      portMappings: [
        { hostPort: 8083, containerPort: 80, protocol: 'tcp' },
        { hostPort: 5353, containerPort: 53, protocol: 'udp' },
      ],
    },
  })
  servers = [web, elsewhere, third, six].map(each => serveHttp(place(each), { port: 80, answer: 'here' }))
})
afterAll(async () => {
  for (const server of servers) server[Symbol.dispose]()
  outside[Symbol.dispose]()
  await node[Symbol.asyncDispose]()
})

function path(from: string | undefined, to: string): Way {
  const model = seen()
  const { origin, packet } = questionFor(model, from, to)
  return walk(model, readRuleset(), { origin, packet })
}

const wayOf = ({ steps }: Way) => steps.map(({ place, about }) => `${place} ${about}`)
const last = ({ steps }: Way) => steps.at(-1)

function sh(command: string): void {
  const { exitCode, stderr } = Bun.spawnSync(['sh', '-c', command])
  if (exitCode !== 0) throw new Error(`${command}: ${stderr}`)
}

/** A real connection from outside to a port of the host, or from a container. */
const connects = (from: Namespace, address: string, port: number) =>
  getHttp(from, { address, port }, 400).then(
    answer => answer === 'here',
    () => false,
  )

const UPLINK = '192.0.2.1'

describe('a packet that gets there, as a real one does:', () => {
  test.each([
    { by: 'our elements of nftables', port: 8080, table: 'catena' },
    { by: "the Go plugins' iptables", port: 8081, table: 'nat' },
    { by: "the Go plugins' nftables", port: 8082, table: 'cni_hostport' },
  ])('to a port that is published by $by', async ({ port, table }) => {
    const way = path(undefined, `:${port}`)
    expect(wayOf(way)).toEqual(
      expect.arrayContaining([
        'outside packet',
        'host link',
        'host translation',
        'host route',
        'host bridge',
      ]),
    )
    expect(last(way)).toMatchObject({ about: 'listener', outcome: 'on' })
    expect(way.steps.find(({ about }) => about === 'translation')?.by).toMatchObject({
      table,
      hook: 'prerouting',
    })
    expect(way.last.destinationPort).toBe(80)
    expect(way.reaches).toBe('yes')
    expect(await connects(outside, UPLINK, port)).toBe(true)
  })

  test('from a container to its neighbour over their bridge', async () => {
    const way = path('client', 'web:80')
    expect(wayOf(way)).toEqual(
      expect.arrayContaining(['client packet', 'client route', 'host bridge', 'web link', 'web listener']),
    )
    expect(way.reaches).toBe('yes')
    expect(await connects(place(client), web.result.ips[0].address.split('/')[0], 80)).toBe(true)
  })

  test('from a container to one of another network, through the host', async () => {
    const way = path('client', 'elsewhere:80')
    expect(wayOf(way)).toEqual(
      expect.arrayContaining(['client route', 'host bridge', 'host route', 'elsewhere listener']),
    )
    expect(way.reaches).toBe('yes')
    expect(await connects(place(client), elsewhere.result.ips[0].address.split('/')[0], 80)).toBe(true)
  })

  test('over IPv6, to a published port too', async () => {
    for (const port of [8080, 8083]) {
      const way = path(undefined, `[2001:db8::1]:${port}`)
      expect({ port, reaches: way.reaches }).toEqual({ port, reaches: port === 8083 ? 'yes' : 'no' })
      expect(await connects(outside, '2001:db8::1', port)).toBe(port === 8083)
    }
    const neighbour = path('six', `[${six.result.ips[1].address.split('/')[0]}]:80`)
    expect(neighbour.reaches).toBe('yes')
  })

  test('by UDP', async () => {
    using _server = await serveUdp(place(six), { port: 53 })
    const way = path(undefined, ':5353/udp')
    expect(way.reaches).toBe('yes')
    expect(way.last).toMatchObject({ protocol: 'udp', destinationPort: 53 })
    expect(await askUdp(outside, { address: UPLINK, port: 5353 })).toBe('192.0.2.2 hello')
  })

  test('from a container to the world, masqueraded', async () => {
    using _server = serveHttp(outside, { port: 8000, answer: 'here' })
    const way = path('client', '192.0.2.2:8000')
    expect(way.steps.find(({ about }) => about === 'translation')).toMatchObject({
      says: `it is masqueraded as ${UPLINK}`,
      by: { table: 'catena', chain: 'postrouting', owner: 'client' },
    })
    expect(last(way)).toMatchObject({ about: 'listener', place: outside.name }) // a namespace of this machine, if no container's
    expect(last(path('client', '192.0.2.9:8000'))).toMatchObject({
      about: 'exit',
      says: `it leaves the node by ${outside.uplink}`,
    })
    expect(await connects(place(client), '192.0.2.2', 8000)).toBe(true)
  })
})

const hostEnd = ({ result }: Added): string =>
  result.interfaces.find(({ name }: { name: string }) => name.startsWith('veth')).name

describe('a packet that ends, as a real one does:', () => {
  test.each([
    {
      name: 'by a policy of iptables',
      make: 'iptables-nft -P FORWARD DROP',
      mend: 'iptables-nft -P FORWARD ACCEPT',
      about: 'filter',
      says: 'dropped in forward',
    },
    {
      name: 'by a rule of iptables for a port',
      make: 'iptables-nft -I FORWARD -p tcp --dport 80 -m conntrack --ctstate NEW -j REJECT',
      mend: 'iptables-nft -D FORWARD 1',
      about: 'filter',
      says: 'rejected in forward',
    },
    {
      name: 'by a rule of the older iptables',
      make: 'iptables-legacy -A FORWARD -s 192.0.2.0/24 -o br-+ -p tcp -m multiport --dports 22,80:90 -j DROP',
      mend: 'iptables-legacy -F FORWARD',
      about: 'filter',
      says: 'dropped in forward',
    },
    {
      name: 'by a chain of the older iptables for what is new',
      make: 'iptables-legacy -N WALL && iptables-legacy -A WALL -m conntrack --ctstate ESTABLISHED -j RETURN && iptables-legacy -A WALL -j REJECT && iptables-legacy -A FORWARD -g WALL',
      mend: 'iptables-legacy -F FORWARD && iptables-legacy -F WALL && iptables-legacy -X WALL',
      about: 'filter',
      says: 'rejected in forward',
    },
    {
      name: 'by a set of nftables',
      make: 'nft "add table inet wall { set bad { type ipv4_addr . inet_service; flags interval; elements = { 10.31.0.0/16 . 70-90 }; }; chain forward { type filter hook forward priority 10; ip daddr . tcp dport @bad counter drop comment \\"no web\\"; }; }"',
      mend: 'nft delete table inet wall',
      about: 'filter',
      says: 'dropped in forward',
    },
    {
      name: 'by a map of verdicts',
      make: 'nft "add table ip wall { chain forward { type filter hook forward priority 10; tcp dport vmap { 22: accept, 80-88: drop }; }; }"',
      mend: 'nft delete table ip wall',
      about: 'filter',
      says: 'dropped in forward',
    },
    {
      name: 'where the host does not forward',
      make: 'sysctl -qw net.ipv4.ip_forward=0',
      mend: 'sysctl -qw net.ipv4.ip_forward=1',
      about: 'sysctl',
      says: 'net.ipv4.ip_forward is 0',
    },
    {
      name: 'at a host end that is down',
      make: () => `ip link set ${hostEnd(web)} down`,
      mend: () => `ip link set ${hostEnd(web)} up`,
      about: 'link',
      says: 'is down',
    },
    {
      name: 'at a bridge that has lost its port',
      make: () => `ip link set ${hostEnd(web)} nomaster`,
      mend: () => `ip link set ${hostEnd(web)} master br-ours`,
      about: 'bridge',
      says: 'no link on br-ours has 10.31.0.2',
    },
    {
      name: 'in a container without a way back',
      make: () => `nsenter --net=${web.netns} ip route delete default`,
      mend: () => `nsenter --net=${web.netns} ip route add default via 10.31.0.1`,
      about: 'route',
      says: 'no route back',
    },
    {
      name: 'where an element has been deleted, on the host itself',
      make: "nft delete element ip catena port_address '{ tcp . 8080 }'",
      mend: "nft add element ip catena port_address '{ tcp . 8080 : 10.31.0.2 }'",
      about: 'listener',
      says: 'nothing there listens on 8080/tcp',
    },
  ])('$name', async ({ make, mend, about, says }) => {
    const command = (given: string | (() => string)) => sh(typeof given === 'string' ? given : given())
    command(make)
    try {
      const way = path(undefined, ':8080')
      expect(last(way)).toMatchObject({ about, outcome: 'stop', says: expect.stringContaining(says) })
      expect(last(way)?.commands?.length).toBeGreaterThan(0)
      expect(way.reaches).toBe('no')
      expect(await connects(outside, UPLINK, 8080)).toBe(false)
    } finally {
      command(mend)
    }
    expect(path(undefined, ':8080').reaches).toBe('yes')
  })

  test('but rules of the older iptables that are for others let it through', async () => {
    sh(
      'iptables-legacy -A FORWARD -s 192.0.2.99 -j DROP; iptables-legacy -A FORWARD ! -p tcp -j DROP; iptables-legacy -A FORWARD -i lo+ -j DROP; iptables-legacy -t nat -A PREROUTING -p tcp --dport 9 -j DNAT --to-destination 127.0.0.9',
    )
    try {
      expect(path(undefined, ':8080').reaches).toBe('yes')
      expect(await connects(outside, UPLINK, 8080)).toBe(true)
    } finally {
      sh('iptables-legacy -F FORWARD; iptables-legacy -t nat -F PREROUTING')
    }
  })

  test('in a container that guards itself', async () => {
    sh(
      `nsenter --net=${web.netns} nft "add table inet own { chain input { type filter hook input priority 0; policy drop; tcp dport 22 accept; }; }"`,
    )
    try {
      const way = path(undefined, ':8080')
      expect(last(way)).toMatchObject({
        place: 'web',
        about: 'filter',
        says: 'dropped in input',
        by: { table: 'own' },
      })
      expect(await connects(outside, UPLINK, 8080)).toBe(false)
    } finally {
      sh(`nsenter --net=${web.netns} nft delete table inet own`)
    }
  })

  test('in a container where nothing listens', async () => {
    const way = path('web', 'client:81')
    expect(last(way)).toMatchObject({ about: 'listener', outcome: 'stop', place: 'client' })
    expect(await connects(place(web), client.result.ips[0].address.split('/')[0], 81)).toBe(false)
  })
})

test('a rule that matches by what is not known here is said to be in doubt', () => {
  sh(
    'nft "add table inet wall { chain forward { type filter hook forward priority 10; meta cpu 0 drop; }; }"',
  )
  try {
    expect(path(undefined, ':8080').reaches).toBe('unknown')
  } finally {
    sh('nft delete table inet wall')
  }
})

test('a probe is one real packet, which is seen as far as it gets', () => {
  const ask = () => {
    const model = seen()
    const { origin, packet } = questionFor(model, 'client', 'elsewhere:80')
    return probe(model, walk(model, readRuleset(), { origin, packet }), origin)
  }
  expect(ask()).toMatchObject({ isAnswered: true, says: 'the packet was seen all the way, and was answered' })
  sh(
    'nft "add table inet wall { chain postrouting { type filter hook postrouting priority 10; tcp dport 80 drop; }; }"',
  )
  try {
    const { sights, isAnswered } = ask()
    expect(isAnswered).toBe(false)
    expect(sights.at(0)).toMatchObject({ place: 'client', link: 'eth0', isSeen: true })
  } finally {
    sh('nft delete table inet wall')
  }
})

test.each([
  { text: ':8080', place: { host: '', port: 8080 } },
  { text: '10.22.0.7:80', place: { host: '10.22.0.7', port: 80 } },
  { text: '[fd00::1]:53/udp', place: { host: 'fd00::1', port: 53, protocol: 'udp' } },
  { text: 'fd00::1', place: { host: 'fd00::1' } },
  { text: 'web', place: { host: 'web' } },
  { text: 'default/web:80', place: { host: 'default/web', port: 80 } },
])('$text is a place', ({ text, place: expected }) => {
  expect(parsePlace(text)).toMatchObject(expected)
})

test.each(['', ':', ':0', ':70000', 'a b'])('%p is no place', text => {
  expect(() => parsePlace(text)).toThrow('is no place')
})

test('the command says where a packet ends, with an exit status for scripts', () => {
  const catena = (...words: string[]) => {
    const { exitCode, stdout } = Bun.spawnSync([ourExecutable('catena'), 'path', ...words], {
      env: { PATH: process.env.PATH },
    })
    return { status: exitCode, json: JSON.parse(stdout.toString()) }
  }
  expect(catena(':8080')).toMatchObject({ status: 0, json: { version: 1, reaches: 'yes' } })
  expect(catena('web', 'client:81')).toMatchObject({ status: 1, json: { reaches: 'no' } })
  expect(catena('absent', 'web')).toMatchObject({ status: 1, json: { msg: 'no container is called absent' } })
})
