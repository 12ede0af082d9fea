/** What a DHCPv6 server says: an ADVERTISE or REPLY as an address, times, name servers, or why there is none. Pure. */

import { addressText } from '../../../chain/ip/bytes.ts'
import { isGlobalUnicast } from '../../../chain/ip/text.ts'
import { namesIn, PacketError } from '../codec.ts'
import { decodeOptions, type Message, option, optionValue, statusCode } from './packet.ts'

/** The DHCP unique identifier of a client, and the number of its one association of addresses. */
export interface Identity {
  duid: Uint8Array
  iaid: number
}

/** A lease's content; times in seconds from the REPLY, `Infinity` for ever. */
export interface LeaseOffer {
  address: string
  /** The server's DUID in hexadecimal. */
  server: string
  preference: number
  preferredSeconds: number
  validSeconds: number
  renewalSeconds: number
  rebindingSeconds: number
  nameServers: string[]
  search: string[]
}

export interface Status {
  code: number
  message: string
}

export interface Reply {
  server: string
  preference: number
  /** Of the whole message, and of its association of addresses. */
  status?: Status
  association?: Association
  nameServers: string[]
  search: string[]
  /** Milliseconds. */
  longestSolicit?: number
}

export interface Association {
  status?: Status
  renewalSeconds: number
  rebindingSeconds: number
  addresses: { address: string; preferredSeconds: number; validSeconds: number }[]
}

const FOREVER = 0xffffffff // RFC 8415, 7.7

/** What a server says to a client; why, where it says nothing to it (RFC 8415, 16). Throws PacketError for cut-off options. */
export function readReply({ duid, iaid }: Identity, { options }: Message): Reply | string {
  const server = optionValue(options, option.server)
  const client = optionValue(options, option.client)
  if (!server || server.length < 2 || server.length > 130) return 'it names no server'
  if (!client || Buffer.compare(client, duid) !== 0) return 'it is for another client'
  const associations = options
    .filter(({ code }) => code === option.addresses)
    .map(({ value }) => associationIn(value))
  const association = associations.find(each => each?.iaid === iaid)
  const status = statusIn(optionValue(options, option.status))
  const longest = optionValue(options, option.longestSolicit)
  const seconds = longest?.length === 4 ? viewOf(longest).getUint32(0) : 0
  return {
    server: Buffer.from(server).toString('hex'),
    preference: optionValue(options, option.preference)?.[0] ?? 0,
    nameServers: addressesIn(optionValue(options, option.nameServers)),
    search: namesIn(optionValue(options, option.search)),
    ...(status ? { status } : {}),
    ...(association ? { association } : {}),
    ...(seconds >= 60 && seconds <= 86_400 ? { longestSolicit: seconds * 1000 } : {}), // RFC 8415, 21.24
  }
}

/** The address that a reply grants: the one asked for if it is among them. Why, where there is none that can be used. */
export function leaseOfferIn(reply: Reply, earlierAddress: string | undefined): LeaseOffer | string {
  const { server, preference, association, status, nameServers, search } = reply
  if (status && status.code !== statusCode.success) return describe(status)
  if (!association) return 'it has no addresses for this client'
  if (association.status && association.status.code !== statusCode.success)
    return describe(association.status)
  const usable = association.addresses.filter(isUsable)
  const chosen = usable.find(({ address }) => address === earlierAddress) ?? usable[0]
  if (!chosen) {
    const [first] = association.addresses
    return first ? `${first.address} with lifetimes that are zero or contradictory` : 'it grants no address'
  }
  return { ...chosen, server, preference, nameServers, search, ...renewalTimes(association, chosen) }
}

type AssociatedAddress = Association['addresses'][number]

function isUsable({ address, preferredSeconds, validSeconds }: AssociatedAddress): boolean {
  return isGlobalUnicast(address) && validSeconds > 0 && preferredSeconds <= validSeconds
}

/** T1 and T2 as the server says, if they lie in order within the lifetime; else at 50 and 80 percent of the preferred one (RFC 8415, 21.4). */
function renewalTimes(
  { renewalSeconds, rebindingSeconds }: Association,
  { preferredSeconds, validSeconds }: AssociatedAddress,
): Pick<LeaseOffer, 'rebindingSeconds' | 'renewalSeconds'> {
  const inOrder = 0 < renewalSeconds && renewalSeconds <= rebindingSeconds && rebindingSeconds < validSeconds
  if (inOrder) return { renewalSeconds, rebindingSeconds }
  const base = preferredSeconds > 0 ? preferredSeconds : validSeconds
  return { renewalSeconds: base * 0.5, rebindingSeconds: base * 0.8 }
}

export function describe({ code, message }: Status): string {
  const name = Object.entries(statusCode).find(([, each]) => each === code)?.[0] ?? `status ${code}`
  const spaced = name.replace(/[A-Z]/g, letter => ` ${letter.toLowerCase()}`)
  return message ? `${spaced}: ${message}` : spaced
}

function associationIn(value: Uint8Array): (Association & { iaid: number }) | undefined {
  if (value.length < 12) throw new PacketError('an association of addresses is cut off')
  const view = viewOf(value)
  const [renewalSeconds, rebindingSeconds] = [secondsAt(view, 4), secondsAt(view, 8)]
  if (renewalSeconds > rebindingSeconds && rebindingSeconds > 0) return undefined // RFC 8415, 21.4
  const options = decodeOptions(value.subarray(12))
  const status = statusIn(optionValue(options, option.status))
  return {
    iaid: view.getUint32(0),
    renewalSeconds,
    rebindingSeconds,
    addresses: options.filter(({ code }) => code === option.address).map(({ value }) => addressIn(value)),
    ...(status ? { status } : {}),
  }
}

function addressIn(value: Uint8Array): AssociatedAddress {
  if (value.length < 24) throw new PacketError('an address is cut off')
  const view = viewOf(value)
  return {
    address: addressText(value.subarray(0, 16)),
    preferredSeconds: secondsAt(view, 16),
    validSeconds: secondsAt(view, 20),
  }
}

function statusIn(value: Uint8Array | undefined): Status | undefined {
  if (!value || value.length < 2) return undefined
  const message = Buffer.from(value.subarray(2))
    .toString()
    .replace(/[^ -~]/g, '?')
  return { code: viewOf(value).getUint16(0), message }
}

function addressesIn(value: Uint8Array | undefined): string[] {
  const count = Math.floor((value?.length ?? 0) / 16)
  return Array.from({ length: count }, (_, index) =>
    addressText((value ?? new Uint8Array(0)).subarray(index * 16, index * 16 + 16)),
  )
}

function secondsAt(view: DataView, at: number): number {
  const seconds = view.getUint32(at)
  return seconds === FOREVER ? Number.POSITIVE_INFINITY : seconds
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}
