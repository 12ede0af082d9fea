/** The veth pair of ptp: one end in the container under its final name, the other one on the host. */

import { PENDING } from '../../chain/interface/create.ts'
import { prepareHostLink } from '../../chain/interface/forwarding.ts'
import { errno } from '../../chain/linux/libc/errno.ts'
import { close } from '../../chain/linux/libc/file.ts'
import { addAddress, listAddresses, type NewAddress } from '../../chain/linux/netlink/address.ts'
import { findLink, getLink, type Link, newLink, readLinkMessage } from '../../chain/linux/netlink/link.ts'
import { addRoute, listRoutes, MAIN_TABLE, scopes } from '../../chain/linux/netlink/route.ts'
import { batch, isRefusal, type Transport } from '../../chain/linux/netlink/socket.ts'
import { openNamespace } from '../../chain/linux/netns.ts'
import type { Attachment } from '../../chain/plugin/define.ts'
import { hostEndName } from '../../chain/plugin/owner.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import type { RoutedAddress } from './routes.ts'

export interface PairSpec {
  attachment: Attachment
  netns: string
  /** Of both ends; 0: the kernel's choice. */
  mtu: number
}

/** Creates the pair, the host end up. Throws KernelError (EEXIST) when either name is taken. */
export function createPair(host: Transport, { attachment, netns, mtu }: PairSpec): Link {
  const name = hostEndName(attachment)
  const size = mtu > 0 ? { mtu } : {}
  const namespace = openNamespace(netns)
  try {
    const peer = { name: attachment.ifname, namespace, ...size }
    const [, reply] = batch(host, [
      newLink({ name, kind: { type: 'veth', peer }, up: true, group: PENDING, ...size }),
      getLink(name),
    ])
    if (!reply?.[0]) throw new CniError(code.internal, `the kernel did not describe ${name}`)
    prepareHostLink(name)
    return readLinkMessage(reply[0])
  } finally {
    close(namespace)
  }
}

/** The host's part: the gateway's address on its end, and the way to the container's address. */
export function routeToContainer(host: Transport, hostEnd: Link, routed: readonly RoutedAddress[]): void {
  for (const { address, gateway, width } of routed) {
    addGateway(host, { link: hostEnd.index, address: gateway, prefixLength: width, skipDetection: true })
    try {
      addRoute(host, { destination: address, prefixLength: width, link: hostEnd.index, scope: scopes.host })
    } catch (thrown) {
      throw isRefusal(thrown, errno.EEXIST) ? explainRouted(host, address, width) : thrown
    }
  }
}

/** Two addresses of one container may have one gateway. */
function addGateway(host: Transport, address: NewAddress): void {
  try {
    addAddress(host, address)
  } catch (thrown) {
    if (!isRefusal(thrown, errno.EEXIST)) throw thrown
  }
}

function explainRouted(host: Transport, address: string, width: number): CniError {
  const route = listRoutes(host, { prefixLength: width }).find(({ destination }) => destination === address)
  const holder = route?.link === undefined ? undefined : findLink(host, route.link)
  return new CniError(
    code.internal,
    `address ${address} is in use: the host routes it to ${holder?.name ?? 'another link'}`,
    {
      details: 'two containers have been given one address; look at the IPAM plugin’s reservations',
    },
  )
}

/** CHECK: what is missing of the host's part, in words. */
export function missingOnHost(host: Transport, hostEnd: Link, routed: readonly RoutedAddress[]): string[] {
  const addresses = listAddresses(host, hostEnd.index).map(({ address }) => address)
  const routes = listRoutes(host, { table: MAIN_TABLE, link: hostEnd.index })
  return routed.flatMap(({ address, gateway, width }) => {
    const isRouted = routes.some(
      ({ destination, prefixLength }) => destination === address && prefixLength === width,
    )
    return [
      ...(addresses.includes(gateway) ? [] : [`gateway address ${gateway} is not on ${hostEnd.name}`]),
      ...(isRouted ? [] : [`the host's route to ${address} is missing`]),
    ]
  })
}
