/** ipvlan: an interface that shares its master's hardware address. Behind another plugin, it stands on that one's interface. */
import { checkInterface } from '../chain/interface/configure.ts'
import { createOnce } from '../chain/interface/create.ts'
import { collectStale, expectedMtu, removeFinished } from '../chain/interface/finish.ts'
import { checkLinkMtu, checkMaster, checkMtu, findMaster, requireReady } from '../chain/interface/master.ts'
import {
  clearSubInterface,
  createSubInterface,
  finishSubInterface,
} from '../chain/interface/sub-interface.ts'
import { ipvlanModes } from '../chain/linux/netlink/link-kind.ts'
import { configuredDns, modeNumber } from '../chain/plugin/configured.ts'
import { type AddRequest, definePlugin, requirePrevious } from '../chain/plugin/define.ts'
import { main } from '../chain/plugin/run.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import type { Result } from '../chain/protocol/result.ts'
import { configuration } from './ipvlan/checks.ts'
import type { Configuration } from './ipvlan/schema.ts'

export const ipvlan = definePlugin({
  name: 'ipvlan',
  ipam: 'optional',
  config: configuration,

  examine: config => void modeOf(config),

  async add(request) {
    const { config, attachment, netns, previous } = request
    const kind = { type: 'ipvlan', mode: modeOf(config) } as const
    requireAddresses(request)
    const master = findMaster({ ...config, master: config.master || chainedMaster(previous) }, netns)
    const mtu = Math.max(config.mtu, 0) // below 0 the kernel chooses, as in the Go plugin
    checkMtu(mtu, master)
    await createOnce(request, {
      create: container => createSubInterface(container, { attachment, master, kind, mtu }),
      clear: container => clearSubInterface(container, attachment),
    })
    const addresses = request.ipam.type || !previous ? await request.ipam.add(request.undo) : previous
    const { result } = finishSubInterface(request, { addresses, announcement: 'when up', master })
    return { ...result, dns: configuredDns(config.dns) ?? {} }
  },

  async check({ config, attachment, netns, previous, ipam }) {
    const mode = modeOf(config)
    await ipam.check()
    const result = requirePrevious(previous, 'ipvlan')
    const name = attachment.ifname
    const link = checkInterface({ netns, name, previous, kind: 'ipvlan' })
    if (link.data.mode !== mode) {
      throw new CniError(
        code.internal,
        `mode: Container IPVlan mode ${nameOf(link.data.mode)} does not match expected value: ${nameOf(mode)}: of ${name}`,
      )
    }
    checkMaster(link, { choice: config, netns })
    checkLinkMtu(link, expectedMtu(result, { netns, name, configured: config.mtu }))
  },

  del: removeFinished,

  async status({ config, ipam }) {
    // Without a master, it may be the interface of a plugin before this one.
    requireReady('ipvlan', config.master ? config : undefined)
    await ipam.status()
  },

  gc: collectStale,
})

function modeOf({ mode }: Configuration): number {
  return modeNumber(mode || 'l2', { modes: ipvlanModes, kind: 'ipvlan' })
}

function nameOf(mode: number | undefined): string {
  return Object.entries(ipvlanModes).find(([, number]) => number === mode)?.[0] ?? String(mode)
}

/** Addresses come from an IPAM plugin, or from the plugin before this one. */
function requireAddresses({ ipam, previous }: AddRequest<Configuration>): void {
  if (ipam.type || (previous && previous.ips.length > 0)) return
  throw new CniError(code.invalidConfiguration, 'ipam.type: no plugin name provided', {
    details: 'there is no prevResult with addresses to take instead',
  })
}

/** The one interface of prevResult that has a name. */
function chainedMaster(previous: Result | undefined): string | undefined {
  if (!previous) return undefined
  const [first, ...more] = previous.interfaces.filter(({ name }) => name !== '')
  if (first && more.length === 0 && previous.interfaces.length === 1) return first.name
  throw new CniError(
    code.invalidConfiguration,
    'master: chained master failure. PrevResult lacks a single named interface',
    { details: `it lists ${JSON.stringify(previous.interfaces)}; name the master in the configuration` },
  )
}

if (import.meta.main) main(ipvlan)
