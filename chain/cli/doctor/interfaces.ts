/** What keeps one container from its network although its runtime takes it for attached. Pure. */
import { isIpv6 } from '../../ip/family.ts'
import { cachedResultOf } from '../../observe/attachments.ts'
import { pluginsIn } from '../../observe/files.ts'
import type { Attachment, NodeModel } from '../../observe/model.ts'
import type { Finding } from '../finding.ts'

/** Something that is wrong and not a leftover: a person has to mend it, by the commands. */
export function trouble(of: {
  kind: string
  says: string
  why: string
  evidence: readonly string[]
  commands: readonly string[]
  level?: 'problem' | 'notice'
}): Finding {
  return { about: 'network', level: 'problem', ...of }
}

/** The attachments that a runtime knows and that are there, or half of them. */
export const cachedOf = ({ attachments }: NodeModel) =>
  attachments.filter(({ cache, label }) => cache && label !== 'orphan')

export function interfaces(node: NodeModel): Finding[] {
  return cachedOf(node).flatMap(attachment => [
    ...missing(attachment),
    ...down(attachment),
    ...unplugged(attachment, node),
    ...disagreeing(attachment),
    ...withoutRoute(attachment, node),
    ...tooLarge(attachment, node),
  ])
}

const inside = ({ netns = '' }: Attachment, command: string) => `nsenter --net=${netns} ${command}`

/** "eth0 of web", as every sentence begins. */
const called = ({ ifname, name }: Attachment) => `${ifname} of ${name}`

function missing(attachment: Attachment): Finding[] {
  const { link, namespace, network, netns, containerId, evidence, cache } = attachment
  if (link || !namespace || !cache) return []
  const again = `${network} ${netns} --container-id ${containerId}`
  return [
    trouble({
      kind: 'missing-interface',
      says: `${called(attachment)} is gone, and its namespace is there`,
      why: 'the container has no network, and its runtime does not notice',
      evidence: [`${cache.path} has its result`, ...evidence],
      commands: [`catena del ${again}`, `catena add ${again}`],
    }),
  ]
}

function down(attachment: Attachment): Finding[] {
  const { link, host } = attachment
  const of = (name: string, command: string) =>
    trouble({
      kind: 'interface-down',
      says: `${called(attachment)} carries nothing: ${name} is down`,
      why: 'whoever sends to it waits in vain',
      evidence: [`${name} has no flag UP`],
      commands: [command],
    })
  if (link && !link.up) return [of(link.name, inside(attachment, `ip link set ${link.name} up`))]
  return host && !host.up ? [of(host.name, `ip link set ${host.name} up`)] : []
}

/** A port that somebody has taken from its bridge, as a network manager does when it restarts. */
function unplugged(attachment: Attachment, { host }: NodeModel): Finding[] {
  const { cache, host: end } = attachment
  const plugin = pluginsIn(cache?.attachment.configuration ?? '').find(({ type }) => type === 'bridge')
  if (!plugin || end?.kind !== 'veth') return []
  const bridge = String(plugin.bridge || 'cni0')
  const master = host.links.find(({ index }) => index === end.master)?.name
  if (master === bridge) return []
  const isThere = host.links.some(({ name }) => name === bridge)
  return [
    trouble({
      kind: 'unplugged-port',
      says: `${end.name}, the host end of ${called(attachment)}, is on ${master ? `bridge ${master}` : 'no bridge'}`,
      why: `the container hears nothing of ${bridge}, and is not heard there`,
      evidence: [`the configuration says ${bridge}`, `${end.name} has ${master ?? 'no'} master`],
      commands: isThere
        ? [`ip link set ${end.name} master ${bridge}`]
        : [
            `ip link add ${bridge} type bridge; ip link set ${bridge} up; ip link set ${end.name} master ${bridge}`,
          ],
    }),
  ]
}

function disagreeing(attachment: Attachment): Finding[] {
  return attachment.disagreements
    .filter(({ about }) => about === 'addresses')
    .map(({ says }) => {
      const [cached, live] = says.map(({ value }) => value.split(', '))
      const missing = cached?.filter(address => !live?.includes(address)) ?? []
      return trouble({
        kind: 'missing-address',
        says: `${called(attachment)} has not its address ${missing.join(', ')}`,
        why: 'its runtime tells everybody that address, and published ports lead there',
        evidence: says.map(({ source, value }) => `${source}: ${value}`),
        commands: missing.map(address =>
          inside(attachment, `ip address add ${address} dev ${attachment.ifname}`),
        ),
      })
    })
}

function withoutRoute(attachment: Attachment, { namespaces }: NodeModel): Finding[] {
  const { cache, link, namespace, ifname } = attachment
  const stack = namespaces.find(({ identity }) => identity === namespace)?.stack
  const result = cache && cachedResultOf(cache.attachment)
  if (!link?.up || !stack || !result) return []
  return result.routes
    .filter(({ dst }) => dst === '0.0.0.0/0' || dst === '::/0')
    .filter(({ dst }) => {
      const isWanted = dst === '::/0'
      return !stack.routes.some(
        ({ destination, prefixLength }) => prefixLength === 0 && isIpv6(destination) === isWanted,
      )
    })
    .map(({ dst, gw }) => {
      const family = dst === '::/0' ? ' -6' : ''
      const gateway =
        gw ?? result.ips.find(({ address }) => isIpv6(address) === (dst === '::/0'))?.gateway ?? ''
      return trouble({
        kind: 'missing-route',
        says: `${called(attachment)} has no default route${family ? ' for IPv6' : ''}`,
        why: 'the container reaches its own network alone',
        evidence: [
          `the cache has ${dst}${gw ? ` via ${gw}` : ''}`,
          'the main table in the container has none',
        ],
        commands: [inside(attachment, `ip${family} route add default via ${gateway} dev ${ifname}`)],
      })
    })
}

/** A veth pair drops what is larger than its other end takes; past the host, whoever sends is told, if ICMP is not filtered. */
function tooLarge(attachment: Attachment, { host: stack }: NodeModel): Finding[] {
  const { link, host } = attachment
  if (!link || host?.kind !== 'veth') return []
  if (link.mtu !== host.mtu) {
    const [small, large] = link.mtu < host.mtu ? [link, host] : [host, link]
    return [
      trouble({
        kind: 'mtu-mismatch',
        says: `the two ends of ${called(attachment)} do not take the same size`,
        why: `what is larger than ${small.mtu} bytes is dropped without a word: small requests work, and large answers hang`,
        evidence: [
          `${link.name} in the container has MTU ${link.mtu}`,
          `${host.name} on the host has ${host.mtu}`,
        ],
        commands:
          large === host
            ? [`ip link set ${host.name} mtu ${small.mtu}`]
            : [inside(attachment, `ip link set ${link.name} mtu ${small.mtu}`)],
      }),
    ]
  }
  const way = stack.routes.find(({ prefixLength }) => prefixLength === 0)
  const uplink = stack.links.find(({ index }) => index === way?.link)
  if (!uplink || uplink.mtu >= link.mtu) return []
  return [
    trouble({
      kind: 'mtu-too-large',
      level: 'notice',
      says: `${called(attachment)} sends packets that ${uplink.name} cannot take`,
      why: 'where somebody filters ICMP, large answers hang',
      evidence: [
        `MTU ${link.mtu} in the container`,
        `MTU ${uplink.mtu} of ${uplink.name}, by which the default route goes`,
      ],
      commands: [
        inside(attachment, `ip link set ${link.name} mtu ${uplink.mtu}`),
        `ip link set ${host.name} mtu ${uplink.mtu}`,
      ],
    }),
  ]
}
