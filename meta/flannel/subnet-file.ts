/** subnet.env: what flanneld says of the node's share of the network. Knows the file's lines, not who needs them. */

import { familyOf } from '../../chain/ip/family.ts'
import { networkText } from '../../chain/ip/text.ts'

export interface Subnets {
  /** The whole networks of both families, IPv4 first: what is reached through flannel. */
  networks: string[]
  /** This node's part of them, one of a family, IPv4 first. */
  subnets: string[]
  mtu: number
  /** flanneld masquerades what leaves the network, so that the delegate need not. */
  masqueraded: boolean
}

/** The file's content is not as flanneld writes it; the message names the line. */
export class SubnetFileError extends Error {}

const keys = [
  'FLANNEL_NETWORK',
  'FLANNEL_SUBNET',
  'FLANNEL_IPV6_NETWORK',
  'FLANNEL_IPV6_SUBNET',
  'FLANNEL_MTU',
  'FLANNEL_IPMASQ',
] as const

type Key = (typeof keys)[number]

/** A value and where it stands, for the message about it. */
interface Entry {
  key: Key
  value: string
  line: number
}

type Entries = Partial<Record<Key, Entry>>

/** Reads the file's text. Throws SubnetFileError for a broken line, and for all that is missing, told at once. */
export function parseSubnets(text: string): Subnets {
  const entries = readLines(text)
  const missing = missingFrom(entries)
  if (missing.length > 0) throw new SubnetFileError(`is missing ${missing.join(', ')}`)
  const { FLANNEL_MTU, FLANNEL_IPMASQ } = entries
  return {
    networks: [
      ...new Set([...cidrsIn(entries.FLANNEL_NETWORK, 4), ...cidrsIn(entries.FLANNEL_IPV6_NETWORK, 6)]),
    ],
    subnets: [...oneCidr(entries.FLANNEL_SUBNET, 4), ...oneCidr(entries.FLANNEL_IPV6_SUBNET, 6)],
    mtu: FLANNEL_MTU ? mtuIn(FLANNEL_MTU) : 0,
    masqueraded: FLANNEL_IPMASQ !== undefined && booleanIn(FLANNEL_IPMASQ),
  }
}

/** Of a repeated key the last one counts; what else stands in the file is not ours. */
function readLines(text: string): Entries {
  const entries: Entries = {}
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim()
    const equals = line.indexOf('=')
    const name = equals < 0 ? line : line.slice(0, equals)
    const key = keys.find(each => each === name)
    if (!key) continue
    if (equals < 0) throw new SubnetFileError(`line ${index + 1}: ${key} has no value`)
    entries[key] = { key, value: line.slice(equals + 1), line: index + 1 }
  }
  return entries
}

/** A family needs both of its lines: an address without a route to the network reaches no other node. */
function missingFrom(entries: Entries): string[] {
  const hasIpv4 = entries.FLANNEL_NETWORK ?? entries.FLANNEL_SUBNET
  const hasIpv6 = entries.FLANNEL_IPV6_NETWORK ?? entries.FLANNEL_IPV6_SUBNET
  const needed: Key[] = [
    ...(hasIpv4 || !hasIpv6 ? (['FLANNEL_NETWORK', 'FLANNEL_SUBNET'] as const) : []),
    ...(hasIpv6 ? (['FLANNEL_IPV6_NETWORK', 'FLANNEL_IPV6_SUBNET'] as const) : []),
    'FLANNEL_MTU',
    'FLANNEL_IPMASQ',
  ]
  return needed.filter(key => !entries[key])
}

function broken({ key, value, line }: Entry, requirement: string): SubnetFileError {
  return new SubnetFileError(`line ${line}: ${key} must be ${requirement}: got ${JSON.stringify(value)}`)
}

function cidrsIn(entry: Entry | undefined, family: 4 | 6): string[] {
  if (!entry) return []
  return entry.value.split(',').map(text => {
    const network = networkText(text.trim())
    if (network === undefined || familyOf(network) !== family)
      throw broken(entry, `IPv${family} networks with prefix`)
    return network
  })
}

function oneCidr(entry: Entry | undefined, family: 4 | 6): string[] {
  const found = cidrsIn(entry, family)
  if (entry && found.length !== 1) throw broken(entry, `one IPv${family} network with prefix`)
  return found
}

const GREATEST_MTU = 0x7fffffff // the kernel's: an int

function mtuIn(entry: Entry): number {
  const mtu = /^\d{1,10}$/.test(entry.value) ? Number(entry.value) : Number.NaN
  if (!(mtu <= GREATEST_MTU)) throw broken(entry, `a number from 0 to ${GREATEST_MTU}`)
  return mtu
}

function booleanIn(entry: Entry): boolean {
  if (entry.value !== 'true' && entry.value !== 'false') throw broken(entry, 'true or false')
  return entry.value === 'true'
}
