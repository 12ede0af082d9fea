/** IPv6 as the registry sees it: addresses by router advertisements and DHCPv6. */
import { isIpv6 } from '../../../chain/ip/family.ts'
import type { Result, Route } from '../../../chain/protocol/result.ts'
import type { ClientLink } from '../link/client-link.ts'
import type { NetworkRoute } from '../link/ipv6.ts'
import { createLeaseClient, type LeaseClient } from '../slaac/lease-client.ts'
import { problemOf } from '../slaac/lifetimes.ts'
import type { Lease } from '../slaac/types.ts'
import { identityOf } from '../v6/message.ts'
import { type Family, holding, type LeaseHandle, type Setting } from './family.ts'
import { decodeLease6, encodeLease6, type StoredLease6 } from './lease-file.ts'
import { LEASE6_ENDING } from './state.ts'

type Own = Omit<StoredLease6, 'lease'>

export const ipv6: Family<Own, Lease> = {
  ending: LEASE6_ENDING,
  isRequested: spec => spec.ipv6 !== undefined,
  includes: isIpv6,
  addressOf: ({ held }) => held.map(({ address }) => address).join(', '),
  describe: (facts, { ipv6 }) => ({ ...facts, mode: ipv6 ?? 'auto' }),
  encode: (own, lease, clockOffset) => encodeLease6({ ...own, lease }, clockOffset),
  decode(text) {
    const { lease, ...own } = decodeLease6(text) ?? {}
    return lease && { own: own as Own, lease }
  },
  ...holding(leaseClientOf, leaseHandleOf),
  // servers are reached on the client's link only (RFC 8415, 18.2.7): the lease ends in its time
  releaseOrphan: ({ lease }) => ({
    event: 'abandoned',
    address: lease.held.map(({ address }) => address).join(', '),
    why: 'its namespace or interface has gone',
  }),
}

function leaseClientOf(
  clientLink: ClientLink,
  { mode, priority }: Own,
  setting: Setting<Lease>,
): LeaseClient {
  const { identifier, options, context } = setting
  const client = { ...identityOf(identifier), mode, timing: options.timing }
  return createLeaseClient(clientLink, client, { context, priority })
}

function leaseHandleOf(leaseClient: LeaseClient, { priority }: Own): LeaseHandle {
  const state = leaseClient.state
  const reason = () => {
    const { phase, reason } = state()
    return phase === 'stopped' && reason !== 'released' ? reason : undefined
  }
  return {
    clientLink: leaseClient.clientLink,
    isOver: () => state().phase === 'stopped' || leaseClient.isClosed(),
    isHeld: () => state().phase === 'held',
    problem: () => problemOf(state()) ?? reason(),
    // what has come since is not news to whoever asks again: the attachment is what ADD was told
    ready: async () => resultOf(await leaseClient.ready(), priority),
    acquire: async (before, about) => resultOf(await leaseClient.acquire(before?.address(), about), priority),
    confirm: async addresses => resultOf(await leaseClient.confirm(addresses), priority),
    address: () => state().lease.dhcp?.address,
    release: leaseClient.release,
    close: leaseClient.close,
  }
}

/** A lease as a result: addresses with their router, routes with the link's MTU, name servers and domains. `priority` 0 says none. */
export function resultOf(
  { held, network, routes, dhcp, otherConfiguration }: Lease,
  priority: number,
): Result {
  const gateway = routes.find(({ destination }) => destination === '::/0')?.router
  const only = (values: readonly (string | undefined)[]) => [
    ...new Set(values.filter(value => value !== undefined)),
  ]
  const nameservers = only([
    ...network.nameServers.map(({ value }) => value),
    ...[dhcp, otherConfiguration].flatMap(each => each?.nameServers ?? []),
  ])
  const search = only([
    ...network.search.map(({ value }) => value),
    ...[dhcp, otherConfiguration].flatMap(each => each?.search ?? []),
  ])
  return {
    interfaces: [],
    ips: held.map(({ address, prefixLength }) => ({
      address: `${address}/${prefixLength}`,
      ...(gateway ? { gateway } : {}),
    })),
    routes: routes.map(route => routeOf(route, network.mtu, priority)),
    dns: { ...(nameservers.length > 0 ? { nameservers } : {}), ...(search.length > 0 ? { search } : {}) },
  }
}

const SCOPE_LINK = 253 // RT_SCOPE_LINK

function routeOf({ destination, router }: NetworkRoute, mtu: number | undefined, priority: number): Route {
  return {
    dst: destination,
    ...(router === undefined ? { scope: SCOPE_LINK } : { gw: router }),
    ...(mtu === undefined ? {} : { mtu }),
    ...(priority === 0 ? {} : { priority }),
  }
}
