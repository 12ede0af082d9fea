/** vlan: an interface for one VLAN (802.1Q) of a link of the host. */
import { checkInterface } from '../chain/interface/configure.ts'
import { createOnce } from '../chain/interface/create.ts'
import { collectStale, expectedMtu, removeFinished } from '../chain/interface/finish.ts'
import {
  checkLinkMtu,
  checkMaster,
  checkMtu,
  findMaster,
  type Master,
  requireReady,
} from '../chain/interface/master.ts'
import {
  clearSubInterface,
  createSubInterface,
  finishSubInterface,
} from '../chain/interface/sub-interface.ts'
import { errno } from '../chain/linux/libc/errno.ts'
import { isRefusal } from '../chain/linux/netlink/socket.ts'
import { configuredDns } from '../chain/plugin/configured.ts'
import { type AddRequest, definePlugin, requirePrevious } from '../chain/plugin/define.ts'
import { main } from '../chain/plugin/run.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import { configuration } from './vlan/checks.ts'
import type { Configuration } from './vlan/schema.ts'

export const vlan = definePlugin({
  name: 'vlan',
  ipam: 'optional',
  config: configuration,

  examine(config) {
    requireMaster(config)
    idOf(config)
  },

  async add(request) {
    const { config, netns } = request
    requireMaster(config)
    const id = idOf(config)
    const master = findMaster(config, netns)
    checkMtu(config.mtu, master)
    await createTagged(request, { id, master })
    const addresses = await request.ipam.add(request.undo)
    const { result } = finishSubInterface(request, { addresses, announcement: 'again', master })
    return { ...result, dns: configuredDns(config.dns) ?? {} }
  },

  async check({ config, attachment, netns, previous, ipam }) {
    requireMaster(config)
    const id = idOf(config)
    await ipam.check()
    const result = requirePrevious(previous, 'vlan')
    const name = attachment.ifname
    const link = checkInterface({ netns, name, previous, kind: 'vlan' })
    if (link.data.vlan !== id) {
      throw new CniError(code.internal, `vlanId: ${name} belongs to VLAN ${link.data.vlan}, not ${id}`)
    }
    checkMaster(link, { choice: config, netns })
    checkLinkMtu(link, expectedMtu(result, { netns, name, configured: config.mtu }))
  },

  del: removeFinished,

  async status({ config, ipam }) {
    requireMaster(config)
    requireReady('vlan', config)
    await ipam.status()
  },

  gc: collectStale,
})

function requireMaster({ master }: Configuration): void {
  if (master) return
  throw new CniError(
    code.invalidConfiguration,
    'master: "master" field is required. It specifies the host interface name to create the VLAN for',
  )
}

const HIGHEST_ID = 4094

function idOf({ vlanId }: Configuration): number {
  if (vlanId >= 0 && vlanId <= HIGHEST_ID) return vlanId
  throw new CniError(
    code.invalidConfiguration,
    `vlanId: invalid VLAN ID ${vlanId} (must be between 0 and 4095 inclusive), of which 4095 is reserved`,
  )
}

/** One VLAN of a link is one interface, wherever that is. */
async function createTagged(
  request: AddRequest<Configuration>,
  { id, master }: { id: number; master: Master },
): Promise<void> {
  const { config, attachment } = request
  try {
    await createOnce(request, {
      create: container =>
        createSubInterface(container, { attachment, master, kind: { type: 'vlan', id }, mtu: config.mtu }),
      clear: container => clearSubInterface(container, attachment),
    })
  } catch (thrown) {
    if (!isRefusal(thrown, errno.EEXIST)) throw thrown
    throw new CniError(
      code.invalidConfiguration,
      `vlanId: VLAN ${id} is already used on ${master.link.name}`,
      {
        details: `another interface, on the host or in a container, takes its frames: ${thrown.message}`,
        cause: thrown,
      },
    )
  }
}

if (import.meta.main) main(vlan)
