/** Asks the kernel which kinds of link it can make, without making one. */
import { errno } from '../libc/errno.ts'
import { join, nested, text, uint32 } from './codec.ts'
import { RTM_NEWLINK } from './link.ts'
import { CREATE, EXCLUSIVE, isRefusal, request, type Transport } from './socket.ts'

const LINKINFO = 18 // IFLA_LINKINFO
const INFO_KIND = 1 // IFLA_INFO_KIND
const NUM_TX_QUEUES = 31 // IFLA_NUM_TX_QUEUES
const TOO_MANY = 0xffff // above 4096, a link is refused before it comes to be

/** Tells whether the kernel has a kind of link, as a module that it can load or built in. */
export function hasKind(route: Transport, kind: string): boolean {
  try {
    request(route, {
      operation: `ask for ${kind}`,
      type: RTM_NEWLINK,
      flags: CREATE | EXCLUSIVE,
      payload: join(
        new Uint8Array(16),
        nested(LINKINFO, text(INFO_KIND, kind)),
        uint32(NUM_TX_QUEUES, TOO_MANY),
      ),
    })
    return true
  } catch (thrown) {
    if (isRefusal(thrown, errno.EOPNOTSUPP)) return false
    if (isRefusal(thrown, errno.EINVAL)) return true
    throw thrown
  }
}
