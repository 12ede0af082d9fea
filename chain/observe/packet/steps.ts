/** Steps of a packet's way: noted one after the other, and those that its filters have to say something about. */
import { isIpv6 } from '../../ip/family.ts'
import { isMulticast } from '../../ip/text.ts'
import type { Link } from '../../linux/netlink/link.ts'
import { ownershipIn } from '../filters.ts'
import type { Attachment, NodeModel } from '../model.ts'
import type { Stack } from '../stack.ts'
import type { Lookups } from './outcome.ts'
import type { Packet } from './packet.ts'
import { type Decision, type Hook, passHook, type Ruleset } from './ruleset.ts'

/** Where a packet comes from. */
export type Origin =
  | { kind: 'container'; attachment: Attachment }
  | { kind: 'host' }
  | { kind: 'outside'; source?: string }

export interface WayStep {
  /** "host", or a container's name. */
  place: string
  about: 'packet' | 'route' | 'link' | 'bridge' | 'translation' | 'filter' | 'sysctl' | 'listener' | 'exit'
  says: string
  outcome: 'on' | 'stop' | 'unknown'
  /** The rule or policy that decided, and whose it is. */
  by?: Decision & { owner?: string }
  /** What mends it, for a shell, where it stops. */
  commands?: string[]
}

export interface Way {
  reaches: 'yes' | 'no' | 'unknown'
  steps: WayStep[]
  /** Links that the packet goes over, in order, with the identity of the namespace ("host") that each is in. */
  links: { namespace: string; name: string; index: number }[]
  /** As it starts, and as it arrives. */
  first: Packet
  last: Packet
}

export interface Walking {
  node: NodeModel
  ruleset: Ruleset
  around: Omit<Lookups, 'find'>
  way: Way
  packet: Packet
}

/** Thrown to end the way at a step that has been noted. */
export class End extends Error {}

/** What rules ask that is not in a packet, as a namespace has it. */
export function lookupsOf(stack: Stack): Omit<Lookups, 'find'> {
  const own = new Set(stack.addresses.map(({ address }) => address))
  return {
    addressType(address) {
      if (own.has(address) || address.startsWith('127.')) return 2
      if (address === '255.255.255.255') return 3
      return isMulticast(address) ? 5 : 1
    },
    indexOf: name => stack.links.find(link => link.name === name)?.index ?? 0,
    ownAddress({ output, input, destination }) {
      const link = stack.links.find(({ name }) => name === (output ?? input))
      const found = stack.addresses.find(
        ({ link: index, address, scope }) =>
          index === link?.index && scope === 0 && isIpv6(address) === isIpv6(destination),
      )
      return found?.address ?? (isIpv6(destination) ? '::1' : '127.0.0.1')
    },
  }
}

/** A step that lets the packet go on, or of which one cannot tell. */
export function note({ way }: Walking, step: WayStep): void {
  way.steps.push(step)
}

/** The step that ends the way. */
export function stop(walking: Walking, step: Omit<WayStep, 'outcome'>): never {
  note(walking, { ...step, outcome: 'stop' })
  throw new End(step.says)
}

/** A link that the packet goes over: where a probe is looked for. */
export function over(
  { way }: Walking,
  namespace: string,
  { name, index }: Pick<Link, 'name' | 'index'>,
): void {
  way.links.push({ namespace, name, index })
}

/** The host's filter of frames, on a bridge. */
export function passFrames(walking: Walking, hook: Hook): void {
  pass(walking, { hook, isFrame: true, lead: 'frame: ' })
}

/** A packet filter: the host's, or that of a container's own namespace. */
interface Site {
  place: string
  ruleset: Ruleset
  around: Omit<Lookups, 'find'>
}

/** The host's packet filter, or another; `lead` is said before its words. */
export function passFilters(
  walking: Walking,
  hook: Hook,
  { lead = '', site }: { lead?: string; site?: Site } = {},
): void {
  pass(walking, { hook, isFrame: false, lead, ...(site ? { site } : {}) })
}

/** Each rule that said something is a step; those that only let it go on are told of as well, since somebody asks why it works. */
function pass(
  walking: Walking,
  { hook, isFrame, lead, site }: { hook: Hook; isFrame: boolean; lead: string; site?: Site },
): void {
  const { packet } = walking
  const { place, ruleset, around } = site ?? { place: 'host', ...walking }
  const { outcome, packet: after, decisions } = passHook(ruleset, { hook, isFrame }, { packet, around })
  for (const [at, decision] of decisions.entries()) {
    const isLast = at === decisions.length - 1
    const ends = isLast && outcome === 'dropped'
    const owner = ownershipIn(decision.element?.comment || decision.comment)
    const by = { ...decision, ...(owner.containerId ? { owner: owner.containerId } : {}) }
    const step = { place, by, ...wordsOf(decision, { lead, after }) }
    if (ends)
      stop(walking, {
        ...step,
        commands: [listing(decision)],
      })
    note(walking, { ...step, outcome: decision.isMatch === 'unknown' ? 'unknown' : 'on' })
  }
  walking.packet = after
}

function wordsOf(
  decision: Decision,
  { lead, after }: { lead: string; after: Packet },
): Pick<WayStep, 'about' | 'says'> {
  const { verdict, hook, isMatch } = decision
  const maybe = isMatch === 'unknown' ? 'perhaps ' : ''
  if (verdict.kind === 'translate') {
    const to =
      verdict.what === 'destination' || verdict.what === 'redirect'
        ? `${after.destination}:${after.destinationPort}`
        : after.source
    const what = {
      destination: 'its destination becomes',
      redirect: 'it is redirected to',
      source: 'its source becomes',
      masquerade: 'it is masqueraded as',
    }[verdict.what]
    return { about: 'translation', says: `${lead}${maybe}${what} ${to}` }
  }
  const words: Record<string, string> = {
    accept: 'accepted',
    drop: 'dropped',
    reject: 'rejected',
    queue: 'handed to a program',
  }
  return { about: 'filter', says: `${lead}${maybe}${words[verdict.kind] ?? verdict.kind} in ${hook}` }
}

/** The command that shows the chain that decided. */
function listing({ family, table, chain, isLegacy }: Decision): string {
  if (!isLegacy) return `nft -a list chain ${family} ${table} '${chain}'`
  return `${family === 'ip' ? 'iptables' : 'ip6tables'}-legacy -t ${table} -L ${chain} -n -v --line-numbers`
}
