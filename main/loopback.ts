/** loopback: brings a container's `lo` up. */

import { openContainer, openContainerIfPresent } from '../chain/interface/configure.ts'
import { familyOf } from '../chain/ip/family.ts'
import { isLoopback } from '../chain/ip/text.ts'
import { listAddresses } from '../chain/linux/netlink/address.ts'
import { changeLink, findLink } from '../chain/linux/netlink/link.ts'
import { batch } from '../chain/linux/netlink/socket.ts'
import { definePlugin } from '../chain/plugin/define.ts'
import { main } from '../chain/plugin/run.ts'
import { reversible } from '../chain/plugin/undo.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import { emptyResult, type Result } from '../chain/protocol/result.ts'

const NAME = 'lo' // whatever CNI_IFNAME says

export const loopback = definePlugin({
  name: 'loopback',
  stateless: true,

  add({ netns, previous, undo, keep }) {
    const container = keep(openContainer(netns))
    const { index = 1, up = false } = findLink(container, NAME) ?? {}
    const bring = (settings: { up: boolean }) => batch(container, [changeLink(NAME, settings)])
    reversible(undo, `set ${NAME} down`, { forth: () => bring({ up: true }), back: () => bring({ up }) })
    const addresses = listAddresses(container, index)
    const foreign = addresses.find(({ address }) => !isLoopback(address))
    if (foreign) {
      throw new CniError(
        code.internal,
        `loopback interface found with non-loopback address "${foreign.address}"`,
        {
          details: `another program has put it on ${NAME} in ${netns}`,
        },
      )
    }
    return previous ?? describe(netns, addresses)
  },

  check({ netns }) {
    using container = openContainer(netns)
    if (findLink(container, NAME)?.up) return
    throw new CniError(code.internal, `loopback interface is down in ${netns}`)
  },

  del({ netns }) {
    using container = openContainerIfPresent(netns)
    if (container && findLink(container, NAME)) batch(container, [changeLink(NAME, { up: false })])
  },
})

/** The result where no plugin came before: the first address of each family. */
function describe(netns: string, addresses: readonly { address: string; prefixLength: number }[]): Result {
  const first = (family: 4 | 6) => addresses.filter(({ address }) => familyOf(address) === family).slice(0, 1)
  return {
    ...emptyResult(),
    interfaces: [{ name: NAME, mac: '00:00:00:00:00:00', sandbox: netns }],
    ips: [...first(4), ...first(6)].map(({ address, prefixLength }) => ({
      address: `${address}/${prefixLength}`,
      interface: 0,
    })),
  }
}

if (import.meta.main) main(loopback)
