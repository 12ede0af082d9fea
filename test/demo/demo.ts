/**
 * The demonstration: two containers joined through demo.conflist by the compiled plugins, real requests between them and to
 * a published port, a check that finds what is broken by hand, and nothing left behind. test/demo/run.sh gives it a host of
 * its own.
 */
import { drawNetwork, formatMilliseconds, renderError, renderStep, styleFor } from '../../chain/cli/render.ts'
import { listAddresses, removeAddress } from '../../chain/linux/netlink/address.ts'
import { removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { toCniError } from '../../chain/protocol/error.ts'
import { parseResult, type Result } from '../../chain/protocol/result.ts'
import {
  type Attachment,
  addNetworkList,
  checkNetworkList,
  delNetworkList,
  parseNetworkList,
  type RuntimeOptions,
} from '../../chain/runtime/network.ts'
import { getHttp, serveHttp } from '../fixtures/http.ts'
import { connect, freshNamespace, hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'

const style = styleFor(Boolean(process.stdout.isTTY), process.env)
const say = (text = '') => console.log(text)
const list = parseNetworkList(await Bun.file(`${import.meta.dir}/demo.conflist`).text())
const options: RuntimeOptions = {
  path: [`${import.meta.dir}/../../dist`],
  onStep: step => say(`  ${renderStep(step, style)}`),
}
const PUBLISHED = { hostPort: 8080, containerPort: 80, protocol: 'tcp' }

let steps = 0

/** One step: what it is, what it does, how long it took. */
async function step<T>(title: string, body: () => Promise<T> | T): Promise<T> {
  say()
  say(style.bold(`${++steps}. ${title}`))
  const started = performance.now()
  const value = await body()
  say(style.dim(`  ${formatMilliseconds(performance.now() - started)}`))
  return value
}

function attachmentFor(namespace: Namespace, name: string, ports: object[] = []): Attachment {
  return {
    containerId: name,
    netns: namespace.path,
    ifname: 'eth0',
    ...(ports.length ? { capabilityArgs: { portMappings: ports } } : {}),
  }
}

async function add(attachment: Attachment): Promise<Result> {
  return parseResult(await addNetworkList(list, attachment, { ...options, undo: true }), list.cniVersion)
}

async function ask(from: Namespace, who: string, address: string, port: number): Promise<void> {
  const answer = await getHttp(from, { address, port })
  say(`  ${style.good('✓')} ${who} → http://${address}:${port}   ${style.accent(answer)}`)
}

function containerIn(result: Result, { name, ports }: { name: string; ports: string[] }) {
  return {
    name,
    interface: 'eth0',
    hostEnd: result.interfaces[1]?.name ?? '',
    addresses: result.ips.map(({ address }) => address),
    ports,
  }
}

const addressOf = (result: Result) => result.ips[0]?.address.split('/')[0] ?? ''

async function demonstrate(host: Namespace): Promise<number> {
  using outside = freshNamespace('outside')
  using one = freshNamespace('web')
  using other = freshNamespace('client')
  setLink(host.route, 'lo', { up: true })
  connect(
    { namespace: host, name: 'uplink', addresses: ['192.0.2.1/24'] },
    { namespace: outside, name: 'eth0', addresses: ['192.0.2.2/24'] },
  )
  const before = snapshot()
  const web = attachmentFor(one, 'web', [PUBLISHED])
  const client = attachmentFor(other, 'client')

  const first = await step('Add container "web", its port 80 published as 8080 of the host', () => add(web))
  const second = await step('Add container "client" to the same network', () => add(client))

  await step('The network', () => {
    const picture = drawNetwork(
      {
        host: 'host',
        uplinks: ['uplink 192.0.2.1/24 — outside 192.0.2.2'],
        bridge: { name: 'cni0', addresses: ['10.22.0.1/16', 'fd00:22::1/64'] },
        containers: [
          containerIn(first, { name: 'web', ports: ['host:8080 → 80/tcp'] }),
          containerIn(second, { name: 'client', ports: [] }),
        ],
      },
      style,
    )
    say(picture.replace(/^/gm, '  '))
  })

  using _server = serveHttp(one, { port: 80, answer: 'hello from web' })
  await step('Real HTTP requests', async () => {
    await ask(other, 'client        ', addressOf(first), 80)
    await ask(outside, 'outside       ', '192.0.2.1', 8080)
    await ask(host, 'host          ', '127.0.0.1', 8080)
  })

  await step('CHECK: is everything as ADD left it?', () => checkNetworkList(list, web, options))

  await step('Break something by hand: take the address from web, and CHECK again', async () => {
    const link = one.link('eth0').index
    const [address] = listAddresses(one.route, link)
    if (address) removeAddress(one.route, address)
    await checkNetworkList(list, web, options).then(
      () => {
        throw new Error('CHECK did not notice')
      },
      thrown => say(`  ${renderError(toCniError(thrown), style)}`),
    )
  })

  await step('Delete both, and one of them twice', async () => {
    for (const attachment of [client, web, web]) await delNetworkList(list, attachment, options)
  })

  return step('What is left?', () => {
    removeLink(host.route, 'cni0') // the network's own, for the containers to come: not a container's
    const isMemory = (line: string) => line.includes('/last_reserved_ip.') // where round robin goes on
    const left = difference(before, snapshot()).added.filter(line => !isMemory(line))
    for (const line of left) say(`  ${style.bad('✗')} ${line}`)
    if (left.length === 0)
      say(`  ${style.good('✓')} nothing: no link, no address, no route, no rule, no reservation`)
    return left.length === 0 ? 0 : 1
  })
}

say(style.bold('Catena: bridge → tuning → portmap, on a host made for it'))
using host = hostNamespace()
process.exitCode = await demonstrate(host)
