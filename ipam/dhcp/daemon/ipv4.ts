/** IPv4 as the registry sees it: a lease of a DHCP server. */

import { isIpv6 } from '../../../chain/ip/family.ts'
import { removeAddress } from '../../../chain/linux/netlink/address.ts'
import { openRoute } from '../../../chain/linux/netlink/socket.ts'
import { inNamespace } from '../../../chain/linux/netns.ts'
import { CniError, code, toCniError } from '../../../chain/protocol/error.ts'
import { type ClientLink, changeLink, sendFromHost } from '../link/client-link.ts'
import { createLeaseClient, type LeaseClient } from '../v4/lease-client.ts'
import { resultOf } from '../v4/lease-offer.ts'
import { composeMessage } from '../v4/message.ts'
import { encodeMessage } from '../v4/packet.ts'
import { type Client, initialState, type Lease } from '../v4/types.ts'
import { type Family, holding, type LeaseHandle, type Setting } from './family.ts'
import { decodeLease, encodeLease, type StoredLease } from './lease-file.ts'
import { LEASE_ENDING } from './state.ts'

type Own = Omit<StoredLease, 'lease'>

export const ipv4: Family<Own, Lease> = {
  ending: LEASE_ENDING,
  isRequested: spec => spec.ipv4,
  includes: address => !isIpv6(address),
  addressOf: lease => lease.address,
  describe: (facts, { provided, requested, ipv6 }, { clientLink, options }) => ({
    ...facts,
    // what an ipvlan link receives is told apart by the address that it does not have yet
    broadcast: options.broadcast || clientLink.link.kind === 'ipvlan',
    provided: Array.from(provided, ([code, value]) => [code, Buffer.from(value).toString('hex')]),
    requested,
    ...(ipv6 ? { shared: true } : {}),
  }),
  encode: (own, lease, clockOffset) => encodeLease({ ...own, lease }, clockOffset),
  decode(text) {
    const { lease, ...own } = decodeLease(text) ?? {}
    return lease && { own: own as Own, lease }
  },
  ...holding(leaseClientOf, leaseHandleOf),
  releaseOrphan({ own, lease }, { identifier, options, now }) {
    const { address } = lease
    const why = 'its namespace or interface has gone'
    if (now >= lease.obtainedAt + lease.leaseSeconds * 1000)
      return { event: 'lost', address, why: 'the lease has expired' }
    const client = clientOf(own, { identifier, options })
    const transaction = Math.floor(Math.random() * 0x1_0000_0000)
    const message = composeMessage(client, { ...initialState, transaction, lease }, { kind: 'release', now })
    try {
      // from here the server may not be reachable, or not listen; then the lease ends in its time
      sendFromHost(lease.server, encodeMessage(message))
      return { event: 'released', address, why }
    } catch (thrown) {
      return { event: 'abandoned', address, why, error: toCniError(thrown).message }
    }
  },
}

function leaseClientOf(clientLink: ClientLink, own: Own, setting: Setting<Lease>): LeaseClient {
  return createLeaseClient(clientLink, clientOf(own, setting), {
    context: setting.context,
    forbid: lease => (own.shared ? removeLost(clientLink, lease) : changeLink(clientLink, { up: false })), // as with the Go plugin
  })
}

/** Whoever lost an address must not use it. */
function removeLost({ descriptor, link }: ClientLink, { address, prefixLength = 32 }: Lease): void {
  using route = inNamespace(descriptor, openRoute)
  removeAddress(route, { link: link.index, address, prefixLength })
}

function clientOf(own: Own, { identifier, options }: Pick<Setting, 'identifier' | 'options'>): Client {
  const { hardware, broadcast, provided, requested } = own
  return {
    identifier,
    hardware,
    broadcast,
    requested,
    timing: options.timing,
    provided: new Map(provided.map(([code, value]) => [code, Buffer.from(value, 'hex')])),
  }
}

function leaseHandleOf(leaseClient: LeaseClient, { priority }: Own): LeaseHandle {
  const state = leaseClient.state
  return {
    clientLink: leaseClient.clientLink,
    isOver: () => state().phase === 'stopped' || leaseClient.isClosed(),
    isHeld: () => state().lease !== undefined && !['stopped', 'verifying'].includes(state().phase),
    problem: () =>
      state().phase === 'stopped' && state().reason !== 'released' ? state().reason : undefined,
    ready: async () => resultOf(await leaseClient.ready(), priority),
    async acquire(before) {
      const lease = await leaseClient.acquire(before?.address())
      if (lease.prefixLength !== undefined) return resultOf(lease, priority)
      leaseClient.release()
      const { address, server } = lease
      throw new CniError(
        code.internal,
        `DHCP option Subnet Mask not found in DHCPACK: the server ${server} gave none with ${address}`,
      )
    },
    confirm: async ([address = '']) => resultOf(await leaseClient.confirm(address), priority),
    address: () => state().lease?.address,
    release: leaseClient.release,
    close: leaseClient.close,
  }
}
