/** The device that a configuration of host-device selects: by name, hardware address, place in sysfs, or PCI address. */
import type { LentDevice } from '../../chain/interface/owner.ts'
import { parseHardwareAddress } from '../../chain/ip/hardware.ts'
import { listFolder, nameIn } from '../../chain/linux/files.ts'
import { errno, isErrno } from '../../chain/linux/libc/errno.ts'
import { readLink } from '../../chain/linux/libc/folder.ts'
import { status } from '../../chain/linux/libc/status.ts'
import { findLink, type Link, listLinks } from '../../chain/linux/netlink/link.ts'
import type { Transport } from '../../chain/linux/netlink/socket.ts'
import type { Attachment } from '../../chain/plugin/define.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import { identityOf } from './move.ts'
import type { Configuration } from './schema.ts'

/** How the device is selected: the first of the Go plugin's order that is given. */
export type Selection =
  | { by: 'device' | 'hwaddr'; value: string; dpdk: boolean }
  | { by: 'kernelpath' | 'pciBusID' | 'runtimeConfig.deviceID'; value: string; folder: string; dpdk: boolean }

const PCI = '/sys/bus/pci/devices'
const AUXILIARY = '/sys/bus/auxiliary/devices'

/** Reads the selectors; a PCI device tells by its driver whether it is a network device at all. Code 7 when none is given. */
export function selectionOf(config: Configuration): Selection {
  refuseUnreadable(config)
  const { device, hwaddr, kernelpath } = config
  const { pciBusID, auxiliary } = busOf(config)
  const dpdk = pciBusID ? hasUserDriver(pciBusID) : config.DPDKMode
  if (device) return { by: 'device', value: device, dpdk }
  if (hwaddr) return { by: 'hwaddr', value: readHardwareAddress(hwaddr), dpdk }
  if (kernelpath) return { by: 'kernelpath', value: kernelpath, folder: readKernelPath(kernelpath), dpdk }
  if (pciBusID) return { by: 'pciBusID', value: pciBusID, folder: `${PCI}/${pciBusID}`, dpdk }
  if (auxiliary)
    return { by: 'runtimeConfig.deviceID', value: auxiliary, folder: `${AUXILIARY}/${auxiliary}`, dpdk }
  throw new CniError(
    code.invalidConfiguration,
    'device: specify either "device", "hwaddr", "kernelpath" or "pciBusID"',
    { details: 'the configuration has none of them, and the runtime gave no runtimeConfig.deviceID' },
  )
}

/** Not part of the schema: DEL must not stumble over a selector that ADD has refused. */
function refuseUnreadable({ pciBusID, runtimeConfig }: Configuration): void {
  const isName = (value: string) => !value.includes('/') && value !== '.' && value !== '..'
  const rules: [string, string | undefined, string][] = [
    ['pciBusID', pciBusID, 'the name of a PCI device, such as 0000:00:1f.6'],
    ['runtimeConfig.deviceID', runtimeConfig?.deviceID, 'the name of a device'],
  ]
  for (const [key, value, what] of rules) {
    if (!value || isName(value)) continue
    throw new CniError(code.invalidConfiguration, `${key}: must be ${what}: got ${JSON.stringify(value)}`)
  }
}

/** Refuses selectors that select nothing on any host. */
export function refuseMeaningless(config: Configuration): void {
  refuseUnreadable(config)
  const { device, hwaddr, kernelpath } = config
  if (device) return
  if (hwaddr) readHardwareAddress(hwaddr)
  else if (kernelpath) readKernelPath(kernelpath)
}

function readHardwareAddress(hwaddr: string): string {
  const address = parseHardwareAddress(hwaddr)
  if (address) return address
  throw new CniError(
    code.invalidConfiguration,
    `hwaddr: failed to find host device: failed to parse MAC address ${JSON.stringify(hwaddr)}: address ${hwaddr}: invalid MAC address: must be a hardware address of 6, 8 or 20 bytes`,
  )
}

function readKernelPath(path: string): string {
  if (path.startsWith('/sys/devices/') && !path.split('/').includes('..')) return path
  throw new CniError(
    code.invalidConfiguration,
    `kernelpath: failed to find host device: kernel device path ${JSON.stringify(path)} must be absolute and begin with /sys/devices/, without ".."`,
  )
}

/** The runtime's device takes the place of the configured PCI address. */
function busOf({ pciBusID, runtimeConfig }: Configuration): { pciBusID: string; auxiliary: string } {
  const deviceId = runtimeConfig?.deviceID
  if (!deviceId) return { pciBusID, auxiliary: '' }
  if (status(`${PCI}/${deviceId}`)) return { pciBusID: deviceId, auxiliary: '' }
  if (status(`${AUXILIARY}/${deviceId}`)) return { pciBusID: '', auxiliary: deviceId }
  throw new CniError(
    code.invalidConfiguration,
    `runtimeConfig.deviceID: runtime config DeviceID ${deviceId} not found or unsupported`,
    { details: `it is neither in ${PCI} nor in ${AUXILIARY}` },
  )
}

/** Drivers that hand a PCI device to a program in user space: the kernel has no link for it. */
const userDrivers = ['vfio-pci', 'uio_pci_generic', 'igb_uio']

function hasUserDriver(pciBusId: string): boolean {
  try {
    const driver = readLink(`${PCI}/${pciBusId}/driver`)
    return userDrivers.includes(nameIn(driver))
  } catch (thrown) {
    if (!isErrno(thrown, errno.ENOENT, errno.EINVAL)) throw thrown
    throw new CniError(code.invalidConfiguration, `pciBusID: error with host device: ${pciBusId}`, {
      details: status(`${PCI}/${pciBusId}`) ? 'no driver is bound to it' : `it is not in ${PCI}`,
      cause: thrown,
    })
  }
}

/** The names of the links below a device's folder in sysfs; those of virtio devices lie one folder deeper. */
function linkNames(folder: string): string[] {
  const direct = listFolder(`${folder}/net`)
  if (direct) return direct.sort()
  const deeper = (listFolder(folder) ?? []).filter(name => name.startsWith('virtio')).sort()
  return deeper.flatMap(name => (listFolder(`${folder}/${name}/net`) ?? []).sort())
}

/** Tells whether a link of the host is the selected device. */
function isSelected(selection: Selection, link: Link): boolean {
  if ('folder' in selection) return linkNames(selection.folder).includes(link.name)
  return (selection.by === 'device' ? link.name : link.address) === selection.value
}

/**
 * The same for a link in a container, where name and address are the container's to choose, and sysfs shows none: by the alias
 * that names the configured device, or by what a container cannot write.
 */
export function isSelectedElsewhere(selection: Selection, link: Link): boolean {
  if (selection.by === 'device') return link.alias === selection.value
  if (link.kind !== undefined && link.permanentAddress === undefined) return false
  if (!('folder' in selection)) return (link.permanentAddress ?? link.address) === selection.value
  const { parentDevice } = link
  return (
    parentDevice !== undefined && [parentDevice, `${selection.folder}/${parentDevice}`].some(isIn(selection))
  )
}

/** Devices of virtio lie one folder deeper. */
const isIn =
  ({ folder }: { folder: string }) =>
  (device: string) =>
    folder.endsWith(`/${device}`) || (device.startsWith('/') && status(device) !== undefined)

/** The selected device where the kernel has sent it home, under the container's name or one of its own, with its alias. */
export function findReturned(
  host: Transport,
  attachment: Attachment,
  selection: Selection,
): LentDevice | undefined {
  const isNamed = ({ name, alias }: Link) =>
    name === attachment.ifname || name === alias || /^dev\d+$/.test(name)
  const found = listLinks(host).find(
    link =>
      link.alias &&
      isNamed(link) &&
      (selection.by === 'device' ? link.alias === selection.value : isSelected(selection, link)),
  )
  return found?.alias ? { ...identityOf(found), name: found.alias } : undefined
}

/** The selected device among the host's links. Code 7 when it is not there. */
export function findDevice(host: Transport, selection: Selection): Link {
  const found = lookUp(host, selection)
  if (found) return found
  const { by, value } = selection
  const reason = notFound(selection)
  throw new CniError(
    code.invalidConfiguration,
    `${by}: failed to find host device: ${reason}: got ${JSON.stringify(value)}`,
    { details: 'is it in another container, or has its driver no link?' },
  )
}

/** Why there is no such device, in the words of the Go plugin for each way of selecting. */
function notFound(selection: Selection): string {
  switch (selection.by) {
    case 'device':
      return 'Link not found'
    case 'hwaddr':
      return 'failed to find physical interface with that address'
    case 'pciBusID':
      return `no net directory under pci device ${selection.value}, or no link of the host in it`
    default:
      return `failed to find network device in path ${selection.folder}/net: it names no link of the host`
  }
}

function lookUp(host: Transport, selection: Selection): Link | undefined {
  if ('folder' in selection) {
    const [first] = linkNames(selection.folder)
    return first === undefined ? undefined : findLink(host, first)
  }
  if (selection.by === 'device') return findLink(host, selection.value)
  return listLinks(host).find(({ address, loopback }) => !loopback && address === selection.value)
}
