/**
 * The demonstration: two containers joined through demo.conflist by the compiled plugins, real requests between them and to
 * a published port, a check that finds what is broken by hand, a doctor that mends it, the story of it all, and nothing left behind. test/demo/run.sh gives it a host of
 * its own.
 */
import { describeStory } from '../../chain/cli/explain/print.ts'
import { storyOf } from '../../chain/cli/explain/story.ts'
import { drawNetwork } from '../../chain/cli/picture.ts'
import { formatMilliseconds, renderError, renderStep, styleFor } from '../../chain/cli/render.ts'
import { topologyOf } from '../../chain/cli/topology.ts'
import { removeAddress } from '../../chain/linux/netlink/address.ts'
import { removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { toCniError } from '../../chain/protocol/error.ts'
import {
  addNetworkList,
  checkNetworkList,
  delNetworkList,
  listAttachments,
  parseNetworkList,
  parseResult,
  type Result,
  type RuntimeAttachment,
  type RuntimeOptions,
} from '../../chain/runtime/network.ts'
import { getHttp, serveHttp } from '../fixtures/http.ts'
import { connect, freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { difference, type Snapshot, snapshot } from '../fixtures/snapshot.ts'

const style = styleFor({ isTerminal: Boolean(process.stdout.isTTY), env: process.env })
const say = (text = '') => console.log(text)
const good = (text: string) => say(`   ${style.good('✓')} ${text}`)
const list = parseNetworkList(await Bun.file(`${import.meta.dir}/demo.conflist`).text())
const options: RuntimeOptions = {
  path: [process.argv[2] ?? `${import.meta.dir}/../../dist`],
  onStep: step => say(`   ${renderStep(step, style)}`),
}
const PUBLISHED = { hostPort: 8080, containerPort: 80, protocol: 'tcp' }
const HOST = '192.0.2.1' // RFC 5737, documentation
const OUTSIDE = '192.0.2.2'

let steps = 0

/** One step: what it does, and how long it took. */
async function step<T>(title: string, body: () => Promise<T> | T): Promise<T> {
  say(`\n${style.bold(`${++steps}. ${title}`)}`)
  const started = performance.now()
  const value = await body()
  say(style.dim(`   took ${formatMilliseconds(performance.now() - started)}`))
  return value
}

function attachmentFor(namespace: Namespace, containerId: string, ports: object[] = []): RuntimeAttachment {
  const capabilityArgs = ports.length > 0 ? { portMappings: ports } : {}
  return { containerId, netns: namespace.path, ifname: 'eth0', capabilityArgs }
}

async function add(attachment: RuntimeAttachment): Promise<Result> {
  return parseResult(await addNetworkList(list, attachment, { ...options, undo: true }), list.cniVersion)
}

async function ask(who: string, from: Namespace, endpoint: { address: string; port: number }): Promise<void> {
  const answer = await getHttp(from, endpoint)
  const host = endpoint.address.includes(':') ? `[${endpoint.address}]` : endpoint.address
  const url = `http://${host}:${endpoint.port}/`
  good(`${who.padEnd(26)} ${style.accent(url.padEnd(28))} ${answer}`)
}

function draw(outside: Namespace): string {
  const uplink = {
    name: 'uplink',
    addresses: [`${HOST}/24`],
    peer: { name: 'outside', ifname: 'eth0', addresses: outside.addresses('eth0') },
  }
  const topology = topologyOf(list.name, listAttachments({ network: list.name }), [uplink])
  if (!topology) throw new Error('there is no network to draw')
  return drawNetwork(topology, style, process.stdout.columns || 100)
}

/** Takes the first address from a container's interface, as a hand or a daemon gone wild may. */
function breakByHand(container: Namespace, result: Result): string {
  const [address = '', length] = result.ips[0]?.address.split('/') ?? []
  const { index } = container.link('eth0')
  removeAddress(container.route, { link: index, address, prefixLength: Number(length) })
  return address
}

async function checkThatFails(attachment: RuntimeAttachment): Promise<void> {
  const thrown = await checkNetworkList(list, attachment, options).then(
    () => undefined,
    thrown => toCniError(thrown),
  )
  if (!thrown) throw new Error('CHECK did not notice')
  say(renderError(thrown, style).replace(/^/gm, '   '))
}

/** What `catena doctor` finds, each with the command that mends it, which is run. */
function mendByDoctor(): void {
  const { stdout } = Bun.spawnSync([`${options.path[0]}/catena`, 'doctor', '--state'])
  const { findings } = JSON.parse(stdout.toString()) as { findings: { says: string; commands: string[] }[] }
  if (findings.length === 0) throw new Error('doctor found nothing')
  for (const { says, commands } of findings) {
    say(`   ${style.bad('✗')} ${says}`)
    for (const command of commands) {
      say(`     ${style.accent(`$ ${command}`)}`)
      const { success, stderr } = Bun.spawnSync(['sh', '-c', command])
      if (!success) throw new Error(`${command}: ${stderr}`)
    }
  }
}

/** The bridge stays for containers to come, and so does the place where addresses go on: they are the network's, and go here. */
function whatIsLeft(host: Namespace, before: Snapshot): string[] {
  removeLink(host.route, 'cni0')
  return difference(before, snapshot()).added.filter(line => !line.includes('/last_reserved_ip.'))
}

function tellLeft(left: readonly string[]): number {
  for (const line of left) say(`   ${style.bad('✗')} ${line}`)
  if (left.length === 0) {
    for (const what of ['links', 'addresses', 'routes', 'nftables rules', 'reservations, caches, files']) {
      good(`no ${what}`)
    }
  }
  return left.length
}

async function requests(
  { host, outside, client }: Record<'host' | 'outside' | 'client', Namespace>,
  result: Result,
): Promise<void> {
  for (const { address } of result.ips) {
    await ask('client → web', client, { address: address.split('/')[0] ?? '', port: 80 })
  }
  await ask('outside → published port', outside, { address: HOST, port: 8080 })
  await ask('host → its own 127.0.0.1', host, { address: '127.0.0.1', port: 8080 })
  await ask('client → published port', client, { address: HOST, port: 8080 })
}

async function demonstrate(host: Namespace): Promise<number> {
  using outside = freshNamespace('outside')
  using web = freshNamespace('web')
  using client = freshNamespace('client')
  setLink(host.route, 'lo', { up: true })
  connect(
    { namespace: host, name: 'uplink', addresses: [`${HOST}/24`] },
    { namespace: outside, name: 'eth0', addresses: [`${OUTSIDE}/24`] },
  )
  const before = snapshot()
  const one = attachmentFor(web, 'web', [PUBLISHED])
  const other = attachmentFor(client, 'client')

  const result = await step('ADD container "web"; its port 80 is published as 8080 of the host', () =>
    add(one),
  )
  await step('ADD container "client" to the same network', () => add(other))
  await step('The network as it stands now', () => say(draw(outside).replace(/^/gm, '   ')))
  using _server = serveHttp(web, { port: 80, answer: 'Hello from web!' })
  await step('Real HTTP requests', () => requests({ host, outside, client }, result))
  await step('CHECK: is "web" as ADD left it?', () => checkNetworkList(list, one, options))
  await step('Something breaks: an address is taken from "web" by hand', () =>
    good(`${breakByHand(web, result)} is gone from eth0`),
  )
  await step('CHECK again: it says what is wrong', () => checkThatFails(one))
  await step('catena doctor says what to do, and it is done', mendByDoctor)
  await step('CHECK: all is well again', () => checkNetworkList(list, one, options))
  await step('catena explain: the story of "web"', () => {
    const story = describeStory(storyOf('web'), { style, width: 90, all: false })
    say(story.replace(/^/gm, '   '))
  })
  await step('DEL both containers', async () => {
    for (const attachment of [other, one]) await delNetworkList(list, attachment, options)
  })
  return step('Is anything left? The kernel is asked, and the disk', () => tellLeft(whatIsLeft(host, before)))
}

say(style.bold('Catena: bridge → tuning → portmap with host-local addresses, on a host made for it'))
say(
  style.dim(
    'Nothing of this machine is touched: network, processes and /run are private to the demonstration.',
  ),
)
const started = performance.now()
using host = hostNamespace()
const left = await demonstrate(host)
say(style.dim(`\nall of it in ${((performance.now() - started) / 1000).toFixed(2)} s`))
process.exitCode = left === 0 ? 0 : 1
