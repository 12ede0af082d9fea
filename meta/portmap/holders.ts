/**
 * Who holds a host port, and whether that container is still alive. A record under /run says where an owner's container is;
 * the kernel says whether it still has the address.
 */
import { listFolder } from '../../chain/linux/files.ts'
import { listAddresses } from '../../chain/linux/netlink/address.ts'
import { findLink } from '../../chain/linux/netlink/link.ts'
import type { Attachment } from '../../chain/plugin/define.ts'
import { openContainerIfPresent } from '../../chain/plugin/interface.ts'
import { ownerOf } from '../../chain/plugin/owner.ts'
import { RUN_FOLDER, readState, removeState, writeState } from '../../chain/plugin/state.ts'

const FOLDER = `${RUN_FOLDER}/ports`

export interface Holder extends Attachment {
  netns: string
  addresses: string[]
}

const pathOf = (owner: string) => `${FOLDER}/${owner}.json`

/** Remembers where an attachment is: before its rules are there, so that no rule is without a record, and none is torn. */
export function remember(holder: Holder): void {
  writeState(pathOf(ownerOf(holder).id), holder)
}

export function forget(owner: string): 'removed' | 'absent' {
  return removeState(pathOf(owner))
}

export function recall(owner: string): Holder | undefined {
  return readState(pathOf(owner)) as Holder | undefined
}

/** The owners that have records. */
export function recorded(): string[] {
  return (listFolder(FOLDER) ?? [])
    .filter(name => name.endsWith('.json'))
    .map(name => name.slice(0, -'.json'.length))
}

/** Alive: its namespace is there, with the interface, with an address that ports lead to. */
export function isAlive({ netns, interface: name, addresses }: Holder): boolean {
  using container = openContainerIfPresent(netns)
  const link = container && findLink(container, name)
  if (!link) return false
  return listAddresses(container, link.index).some(({ address }) => addresses.includes(address))
}
