/** What a link's routers have said, and until when it holds (RFC 4861, 6.3.4; RFC 4862, 5.5.3). Pure; times are milliseconds since the epoch. */

import { addressBytes, addressText } from '../../../chain/ip/bytes.ts'
import type { NetworkRoute } from '../link/ipv6.ts'
import { type AdvertisedPrefix, type Advertisement, type Preference, prefixText } from './advertisement.ts'

export interface Network {
  routers: { address: string; preference: Preference; until: number }[]
  prefixes: Prefix[]
  routes: { destination: string; router: string; preference: Preference; until: number }[]
  nameServers: Passing[]
  search: Passing[]
  mtu?: number
}

export interface Prefix extends Pick<AdvertisedPrefix, 'prefix' | 'length' | 'onLink' | 'autonomous'> {
  validUntil: number
  preferredUntil: number
}

interface Passing {
  value: string
  until: number
}

export const emptyNetwork: Network = { routers: [], prefixes: [], routes: [], nameServers: [], search: [] }

export const DEFAULT_ROUTE = '::/0'
/** More of a kind are not kept, as the kernel makes no more addresses (max_addresses): whoever sends them wants to fill memories. */
const MOST = 16
/** A lifetime is not shortened below this by an advertisement, which anybody on the link can send (RFC 4862, 5.5.3 e). */
const TWO_HOURS = 7_200_000
/** RFC 4862, 5.5.3 d: the identifier of an interface has 64 bits on every kind of link that there is. */
const PREFIX_LENGTH = 64

/** What is known after an advertisement. */
export function learn(network: Network, heard: Advertisement, now: number): Network {
  const end = (seconds: number) => now + seconds * 1000
  const { router, preference, lifetimeSeconds } = heard
  // what is over makes room: routers and prefixes may change many times in a container's life
  let { routers, prefixes, routes, nameServers, search } = unexpired(network, now)
  routers = put(routers, { address: router, preference, until: end(lifetimeSeconds) }, 'address')
  for (const each of heard.prefixes) {
    const known = prefixes.find(isSamePrefix(each))
    prefixes = [...prefixes.filter(other => other !== known), prefixAfter(known, each, now)].slice(0, MOST)
  }
  for (const { destination, preference, lifetimeSeconds } of heard.routes) {
    const other = routes.filter(known => known.destination !== destination || known.router !== router)
    routes = [...other, { destination, router, preference, until: end(lifetimeSeconds) }].slice(0, MOST)
  }
  for (const { value, lifetimeSeconds } of heard.nameServers)
    nameServers = put(nameServers, { value, until: end(lifetimeSeconds) }, 'value')
  for (const { value, lifetimeSeconds } of heard.search)
    search = put(search, { value, until: end(lifetimeSeconds) }, 'value')
  const mtu = heard.mtu ?? network.mtu
  const all = { routers, prefixes, routes, nameServers, search, ...(mtu === undefined ? {} : { mtu }) }
  return unexpired(all, now)
}

/** What is not over. */
function unexpired(network: Network, now: number): Network {
  const lasts = ({ until }: { until: number }) => until > now
  return {
    ...network,
    routers: network.routers.filter(lasts),
    prefixes: network.prefixes.filter(({ validUntil }) => validUntil > now),
    routes: network.routes.filter(lasts),
    nameServers: network.nameServers.filter(lasts),
    search: network.search.filter(lasts),
  }
}

/** Whether a route is among others. */
export function hasRoute(routes: readonly NetworkRoute[], { destination, router }: NetworkRoute): boolean {
  return routes.some(each => each.destination === destination && each.router === router)
}

/** Replaces the one of the same key where it stands, or adds it. */
function put<T, K extends keyof T>(all: T[], one: T, key: K): T[] {
  return all.some(each => each[key] === one[key])
    ? all.map(each => (each[key] === one[key] ? one : each))
    : [...all, one].slice(0, MOST)
}

function isSamePrefix({ prefix, length }: Pick<Prefix, 'prefix' | 'length'>) {
  return (other: Pick<Prefix, 'prefix' | 'length'>) => other.prefix === prefix && other.length === length
}

function prefixAfter(known: Prefix | undefined, heard: AdvertisedPrefix, now: number): Prefix {
  const { prefix, length, onLink, autonomous } = heard
  const advertised = now + heard.validSeconds * 1000
  const floor = known && Math.min(known.validUntil, now + TWO_HOURS)
  const validUntil = Math.max(advertised, floor ?? advertised)
  return {
    prefix,
    length,
    onLink,
    autonomous,
    validUntil,
    preferredUntil: now + heard.preferredSeconds * 1000,
  }
}

/** Prefixes that addresses can be made of now. */
export function autonomousPrefixes({ prefixes }: Network, now: number): Prefix[] {
  return prefixes.filter(
    ({ autonomous, length, preferredUntil }) =>
      autonomous && length === PREFIX_LENGTH && preferredUntil > now,
  )
}

/**
 * The address of an interface under a prefix. Its identifier is that of the link-local address, which the kernel made as the
 * link's addr_gen_mode says, and so that the links of one ipvlan master, who share a hardware address, have different ones.
 */
export function addressUnder({ prefix }: Pick<Prefix, 'prefix'>, linkLocal: string): string {
  return addressText(
    Buffer.concat([addressBytes(prefix).subarray(0, 8), addressBytes(linkLocal).subarray(8)]),
  )
}

/** The length of the prefix on the link that an address belongs to; 128 when no router says that it belongs to one. */
export function prefixLengthOf({ prefixes }: Network, address: string, now: number): number {
  const holding = prefixes.filter(
    ({ onLink, prefix, length, validUntil }) =>
      onLink && validUntil > now && prefixText(addressBytes(address), length) === prefix,
  )
  return Math.max(...holding.map(({ length }) => length), 0) || 128
}

/** The routes that hold now: one for each destination, by preference, then as heard first. `addresses` bring those to their own prefixes. */
export function routesAt(network: Network, addresses: readonly string[], now: number): NetworkRoute[] {
  const { routers, prefixes, routes } = network
  const candidates = [
    ...routers.map(({ address, ...rest }) => ({ destination: DEFAULT_ROUTE, router: address, ...rest })),
    ...routes,
  ]
    .filter(({ until }) => until > now)
    .sort((one, other) => other.preference - one.preference)
  const byDestination = new Map<string, NetworkRoute>()
  for (const { destination, router } of candidates)
    if (!byDestination.has(destination)) byDestination.set(destination, { destination, router })
  const onLink = prefixes
    .filter(({ onLink, validUntil }) => onLink && validUntil > now)
    .filter(
      ({ prefix, length }) => !addresses.some(each => prefixText(addressBytes(each), length) === prefix),
    )
    .map(({ prefix, length }) => ({ destination: `${prefix}/${length}` }))
  return [...onLink, ...byDestination.values()]
}

/** When the first thing that now holds ends; `Infinity` when nothing does. */
export function nextEnd({ routers, prefixes, routes }: Network, now: number): number {
  const ends = [
    ...[...routers, ...routes].map(({ until }) => until),
    ...prefixes.flatMap(({ validUntil, preferredUntil }) => [validUntil, preferredUntil]),
  ]
  return Math.min(...ends.filter(each => each > now), Number.POSITIVE_INFINITY)
}
