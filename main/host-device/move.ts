/**
 * Takes a device into a container and back. Its name on the host goes with it as its alias, so that it is known however
 * the device comes home. Knows nothing of how the device was selected.
 */
import { close } from '../../chain/linux/libc.ts'
import { findLink, type Link, listLinks, setLink } from '../../chain/linux/netlink/link.ts'
import type { Transport } from '../../chain/linux/netlink/socket.ts'
import { openNamespace } from '../../chain/linux/netns.ts'
import { onHost, openContainer, openContainerIfPresent } from '../../chain/plugin/interface.ts'
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

/** Moves a device of the host into a container under its new name, in one step of the kernel. It arrives down. */
export function moveIn(host: Transport, device: Link, { netns, name }: Place & { netns: string }): void {
  setLink(host, device.index, { alias: device.name })
  const namespace = openNamespace(netns)
  try {
    setLink(host, device.index, { namespace, name })
  } finally {
    close(namespace)
  }
}

/**
 * Moves a device home from a container, under the name of its alias; it arrives down and without alias. An interface
 * without alias is not one that was moved there; nor is, where one is `expected`, another one.
 */
export function moveBack({ netns, name }: Place, expected?: string): 'removed' | 'absent' {
  using container = openContainerIfPresent(netns)
  const link = container && findLink(container, name)
  const original = link?.alias
  if (!container || !link || !original || original !== (expected ?? original)) return 'absent'
  onHost(host => requireFree(host, original, `${name} of ${netns}`))
  const home = openNamespace('/proc/thread-self/ns/net')
  try {
    setLink(container, link.index, { namespace: home, name: original, alias: '' })
  } finally {
    close(home)
  }
  return 'removed'
}

/**
 * A device that the kernel sent home when the container's namespace ended has the container's name, or "dev" and a number
 * where that was taken: it gets its old one back. So does one whose ADD was killed before it was moved.
 */
export function renameReturned(
  host: Transport,
  { name, original }: { name: string; original: (link: Link) => boolean },
): 'removed' | 'absent' {
  const link = listLinks(host).find(
    one =>
      one.alias &&
      (one.name === name || one.name === one.alias || /^dev\d+$/.test(one.name)) &&
      original(one),
  )
  if (!link?.alias) return 'absent'
  if (link.name !== link.alias) {
    requireFree(host, link.alias, link.name)
    setLink(host, link.index, { up: false })
    setLink(host, link.index, { name: link.alias })
  }
  setLink(host, link.index, { alias: '' })
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
