/** What an interface was like before tuning: a file per attachment in the Go plugin's place and format, so that either restores what the other saved. */

import { parseHardwareAddress } from '../../chain/ip/hardware.ts'
import {
  ensureFolder,
  fileNameFor,
  listFolder,
  readState,
  removeFile,
  TEMPORARY_PREFIX,
  writeAtomically,
} from '../../chain/linux/files.ts'
import { status } from '../../chain/linux/libc/status.ts'
import type { Attachment, ValidAttachment } from '../../chain/plugin/define.ts'
import type { Undo } from '../../chain/plugin/undo.ts'
import { type Attributes, attributeNames } from './attributes.ts'

/** The Go plugin passes over keys that it does not know: `network` says whose GC may remove the file. */
type Backup = Attributes & { network?: string }

/** The Go plugin's file. */
function usualPath(folder: string, { containerId, ifname: name }: ValidAttachment): string {
  return `${folder}/${fileNameFor(`${containerId}_${name}`, '.json')}`
}

/**
 * The Go plugin's file where no other attachment can have the same: container `a` with `b_c` and `a_b` with `c` would. Those have
 * one with an @, which no container ID has.
 */
function pathOf(folder: string, attachment: ValidAttachment): string {
  const { containerId, ifname: name } = attachment
  if (!containerId.includes('_') && !name.includes('_')) return usualPath(folder, attachment)
  return `${folder}/${fileNameFor(`${containerId}@${name}`, '.json')}`
}

/** No random name: what a kill left of the writing has to be found by DEL. */
function temporaryPath(folder: string, { containerId, ifname: name }: ValidAttachment): string {
  return `${folder}/${fileNameFor(`${TEMPORARY_PREFIX}${containerId}@${name}`, '')}`
}

/** Where an attachment's backup is; where it may be the Go plugin's, which says nothing of whose it is, that one. */
function findPath(folder: string, attachment: ValidAttachment): string {
  const own = pathOf(folder, attachment)
  return status(own, { follow: false }) === undefined ? usualPath(folder, attachment) : own
}

/** Whether the backup is of an interface that another network's attachment has tuned. The Go plugin's name no network. */
export function isOthers(folder: string, attachment: Attachment): boolean {
  const network = parse(readState(findPath(folder, attachment)))?.network
  return network !== undefined && network !== attachment.network
}

/** The attributes that were saved; undefined when there is no file, or none that can be read. */
export function readBackup(folder: string, attachment: ValidAttachment): Attributes | undefined {
  const found = parse(readState(findPath(folder, attachment)))
  if (!found) return undefined
  const { network: _, ...attributes } = found
  return attributes
}

function parse(text: string | undefined): Backup | undefined {
  if (!text) return undefined
  try {
    return keepWellFormed(JSON.parse(text))
  } catch {
    return undefined
  }
}

const types = { mac: 'string', promisc: 'boolean', mtu: 'number', allmulti: 'boolean', txQLen: 'number' }

function keepWellFormed(json: Record<string, unknown> | null): Backup {
  const entries = attributeNames
    .map(name => [name, json?.[name]] as const)
    .filter(
      ([name, value]) =>
        typeof value === types[name] && (name !== 'mac' || parseHardwareAddress(String(value))),
    )
  const network = json?.network
  return { ...Object.fromEntries(entries), ...(typeof network === 'string' ? { network } : {}) }
}

/** Saves attributes that have not been saved yet: of what an earlier ADD saved nothing is lost. */
export function saveBackup(
  folder: string,
  undo: Undo,
  { attachment, original }: { attachment: Attachment; original: Attributes },
): void {
  const path = pathOf(folder, attachment)
  const text = readState(path)
  const saved = parse(text)
  ensureFolder(folder, 0o700)
  const temporary = temporaryPath(folder, attachment)
  const write = (content: string) => {
    removeFile(temporary)
    // /run: interfaces do not outlive the machine either
    writeAtomically(path, content, { mode: 0o600, durable: false, temporary })
  }
  undo('restore the backup', () => (saved && text !== undefined ? write(text) : removeFile(path)))
  write(inOrder({ ...original, ...saved }, attachment.network))
}

function inOrder(attributes: Attributes, network: string): string {
  const entries = attributeNames.map(name => [name, attributes[name]])
  return JSON.stringify({ ...Object.fromEntries(entries), network }, null, 1) // one blank: as the Go plugin
}

export function removeBackup(folder: string, attachment: ValidAttachment): 'removed' | 'absent' {
  removeFile(temporaryPath(folder, attachment))
  return removeFile(findPath(folder, attachment))
}

/** Removes a network's backups that no valid attachment owns. Those that name no network are some other runtime's. */
export function removeStaleBackups(
  folder: string,
  { network, valid }: { network: string; valid: readonly ValidAttachment[] },
): void {
  const alive = new Set(valid.map(attachment => findPath(folder, attachment)))
  for (const name of listFolder(folder) ?? []) {
    const path = `${folder}/${name}`
    if (!name.endsWith('.json') || alive.has(path)) continue
    if (parse(readState(path))?.network === network) removeFile(path)
  }
}
