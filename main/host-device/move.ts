/**
 * Takes a device into a container and back. What it is and how it is called on the host is remembered there; its alias tells
 * people, and the Go plugin. Knows nothing of how the device was selected.
 */

import { bestEffort, onHost, openContainer, openContainerIfPresent } from '../../chain/interface/configure.ts'
import type { LentDevice } from '../../chain/interface/owner.ts'
import { close } from '../../chain/linux/libc/file.ts'
import {
  findLink,
  type Link,
  listLinks,
  removeAlternativeNames,
  setLink,
} from '../../chain/linux/netlink/link.ts'
import type { Transport } from '../../chain/linux/netlink/socket.ts'
import { openNamespace } from '../../chain/linux/netns.ts'
import { CniError, code } from '../../chain/protocol/error.ts'

export interface Place {
  netns: string | undefined
  /** CNI_IFNAME: the device's name in the container. */
  name: string
}

/** Refuses a name that the container has a link of already. */
export function requireFreeName({ netns, name }: Place & { netns: string }): void {
  using container = openContainer(netns)
  const taken = findLink(container, name)
  if (!taken) return
  const what = `a ${taken.kind ?? 'device'}${taken.alias ? ` that was ${taken.alias} on the host` : ''}`
  throw new CniError(code.internal, `interface ${name} already exists in ${netns}`, {
    details: `it is ${what}: a second ADD for a live attachment, or another network`,
  })
}

/** What the host remembers of a device before a container has it. */
export function identityOf(link: Link): LentDevice {
  const { name, index, kind, permanentAddress, parentDevice, address, mtu, group, alternativeNames } = link
  return {
    name,
    index,
    address,
    mtu,
    group,
    ...(alternativeNames === undefined ? {} : { alternativeNames }),
    ...(kind === undefined ? {} : { kind }),
    ...(permanentAddress === undefined ? {} : { permanentAddress }),
    ...(parentDevice === undefined ? {} : { parentDevice }),
  }
}

/** Hardware is known by what no process can give a link that it makes. */
const isHardware = ({ kind, parentDevice, permanentAddress }: LentDevice) =>
  kind === undefined && (parentDevice ?? permanentAddress) !== undefined

/** Whether a link in a container is the device that it was lent: its name, alias and address there are the container's to choose. */
export function isLent(link: Link, device: LentDevice): boolean {
  if (link.kind !== device.kind) return false
  return isHardware(device)
    ? link.parentDevice === device.parentDevice && link.permanentAddress === device.permanentAddress
    : link.index === device.index
}

/**
 * Moves a device of the host into a container under its new name, in one step of the kernel. It arrives down. Answers it as it
 * is there: an index that the container uses already is another one then.
 */
export function moveIn(host: Transport, device: Link, { netns, name }: Place & { netns: string }): Link {
  setLink(host, device.index, { alias: device.name })
  const namespace = openNamespace(netns)
  try {
    setLink(host, device.index, { namespace, name })
  } finally {
    close(namespace)
  }
  using container = openContainer(netns)
  const arrived = findLink(container, name)
  if (arrived) return { ...arrived, name: device.name }
  throw new CniError(code.internal, `${device.name} vanished from ${netns} after it was moved there`)
}

/**
 * Moves a device home from a container, whatever it is called there; but where it must be known by its alias too, since the
 * namespace may have another owner by now. It arrives down and without alias.
 */
export function moveBack(
  netns: string | undefined,
  device: LentDevice,
  known: 'by itself' | 'by its alias too' = 'by itself',
): 'removed' | 'absent' {
  using container = openContainerIfPresent(netns)
  const link =
    container &&
    listLinks(container).find(
      one => isLent(one, device) && (known === 'by itself' || one.alias === device.name),
    )
  if (!container || !link) return 'absent'
  onHost(host => requireFree(host, device.name, `${link.name} of ${netns}`))
  dropNames(container, link, device)
  const home = openNamespace('/proc/thread-self/ns/net')
  try {
    setLink(container, link.index, { namespace: home, name: device.name, alias: '' })
  } finally {
    close(home)
  }
  onHost(host => restoreSettings(host, { link, device }))
  return 'removed'
}

/** A name that the container has given it would stand for it on the host, or keep it from coming home to one that has it. */
function dropNames(route: Transport, { alternativeNames = [], index }: Link, device: LentDevice): void {
  const given = alternativeNames.filter(name => !device.alternativeNames?.includes(name))
  if (given.length > 0) removeAlternativeNames(route, index, given)
}

/** The neighbours of the host know the address that the device had there; and its MTU the host's connections. */
function restoreSettings(host: Transport, { link, device }: { link: Link; device: LentDevice }): void {
  for (const key of ['address', 'mtu', 'group'] as const) {
    const value = device[key]
    if (value !== undefined && value !== '' && value !== link[key])
      bestEffort(() => setLink(host, device.name, { [key]: value }))
  }
}

/**
 * A device that the kernel sent home when the container's namespace ended has the container's name, or "dev" and a number
 * where that was taken: it gets its old one back. So does one whose ADD was killed before it was moved.
 */
export function renameReturned(
  host: Transport,
  { name, device }: { name: string; device: LentDevice },
): 'removed' | 'absent' {
  const isNamed = (one: Link) => one.name === name || one.name === device.name || /^dev\d+$/.test(one.name)
  const link = listLinks(host).find(one =>
    isHardware(device)
      ? isLent(one, device)
      : one.kind === device.kind && one.alias === device.name && isNamed(one),
  )
  if (!link) return 'absent'
  dropNames(host, link, device)
  if (link.name !== device.name) {
    requireFree(host, device.name, link.name)
    setLink(host, link.index, { up: false })
    setLink(host, link.index, { name: device.name })
  }
  if (link.alias) setLink(host, link.index, { alias: '' })
  restoreSettings(host, { link, device })
  return 'removed'
}

function requireFree(host: Transport, name: string, device: string): void {
  const taken = findLink(host, name)
  if (!taken) return
  throw new CniError(
    code.internal,
    `${device} cannot come back as ${name}: the host has another link of that name`,
    {
      details: `it is a ${taken.kind ?? 'device'} with hardware address ${taken.address}; rename it, and DEL will succeed`,
    },
  )
}
