/** Netfilter sockets: opened, kept, and closed when that keeps no call waiting. */

import { mayKeep } from '../child-environment.ts'
import { errno, isErrno } from '../libc/errno.ts'
import { NETLINK_NETFILTER, openTransport, type Transport } from '../netlink/socket.ts'

/**
 * In a process that does many calls all have one socket: after any deletion, each close would wait for the kernel, also for what others
 * have deleted, and where nothing runs between calls no timer closes any.
 */
let kept: (Transport & { descriptor: number }) | undefined

/** An answer that was not read is not to be taken for the next one's. */
function dropSocket(): void {
  kept?.close()
  kept = undefined
}

/** By then the kernel's clean-up, 7 to 15 ms, is over, and close no longer waits. */
const CLOSING_MILLISECONDS = 50

/**
 * A netfilter socket in the namespace that the thread is in. It is closed later, or by the end of the process: after any
 * transaction that deletes, close waits for the kernel's clean-up (nft_rcv_nl_event), and other work goes on meanwhile.
 */
export function openNetfilter(): Transport & { descriptor: number } {
  if (mayKeep(dropSocket)) {
    kept ??= openTransport(NETLINK_NETFILTER)
    return { ...kept, close: stayOpen, [Symbol.dispose]: stayOpen }
  }
  const netfilter = openTransport(NETLINK_NETFILTER)
  const close = () => void setTimeout(netfilter.close, CLOSING_MILLISECONDS).unref()
  return { ...netfilter, close, [Symbol.dispose]: close }
}

const stayOpen = () => {}

/** As `openNetfilter`; undefined where the kernel has no netfilter sockets, and so no rules. */
export function openNetfilterIfPresent(): Transport | undefined {
  try {
    return openNetfilter()
  } catch (thrown) {
    if (isErrno(thrown, errno.EPROTONOSUPPORT)) return undefined
    throw thrown
  }
}
