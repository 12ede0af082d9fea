/** macvlan: an interface with a hardware address of its own on a link of the host. */
import { checkInterface } from '../chain/interface/configure.ts'
import { createOnce } from '../chain/interface/create.ts'
import { collectStale, expectedMtu, finishInterface, removeFinished } from '../chain/interface/finish.ts'
import { checkLinkMtu, checkMaster, checkMtu, findMaster, requireReady } from '../chain/interface/master.ts'
import { clearSubInterface, createSubInterface } from '../chain/interface/sub-interface.ts'
import { macvlanModes } from '../chain/linux/netlink/link-kind.ts'
import { configuredDns, modeNumber } from '../chain/plugin/configured.ts'
import { definePlugin, requirePrevious } from '../chain/plugin/define.ts'
import { chooseMac, macArgument } from '../chain/plugin/mac.ts'
import { main } from '../chain/plugin/run.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import { configuration } from './macvlan/checks.ts'
import type { Configuration } from './macvlan/schema.ts'

export const macvlan = definePlugin({
  name: 'macvlan',
  ipam: 'optional',
  config: configuration,

  examine(config) {
    modeOf(config)
    chooseMac([{ key: 'mac', value: config.mac }])
  },

  async add(request) {
    const { config, attachment, netns, args } = request
    const mode = modeOf(config)
    const mac = chooseMac([
      { key: 'mac', value: config.mac },
      macArgument(args),
      { key: 'runtimeConfig.mac', value: config.runtimeConfig?.mac },
    ])
    const master = findMaster(config, netns)
    checkMtu(config.mtu, master)
    const kind = { type: 'macvlan', mode, broadcastQueueLength: config.bcqueuelen } as const
    await createOnce(request, {
      create: container => createSubInterface(container, { attachment, master, kind, mtu: config.mtu, mac }),
      clear: container => clearSubInterface(container, attachment),
    })
    const addresses = await request.ipam.add(request.undo)
    const { result } = finishInterface(request, { addresses, announcement: 'again' })
    return { ...result, dns: configuredDns(config.dns) ?? {} }
  },

  async check({ config, attachment, netns, previous, ipam }) {
    const mode = modeOf(config)
    await ipam.check()
    const result = requirePrevious(previous, 'macvlan')
    const name = attachment.ifname
    const link = checkInterface({ netns, name, previous, kind: 'macvlan' })
    if (link.data.mode !== mode) {
      throw new CniError(
        code.internal,
        `mode: container macvlan mode ${nameOf(link.data.mode)} does not match expected value: ${nameOf(mode)}: of ${name}`,
      )
    }
    checkMaster(link, { choice: config, netns })
    checkLinkMtu(link, expectedMtu(result, { netns, name, configured: config.mtu }))
  },

  del: removeFinished,

  async status({ config, ipam }) {
    requireReady('macvlan', config)
    await ipam.status()
  },

  gc: collectStale,
})

function modeOf({ mode }: Configuration): number {
  return modeNumber(mode || 'bridge', { modes: macvlanModes, kind: 'macvlan' })
}

function nameOf(mode: number | undefined): string {
  return Object.entries(macvlanModes).find(([, number]) => number === mode)?.[0] ?? String(mode)
}

if (import.meta.main) main(macvlan)
