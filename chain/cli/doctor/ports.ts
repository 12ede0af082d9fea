/** Published ports that lead elsewhere than they say, or nowhere; and plugins of several versions in one folder. */
import { listFolder } from '../../linux/files.ts'
import { status } from '../../linux/libc/status.ts'
import { pluginsIn } from '../../observe/files.ts'
import type { Attachment, NodeModel, Port } from '../../observe/model.ts'
import { processesWith } from '../../observe/processes.ts'
import { type Listener, readListeners } from '../../observe/stack.ts'
import type { Node } from '../companions.ts'
import type { Finding } from '../finding.ts'
import { cachedOf, trouble } from './interfaces.ts'

export function ports(node: NodeModel): Finding[] {
  return [...twice(node), ...shadowed(node), ...withoutRules(node)]
}

const textOf = ({ protocol, hostAddress, hostPort }: Port) =>
  `${hostAddress ? `${hostAddress.includes(':') ? `[${hostAddress}]` : hostAddress}:` : ''}${hostPort}/${protocol}`

const published = (node: NodeModel) =>
  cachedOf(node).flatMap(attachment =>
    attachment.ports.filter(({ hostPort }) => hostPort > 0).map(port => ({ attachment, port })),
  )

const meet = (one: Port, other: Port) =>
  one.hostPort === other.hostPort &&
  one.protocol === other.protocol &&
  (!one.hostAddress || !other.hostAddress || one.hostAddress === other.hostAddress)

/** Several interfaces of one container are handed one list: that is no conflict. */
function twice(node: NodeModel): Finding[] {
  const all = published(node)
  return all.flatMap(({ attachment, port }, at) => {
    const rival = all
      .slice(at + 1)
      .find(other => other.attachment.containerId !== attachment.containerId && meet(port, other.port))
    if (!rival) return []
    const { network, netns, containerId } = rival.attachment
    return [
      trouble({
        kind: 'port-twice',
        says: `host port ${textOf(port)} is published by ${attachment.name} and by ${rival.attachment.name}`,
        why: 'the rule that comes first wins, and the other container is never reached',
        evidence: [describe(attachment, port), describe(rival.attachment, rival.port)],
        commands: [`catena del ${network} ${netns} --container-id ${containerId}`],
      }),
    ]
  })
}

const describe = ({ name, network }: Attachment, port: Port) =>
  `${name} on network ${network}: ${textOf(port)} to its port ${port.containerPort}`

const hearsPort = ({ protocol, address, port }: Listener, sought: Port) =>
  protocol === sought.protocol &&
  port === sought.hostPort &&
  (address === '0.0.0.0' || address === '::' || !sought.hostAddress || sought.hostAddress === address)

/** A container runtime holds a published port by a socket that it does not serve, so that no other takes it: that is meant. */
const RESERVING = /^(conmon|podman|rootlessport|slirp4netns|docker-proxy|containerd|kubelet|crio|k3s.*)$/

function shadowed(node: NodeModel): Finding[] {
  const all = published(node)
  const listeners = all.length > 0 ? readListeners() : []
  return all.flatMap(({ attachment, port }) => {
    const listener = listeners.find(each => hearsPort(each, port))
    if (!listener) return []
    const processes = processesWith(listener.inode)
    if (processes.some(({ name }) => RESERVING.test(name))) return []
    const who = processes.map(({ name, id }) => `${name} (process ${id})`).join(', ') || 'a process'
    return [
      trouble({
        kind: 'port-shadowed',
        says: `${who} listens on host port ${textOf(port)}, which ${attachment.name} publishes`,
        why: 'whoever connects reaches the container: the process on the host is never asked, from nowhere',
        evidence: [
          describe(attachment, port),
          `a ${listener.protocol} socket of the host is bound to ${listener.address}:${listener.port}`,
        ],
        commands: [processes[0] ? `kill ${processes[0].id}` : `ss -lnp 'sport = :${port.hostPort}'`],
      }),
    ]
  })
}

/** What an attachment's configuration asks packet filters for, and they have not. */
export function lackingRules(
  node: NodeModel,
  { cache, containerId, addresses, ports }: Attachment,
): string[] {
  const plugins = pluginsIn(cache?.attachment.configuration ?? '')
  const own = node.filters.filter(
    object =>
      object.containerId === containerId ||
      object.addresses.some(one => addresses.some(each => each.startsWith(`${one}/`))),
  )
  return [
    ...(plugins.some(({ ipMasq }) => ipMasq === true) &&
    !own.some(({ place }) => /^(masquerade|waiting_masquerade|masq_checks|CNI-(?!DN))/.test(place))
      ? ['masquerade']
      : []),
    ...(ports.length > 0 &&
    plugins.some(({ type }) => type === 'portmap') &&
    !own.some(({ place }) => /^(port_|hostip_|hostports|hostip_hostports|CNI-DN-)/.test(place))
      ? ['published ports']
      : []),
  ]
}

/** After `nft flush ruleset`, or a firewall's reload. */
function withoutRules(node: NodeModel): Finding[] {
  return cachedOf(node).flatMap(attachment => {
    const { network, name } = attachment
    const lacking = lackingRules(node, attachment)
    if (lacking.length === 0) return []
    return [
      trouble({
        kind: 'missing-rules',
        says: `the rules of ${name} for ${lacking.join(' and ')} are gone`,
        why: 'the container is alive, and what it was promised is not: somebody has emptied the packet filter',
        evidence: [
          `the configuration of network ${network} asks for them`,
          'neither nftables nor iptables has any for it',
        ],
        commands: [`catena restore ${network}`],
      }),
    ]
  })
}

/** One multi-call executable under all names is one version; files of ours beside it that are others are another one's. */
export function mixed({ root, into }: Node, names: readonly string[]): Finding[] {
  const folder = `${root}${into}`
  const present = new Set(listFolder(folder) ?? [])
  const files = new Map<string, { names: string[]; size: number }>()
  for (const name of ['catena', ...names].filter(each => present.has(each))) {
    const found = status(`${folder}/${name}`)
    if (!found) continue
    const key = `${found.device} ${found.inode}`
    const known = files.get(key) ?? { names: [], size: found.size }
    files.set(key, { ...known, names: [...known.names, name] })
  }
  const ours = [...files.values()].find(file => file.names.includes('catena'))
  if (!ours) return []
  const others = [...files.values()].filter(file => file !== ours && !isCopy(folder, ours, file))
  const isOlder = (size: number) => size > ours.size / 2 // the Go plugins are 4 MB each, ours is one of many
  const older = others.filter(({ size }) => isOlder(size)).flatMap(file => file.names)
  if (older.length === 0) return []
  return [
    trouble({
      kind: 'mixed-versions',
      says: `${older.join(', ')} in ${folder} are of another version than catena`,
      why: 'what one version writes, another reads: mixed, a chain works until it meets something new',
      evidence: [`catena is one file of ${ours.size} bytes`, `they are another one`],
      commands: [`catena install --into ${into}`],
    }),
  ]
}

function isCopy(
  folder: string,
  one: { names: string[]; size: number },
  other: { names: string[]; size: number },
): boolean {
  if (one.size !== other.size) return false
  const digest = (name: string) => {
    const hash = new Bun.CryptoHasher('sha256')
    return hash.update(Bun.mmap(`${folder}/${name}`)).digest('hex')
  }
  return digest(one.names[0] ?? '') === digest(other.names[0] ?? '')
}
