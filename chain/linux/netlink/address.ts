/** Internet addresses on links over rtnetlink (linux/if_addr.h). */
import { addressBytes, addressText } from '../../ip/bytes.ts'
import { AF_INET, AF_INET6, socketFamilyOf } from '../../ip/family.ts'
import { errno } from '../libc/errno.ts'
import { attribute, attributeMap, join, type Message, readUint32, split, uint32 } from './codec.ts'
import {
  CREATE,
  dump,
  EXCLUSIVE,
  isRefusal,
  REPLACE,
  type Request,
  request,
  type Transport,
} from './socket.ts'

export const RTM_NEWADDR = 20
export const RTM_DELADDR = 21
const RTM_GETADDR = 22
const IFA_ADDRESS = 1
const IFA_LOCAL = 2
const IFA_BROADCAST = 4
const IFA_CACHEINFO = 6
const IFA_FLAGS = 8
/** IFA_F_*: no duplicate detection; its failure; not yet decided. */
const NO_DETECTION = 0x02
const DETECTION_FAILED = 0x08
const TENTATIVE = 0x40

export interface InterfaceAddress {
  /** Index of the link. */
  link: number
  address: string
  prefixLength: number
  /** RT_SCOPE_*: 0 global, 253 link, 254 host. */
  scope: number
  tentative: boolean
  detectionFailed: boolean
}

export interface NewAddress {
  link: number
  address: string
  prefixLength: number
  /** IPv6: usable at once, without duplicate address detection. */
  skipDetection?: boolean
}

function header(family: number, prefixLength: number, link: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(8)) // struct ifaddrmsg
  view.setUint8(0, family)
  view.setUint8(1, prefixLength)
  view.setUint32(4, link, true)
  return new Uint8Array(view.buffer)
}

/** The broadcast address of an IPv4 prefix; none for /31 and /32 (RFC 3021). */
function broadcastOf(bytes: Uint8Array, prefixLength: number): Uint8Array | undefined {
  if (bytes.length !== 4 || prefixLength >= 31) return undefined
  const view = new DataView(new Uint8Array(bytes).buffer)
  view.setUint32(0, (view.getUint32(0) | (0xffffffff >>> prefixLength)) >>> 0)
  return new Uint8Array(view.buffer)
}

/** The request that adds an address; one that is there already is refused with EEXIST. */
export function newAddress({ link, address, prefixLength, skipDetection }: NewAddress): Request {
  const bytes = addressBytes(address)
  const broadcast = broadcastOf(bytes, prefixLength)
  return {
    operation: `add address ${address}/${prefixLength}`,
    type: RTM_NEWADDR,
    flags: CREATE | EXCLUSIVE,
    payload: join(
      header(socketFamilyOf(address), prefixLength, link),
      attribute(IFA_LOCAL, bytes),
      attribute(IFA_ADDRESS, bytes),
      ...(broadcast ? [attribute(IFA_BROADCAST, broadcast)] : []),
      ...(skipDetection && bytes.length === 16 ? [uint32(IFA_FLAGS, NO_DETECTION)] : []),
    ),
  }
}

export function addAddress(route: Transport, address: NewAddress): void {
  request(route, newAddress(address))
}

/**
 * Puts an IPv6 address on a link for good, or marks one that is there: new connections are not made from a deprecated one.
 * Without duplicate address detection.
 */
export function putAddress(
  route: Transport,
  { link, address, prefixLength }: Omit<NewAddress, 'skipDetection'>,
  state: 'preferred' | 'deprecated',
): void {
  const bytes = addressBytes(address)
  const lifetimes = new DataView(new ArrayBuffer(16)) // struct ifa_cacheinfo: preferred, valid, two times of changes
  lifetimes.setUint32(0, state === 'preferred' ? 0xffffffff : 0, true)
  lifetimes.setUint32(4, 0xffffffff, true)
  request(route, {
    operation: `make address ${address}/${prefixLength} ${state}`,
    type: RTM_NEWADDR,
    flags: CREATE | REPLACE,
    payload: join(
      header(socketFamilyOf(address), prefixLength, link),
      attribute(IFA_LOCAL, bytes),
      attribute(IFA_ADDRESS, bytes),
      uint32(IFA_FLAGS, NO_DETECTION),
      attribute(IFA_CACHEINFO, new Uint8Array(lifetimes.buffer)),
    ),
  })
}

/** Removes an address; nothing there is an answer, not an error. */
export function removeAddress(
  route: Transport,
  { link, address, prefixLength }: Pick<NewAddress, 'link' | 'address' | 'prefixLength'>,
): 'removed' | 'absent' {
  try {
    request(route, {
      operation: `delete address ${address}/${prefixLength}`,
      type: RTM_DELADDR,
      payload: join(
        header(socketFamilyOf(address), prefixLength, link),
        attribute(IFA_LOCAL, addressBytes(address)),
      ),
    })
    return 'removed'
  } catch (thrown) {
    if (isRefusal(thrown, errno.EADDRNOTAVAIL, errno.ENODEV)) return 'absent'
    throw thrown
  }
}

/** The addresses of a link (0: of all links), of both families or of one. Kernels before 4.20 send those of all links. */
export function listAddresses(
  route: Transport,
  link = 0,
  families: readonly number[] = [AF_INET, AF_INET6],
): InterfaceAddress[] {
  let found: InterfaceAddress[] = []
  for (const family of families) {
    const asked = { operation: 'list addresses', type: RTM_GETADDR, payload: header(family, 0, link) }
    const read = (message: Message) => {
      if (message.type !== RTM_NEWADDR) return undefined
      const address = readAddressMessage(message)
      return link === 0 || address.link === link ? address : undefined
    }
    const listed = dump(route, asked, read)
    found = found.length === 0 ? listed : found.concat(listed)
  }
  return found
}

/** Reads an RTM_NEWADDR (or RTM_DELADDR) message. */
export function readAddressMessage({ payload }: Message): InterfaceAddress {
  const [head, rest] = split(payload, 8)
  const found = attributeMap(rest)
  const bytes = found.get(IFA_LOCAL) ?? found.get(IFA_ADDRESS)
  const longFlags = found.get(IFA_FLAGS)
  const flags = longFlags ? readUint32(longFlags) : head.getUint8(2)
  return {
    link: head.getUint32(4, true),
    address: bytes ? addressText(bytes) : '',
    prefixLength: head.getUint8(1),
    scope: head.getUint8(3),
    tentative: (flags & TENTATIVE) !== 0,
    detectionFailed: (flags & DETECTION_FAILED) !== 0,
  }
}
