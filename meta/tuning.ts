/** tuning: sysctls of a container and attributes of its interface; what the interface was like comes back on DEL. */
import {
  announceInterface,
  mustFind,
  openContainer,
  openContainerIfPresent,
} from '../chain/interface/configure.ts'
import { parseHardwareAddress } from '../chain/ip/hardware.ts'
import { changeLink, findLink, type Link, setLink } from '../chain/linux/netlink/link.ts'
import { attempt, KernelError, type Transport } from '../chain/linux/netlink/socket.ts'
import { inNamespace } from '../chain/linux/netns.ts'
import {
  type AddRequest,
  type Attachment,
  type AttachmentRequest,
  definePlugin,
} from '../chain/plugin/define.ts'
import { chooseMac, macArgument } from '../chain/plugin/mac.ts'
import { main } from '../chain/plugin/run.ts'
import { reversible } from '../chain/plugin/undo.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import type { Result } from '../chain/protocol/result.ts'
import { requireAllowed } from './tuning/allowlist.ts'
import { type Attributes, currentOf, differencesOf, namesIn, settingsOf } from './tuning/attributes.ts'
import { isOthers, readBackup, removeBackup, removeStaleBackups, saveBackup } from './tuning/backup.ts'
import { configuration } from './tuning/checks.ts'
import { duplicateIn } from './tuning/duplicates.ts'
import type { Configuration } from './tuning/schema.ts'
import {
  applySetting,
  differenceOf,
  PLACEHOLDER,
  type Previous,
  refuseConflicts,
  restoreSetting,
  type Setting,
  settingOf,
} from './tuning/sysctl.ts'

const DATA_FOLDER = '/run/cni/tuning'

export const tuning = definePlugin({
  name: 'tuning',
  chained: true,
  config: configuration,

  examine(config) {
    sysctlsOf(config, PLACEHOLDER)
    chooseMac([{ key: 'mac', value: config.mac }], parseHardwareAddress)
  },

  add(request) {
    const { attachment, netns, previous, undo, keep } = request
    const settings = requestedSettings(request)
    requireAllowed(settings.map(({ key }) => key))
    const attributes = requestedAttributes(request)
    const container = keep(openContainer(netns))
    const link = namesIn(attributes).length > 0 ? interfaceOf(container, request) : undefined
    if (link) requireFitting(attributes, link)
    for (const setting of settings) {
      const noted = (before: Previous) =>
        undo(`restore sysctl ${setting.key}`, () => inNamespace(netns, () => restoreSetting(before)))
      inNamespace(netns, () => applySetting(setting, noted))
    }
    if (!link) return previous
    saveBackup(folderOf(request), undo, { attachment, original: currentOf(link, namesIn(attributes)) })
    tune(request, { container, link, attributes })
    return announce(request, describe(previous, { name: link.name, attributes }), attributes)
  },

  check(request) {
    const { netns } = request
    const settings = requestedSettings(request)
    const attributes = requestedAttributes(request)
    using container = openContainer(netns)
    const differences = [
      ...inNamespace(netns, () => settings.map(differenceOf)).filter(each => each !== undefined),
      ...(namesIn(attributes).length > 0 ? differencesOf(interfaceOf(container, request), attributes) : []),
    ]
    if (differences.length === 0) return
    throw new CniError(code.internal, differences.join('; '), {
      details: `the container in ${netns} no longer is as ADD left it`,
    })
  },

  del(request) {
    const { attachment, netns, io } = request
    if (isOthers(folderOf(request), attachment)) {
      const what = `what ${attachment.ifname} of container ${attachment.containerId} was like`
      return io.stderr(`${what} is kept: an attachment of another network has tuned it\n`)
    }
    const saved = readBackup(folderOf(request), attachment)
    using container = openContainerIfPresent(netns)
    if (saved && container) restore(container, attachment, saved).forEach(line => void io.stderr(`${line}\n`))
    removeBackup(folderOf(request), attachment)
  },

  status({ config }) {
    try {
      requireAllowed(Object.keys(config.sysctl ?? {}))
    } catch (thrown) {
      if (!(thrown instanceof CniError)) throw thrown
      throw new CniError(code.pluginNotAvailable, thrown.message, { details: thrown.details, cause: thrown })
    }
  },

  gc(request) {
    removeStaleBackups(folderOf(request), request)
  },
})

function folderOf({ config }: { config: Configuration }): string {
  return config.dataDir || DATA_FOLDER
}

function requestedSettings({ attachment, config, stdin }: AttachmentRequest<Configuration>): Setting[] {
  const duplicate = duplicateIn(stdin, 'sysctl')
  if (duplicate !== undefined) {
    throw new CniError(
      code.invalidConfiguration,
      `sysctl.${duplicate}: duplicated sysctl keys are not allowed`,
    )
  }
  return sysctlsOf(config, attachment.ifname)
}

/** Sysctls of the configuration, with those of args.cni over them. */
function sysctlsOf(config: Configuration, ifname: string): Setting[] {
  const override = config.args?.cni?.sysctl ?? {}
  const setting = (place: string) => (entry: [string, string]) =>
    settingOf(`${place}.${entry[0]}`, entry[0], { name: ifname, value: entry[1] })
  const own = Object.entries(config.sysctl ?? {})
    .filter(([key]) => !Object.hasOwn(override, key))
    .map(setting('sysctl'))
  const overriding = Object.entries(override).map(setting('args.cni.sysctl'))
  refuseConflicts(own)
  refuseConflicts(overriding)
  return [...own, ...overriding]
}

/** args.cni goes before the configuration. promisc: false and mtu: 0 leave the interface alone. */
function requestedAttributes({ args, config }: AttachmentRequest<Configuration>): Attributes {
  const override = config.args?.cni
  return {
    mac: chooseMac(
      [
        { key: 'mac', value: config.mac },
        macArgument(args),
        { key: 'runtimeConfig.mac', value: config.runtimeConfig?.mac },
        { key: 'args.cni.mac', value: override?.mac },
      ],
      parseHardwareAddress,
    ),
    promisc: (override?.promisc ?? config.promisc) || undefined,
    mtu: (override?.mtu ?? config.mtu) || undefined,
    allmulti: override?.allmulti ?? config.allmulti,
    txQLen: unsigned(override?.txQLen ?? config.txQLen),
  }
}

const unsigned = (value: number | undefined) => (value === undefined ? undefined : value >>> 0)

/** The kernel takes the first bytes of a hardware address that is too long for the link. */
function requireFitting({ mac }: Attributes, link: Link): void {
  if (mac === undefined || mac.length === link.address.length) return
  const bytes = (address: string) => (address.length + 1) / 3
  throw new CniError(
    code.invalidConfiguration,
    `mac: invalid args ${mac} for MAC addr: it has ${bytes(mac)} bytes, and those of ${link.name} have ${bytes(link.address)}`,
  )
}

function interfaceOf(
  container: Transport,
  { attachment, netns }: { attachment: Attachment; netns?: string | undefined },
): Link {
  return mustFind(container, attachment.ifname, {
    message: `failed to get "${attachment.ifname}": Link not found in ${netns}`,
    details: 'tuning comes after the plugin that makes the interface',
  })
}

/** Sets attribute by attribute; each refusal of the kernel names what was being set. */
function tune(
  { undo }: AddRequest<Configuration>,
  { container, link, attributes }: { container: Transport; link: Link; attributes: Attributes },
): void {
  const before = currentOf(link, namesIn(attributes))
  for (const name of namesIn(attributes)) {
    if (before[name] === attributes[name]) continue
    reversible(undo, `restore ${name} of ${link.name}`, {
      forth: () => setLink(container, link.index, settingsOf(attributes, name)),
      back: () => setLink(container, link.index, settingsOf(before, name)),
    })
  }
}

/** prevResult with the interface's new hardware address, and its MTU where one was told. */
function describe(result: Result, { name, attributes }: { name: string; attributes: Attributes }): Result {
  const { mac, mtu } = attributes
  return {
    ...result,
    interfaces: result.interfaces.map(one =>
      one.name === name
        ? {
            ...one,
            ...(mac === undefined ? {} : { mac }),
            ...(mtu === undefined || one.mtu === undefined ? {} : { mtu }),
          }
        : one,
    ),
  }
}

/** Neighbours have heard of the old hardware address: the new one is announced. */
function announce(
  { attachment, netns }: AddRequest<Configuration>,
  result: Result,
  { mac }: Attributes,
): Result {
  if (mac === undefined) return result
  const name = attachment.ifname
  using container = openContainer(netns)
  const link = findLink(container, name)
  const ips = result.ips.filter(({ interface: index }) => result.interfaces[index ?? -1]?.name === name)
  if (link?.up) announceInterface({ netns, name, result: { ...result, ips } }, link)
  return result
}

/** Puts saved attributes back; answers what the kernel refused. An interface that is gone needs nothing. */
function restore(container: Transport, attachment: Attachment, saved: Attributes): string[] {
  const link = findLink(container, attachment.ifname)
  if (!link) return []
  const changes = namesIn(saved)
    .toReversed() // the reverse of ADD
    .map(name => changeLink(link.index, settingsOf(saved, name)))
  return changes.length === 0
    ? []
    : attempt(container, changes)
        .filter(answer => answer instanceof KernelError)
        .map(({ message }) => message)
}

if (import.meta.main) main(tuning)
