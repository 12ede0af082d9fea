/** tap: a device whose frames go to and from a program, such as a virtual machine. */
import { checkInterface, openContainer } from '../chain/interface/configure.ts'
import { createOnce, PENDING, removePending } from '../chain/interface/create.ts'
import { collectStale, expectedMtu, finishInterface, removeFinished } from '../chain/interface/finish.ts'
import { checkLinkMtu } from '../chain/interface/master.ts'
import { errno, isErrno, SystemError } from '../chain/linux/libc/errno.ts'
import { status } from '../chain/linux/libc/status.ts'
import { findLink, type Link, setLink } from '../chain/linux/netlink/link.ts'
import { KernelError, type Transport } from '../chain/linux/netlink/socket.ts'
import { inNamespace } from '../chain/linux/netns.ts'
import { inContext } from '../chain/linux/selinux.ts'
import { createTap, TUN_DEVICE } from '../chain/linux/tun.ts'
import { configuredDns } from '../chain/plugin/configured.ts'
import { definePlugin, requirePrevious } from '../chain/plugin/define.ts'
import { chooseMac, macArgument } from '../chain/plugin/mac.ts'
import { main } from '../chain/plugin/run.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import { configuration } from './tap/checks.ts'
import type { Configuration } from './tap/schema.ts'

/** (uid_t)-1: no user and no group, so that none is set. */
const UNSET = 0xffffffff

export const tap = definePlugin({
  name: 'tap',
  ipam: 'optional',
  config: configuration,

  examine: config => void chooseMac([{ key: 'mac', value: config.mac }]),

  async add(request) {
    const { config, attachment, netns, args } = request
    const name = attachment.ifname
    const mac = chooseMac([
      { key: 'mac', value: config.mac },
      macArgument(args),
      { key: 'runtimeConfig.mac', value: config.runtimeConfig?.mac },
    ])
    await createOnce(request, {
      create: container => create(container, { config, netns, name, mac }),
      clear: container => removePending(container, name),
    })
    const addresses = await request.ipam.add(request.undo)
    const { result } = finishInterface(request, { addresses, announcement: 'when up' })
    return { ...result, dns: configuredDns(config.dns) ?? {} }
  },

  async check({ config, attachment, netns, previous, ipam }) {
    await ipam.check()
    const result = requirePrevious(previous, 'tap')
    const name = attachment.ifname
    const link = checkInterface({ netns, name, previous, kind: 'tun' })
    checkLinkMtu(link, expectedMtu(result, { netns, name, configured: config.mtu }))
    using container = openContainer(netns)
    const bridge = findBridge(container, config)
    if (bridge && link.master !== bridge.index) {
      throw new CniError(code.internal, `interface ${name} is not on bridge ${bridge.name}`, {
        details: 'the container no longer is as ADD left it',
      })
    }
  },

  del: removeFinished,

  async status({ ipam }) {
    if (!status(TUN_DEVICE)) {
      throw new CniError(code.pluginNotAvailable, `there is no ${TUN_DEVICE}`, {
        details: 'the kernel has no TAP devices, or its module is missing: `modprobe tun` tells why',
      })
    }
    await ipam.status()
  },

  gc: collectStale,
})

/** The bridge that the device is to be on, if one is configured. */
function findBridge(container: Transport, { bridge: name }: Configuration): Link | undefined {
  if (!name) return undefined
  const found = findLink(container, name)
  if (found?.kind === 'bridge') return found
  throw new CniError(
    code.invalidConfiguration,
    `bridge: failed to get bridge ${name}: Link not found: the container has no bridge of that name`,
    {
      details: found
        ? `${name} is a ${found.kind ?? 'device'}`
        : 'it is looked for in the container, not on the host',
    },
  )
}

interface TapSpec {
  config: Configuration
  netns: string
  name: string
  mac: string | undefined
}

/** Creates the device with all that it is to have; nothing when one thing is refused. */
function create(container: Transport, { config, netns, name, mac }: TapSpec): void {
  const { multiQueue, owner, group, mtu, selinuxContext } = config
  const bridge = findBridge(container, config)
  const virtioHeader = owner !== undefined && group !== undefined // as the Go plugin decides
  const given = (id: number | undefined) => (id === UNSET ? undefined : id)
  const prepare = () =>
    setLink(container, name, {
      group: PENDING,
      ...(mtu > 0 ? { mtu } : {}),
      ...(mac ? { address: mac } : {}),
      ...(bridge ? { master: bridge.index } : {}),
    })
  const build = () =>
    createTap({ name, multiQueue, virtioHeader, owner: given(owner), group: given(group) }, prepare)
  try {
    inNamespace(netns, () => (selinuxContext ? labelled(selinuxContext, build) : build()))
  } catch (thrown) {
    if (!isErrno(thrown, errno.EBUSY)) throw thrown
    throw new KernelError(`create tap ${name}`, errno.EEXIST)
  }
}

/** The device gets the label of the thread that creates it. */
function labelled(context: string, build: () => void): void {
  let entered = false
  try {
    inContext(context, () => {
      entered = true
      build()
    })
  } catch (thrown) {
    if (entered || !(thrown instanceof SystemError)) throw thrown
    throw new CniError(
      code.invalidConfiguration,
      `selinuxContext: could not be taken on: got ${JSON.stringify(context)}`,
      {
        details: `${thrown.message}: is SELinux on, and does its policy let this plugin's domain change to that context?`,
        cause: thrown,
      },
    )
  }
}

if (import.meta.main) main(tap)
