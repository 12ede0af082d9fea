/** TAP devices of the thread's namespace through /dev/net/tun (linux/if_tun.h). Enter the namespace first. */
import { encodeText } from './bytes.ts'
import { close, control, O_RDWR, open } from './libc/file.ts'

export const TUN_DEVICE = '/dev/net/tun'

const TUNSETIFF = 0x400454ca
const TUNSETPERSIST = 0x400454cb
const TUNSETOWNER = 0x400454cc
const TUNSETGROUP = 0x400454ce

const IFF_TAP = 0x0002
const IFF_MULTI_QUEUE = 0x0100
const IFF_NO_PI = 0x1000
const IFF_VNET_HDR = 0x4000
const IFF_TUN_EXCL = 0x8000

export interface NewTap {
  name: string
  multiQueue: boolean
  /** Whoever opens it may leave checksums and segmentation to the kernel. */
  virtioHeader: boolean
  /** Numbers of the user and the group that may open it; absent: root alone. */
  owner?: number | undefined
  group?: number | undefined
}

/**
 * Creates a TAP device that stays. Until `prepare` is done it is bound to this process, so that a failure or a kill leaves
 * nothing. Throws SystemError, EBUSY when there is a link of that name.
 */
export function createTap(tap: NewTap, prepare: () => void): void {
  const descriptor = open(TUN_DEVICE, O_RDWR)
  const set = (request: number, argument: Uint8Array | number, what: string) =>
    control(descriptor, { request, argument }, `${what} of tap ${tap.name}`)
  try {
    set(TUNSETIFF, interfaceRequest(tap), 'creation')
    if (tap.owner !== undefined) set(TUNSETOWNER, tap.owner, `owner ${tap.owner}`)
    if (tap.group !== undefined) set(TUNSETGROUP, tap.group, `group ${tap.group}`)
    prepare()
    set(TUNSETPERSIST, 1, 'persistence')
  } finally {
    close(descriptor)
  }
}

/** struct ifreq with name and flags. */
function interfaceRequest({ name, multiQueue, virtioHeader }: NewTap): Uint8Array {
  const bytes = new Uint8Array(40)
  bytes.set(encodeText(name).subarray(0, 15)) // IFNAMSIZ, with the terminating zero
  const flags =
    IFF_TAP |
    IFF_NO_PI |
    IFF_TUN_EXCL |
    (multiQueue ? IFF_MULTI_QUEUE : 0) |
    (virtioHeader ? IFF_VNET_HDR : 0)
  new DataView(bytes.buffer).setUint16(16, flags, true)
  return bytes
}
