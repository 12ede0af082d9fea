/** IPv4 for the registry: a lease of a DHCP server. */

import { removeAddress } from '../../../chain/linux/netlink/address.ts'
import { openRoute } from '../../../chain/linux/netlink/socket.ts'
import { inNamespace } from '../../../chain/linux/netns.ts'
import { CniError, code, toCniError } from '../../../chain/protocol/error.ts'
import type { Family, Holding, Setting } from '../daemon/family.ts'
import { decodeLease, encodeLease, LEASE_ENDING, type StoredLease } from '../daemon/state.ts'
import { type Place, sendFromHost, setLinkUp } from '../link/client-link.ts'
import { createKeeper, type Keeper } from './lease-client.ts'
import { resultOf } from './lease-offer.ts'
import { composeMessage } from './message.ts'
import { encodeMessage } from './packet.ts'
import { type Client, initialState, type Lease } from './types.ts'

type Own = Omit<StoredLease, 'lease'>

export const ipv4: Family<Own, Lease> = {
  ending: LEASE_ENDING,
  isWanted: wish => wish.ipv4,
  includes: address => !address.includes(':'),
  addressOf: lease => lease.address,
  describe: (facts, { provided, requested, ipv6 }, { place, options }) => ({
    ...facts,
    // what an ipvlan link receives is told apart by the address that it does not have yet
    broadcast: options.broadcast || place.link.kind === 'ipvlan',
    provided: Array.from(provided, ([code, value]) => [code, Buffer.from(value).toString('hex')]),
    requested,
    ...(ipv6 ? { shared: true } : {}),
  }),
  encode: (own, lease, ahead) => encodeLease({ ...own, lease }, ahead),
  decode(text) {
    const { lease, ...own } = decodeLease(text) ?? {}
    return lease && { own: own as Own, lease }
  },
  hold: (place, own, setting) => holdingOf(keeperOf(place, own, setting), own),
  adopt(place, { own, lease }, setting) {
    const keeper = keeperOf(place, own, setting)
    keeper.adopt(lease)
    return holdingOf(keeper, own)
  },
  giveBack({ own, lease }, { identifier, options, now }) {
    const { address } = lease
    const why = 'its namespace or interface has gone'
    if (now >= lease.obtainedAt + lease.leaseSeconds * 1000)
      return { event: 'lost', address, why: 'the lease has expired' }
    const client = clientOf(own, { identifier, options })
    const transaction = Math.floor(Math.random() * 0x1_0000_0000)
    const message = composeMessage(client, { ...initialState, transaction, lease }, 'release', now)
    try {
      // from here the server may not be reachable, or not listen; then the lease ends in its time
      sendFromHost(lease.server, encodeMessage(message))
      return { event: 'released', address, why }
    } catch (thrown) {
      return { event: 'abandoned', address, why, error: toCniError(thrown).message }
    }
  },
}

function keeperOf(place: Place, own: Own, setting: Setting<Lease>): Keeper {
  return createKeeper(place, clientOf(own, setting), {
    surroundings: setting.surroundings,
    forbid: lease => (own.shared ? removeLost(place, lease) : setLinkUp(place, false)), // as with the reference
  })
}

/** Whoever lost an address must not use it. */
function removeLost({ descriptor, link }: Place, { address, prefixLength = 32 }: Lease): void {
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

function holdingOf(keeper: Keeper, { priority }: Own): Holding {
  const state = keeper.state
  return {
    place: keeper.place,
    isOver: () => state().phase === 'stopped' || keeper.isClosed(),
    isHeld: () => state().lease !== undefined && !['stopped', 'verifying'].includes(state().phase),
    problem: () =>
      state().phase === 'stopped' && state().reason !== 'released' ? state().reason : undefined,
    ready: async () => resultOf(await keeper.ready(), priority),
    async acquire(before) {
      const lease = await keeper.acquire(before?.address())
      if (lease.prefixLength !== undefined) return resultOf(lease, priority)
      keeper.release()
      const { address, server } = lease
      throw new CniError(
        code.internal,
        `DHCP option Subnet Mask not found in DHCPACK: the server ${server} gave none with ${address}`,
      )
    },
    confirm: async ([address = '']) => resultOf(await keeper.confirm(address), priority),
    address: () => state().lease?.address,
    release: keeper.release,
    close: keeper.close,
  }
}
