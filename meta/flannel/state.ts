/**
 * The delegates' configurations that were used, kept for CHECK and DEL: durable, written whole. The first interface of a
 * container has the Go plugin's file, `<container>`, so that the Go plugin's DEL finds it too; others have
 * `<container>@<interface>`, since no container ID has an @. Which interface the first one is stands in the file.
 */
import {
  createExclusively,
  ensureFolder,
  fileNameFor,
  listFolder,
  readState,
  removeFile,
  TEMPORARY_PREFIX,
  writeAtomically,
} from '../../chain/linux/files.ts'
import type { Attachment, ValidAttachment } from '../../chain/plugin/define.ts'
import type { JsonObject } from '../../chain/protocol/configuration.ts'
import type { DelegateConfiguration } from './translate.ts'

/** The key of the interface; plugins pass over keys that they do not know. */
const MARK = 'catena.interface'

export interface Saved {
  path: string
  /** undefined: the file cannot be read as a configuration. */
  config: DelegateConfiguration | undefined
  /** undefined in a file of the Go plugin. */
  ifname: string | undefined
}

function pathsOf(folder: string, { containerId, ifname: name }: ValidAttachment) {
  return {
    shared: `${folder}/${fileNameFor(containerId)}`,
    own: `${folder}/${fileNameFor(`${containerId}@${name}`)}`,
    // not a random name: one that a kill left behind has to be found by DEL
    temporary: `${folder}/${fileNameFor(`${TEMPORARY_PREFIX}${containerId}@${name}`)}`,
  }
}

function read(path: string): Saved | undefined {
  const text = readState(path)
  if (text === undefined) return undefined
  const json = parse(text)
  if (typeof json?.type !== 'string' || typeof json.name !== 'string') {
    return { path, config: undefined, ifname: undefined }
  }
  const { [MARK]: mark, ...rest } = json
  const config = { ...rest, name: json.name, type: json.type }
  return { path, config, ifname: typeof mark === 'string' ? mark : undefined }
}

function parse(text: string): JsonObject | undefined {
  try {
    const json: unknown = JSON.parse(text)
    return typeof json === 'object' && json !== null ? (json as JsonObject) : undefined
  } catch {
    return undefined
  }
}

/**
 * What an attachment's ADD used. A file of the Go plugin does not say whose it is: it is whoever's of this network asks first.
 * Another network's is not this one's, whatever the interface.
 */
export function recall(folder: string, attachment: Attachment): Saved | undefined {
  const { own, shared } = pathsOf(folder, attachment)
  const isOfNetwork = ({ config }: Saved) => config === undefined || config.name === attachment.network
  const found = read(own)
  if (found && isOfNetwork(found)) return found
  const first = read(shared)
  if (!first || !isOfNetwork(first)) return undefined
  const isFound = !first.config || first.ifname === undefined || first.ifname === attachment.ifname
  return isFound ? first : undefined
}

/** A file about to be written. */
export interface Remembered {
  /** There is another one of the attachment. */
  replaced: boolean
  /** Leaves what was there before. */
  takeBack(): void
}

/** Keeps a configuration before it is used. `noted` is told before a file is written. */
export function remember(
  folder: string,
  { attachment, config }: { attachment: Attachment; config: DelegateConfiguration },
  noted: (remembered: Remembered) => void,
): void {
  const { own, shared, temporary } = pathsOf(folder, attachment)
  const options = { mode: 0o600, temporary }
  const text = JSON.stringify({ ...config, [MARK]: attachment.ifname })
  const note = (path: string) => {
    const before = readState(path)
    const putBack = () => (before === undefined ? removeFile(path) : writeAtomically(path, before, options))
    const takeBack = () => {
      if (readState(path) === text) putBack() // it may have come to nothing, and be another's
      removeFile(temporary)
    }
    noted({ replaced: before !== undefined, takeBack })
  }
  ensureFolder(folder, 0o700)
  removeFile(temporary)
  const isFirst = readState(own) === undefined
  if (isFirst && readState(shared) === undefined) {
    note(shared)
    if (createExclusively(shared, text, options) === 'created') return
  }
  const path = isFirst && isOwn(read(shared), attachment) ? shared : own
  note(path)
  writeAtomically(path, text, options)
}

/** True for a file that this attachment may overwrite: its own, or one that cannot be read. */
function isOwn(saved: Saved | undefined, attachment: Attachment): boolean {
  if (saved?.config === undefined) return true
  return saved.ifname === attachment.ifname && saved.config.name === attachment.network
}

/** Removes what a kill left of an attachment's writing. */
export function removeTemporary(folder: string, attachment: ValidAttachment): 'removed' | 'absent' {
  return removeFile(pathsOf(folder, attachment).temporary)
}

/** A network's configurations that no valid attachment uses. */
export function listStale(
  folder: string,
  { network, valid }: { network: string; valid: readonly ValidAttachment[] },
): (Saved & { config: DelegateConfiguration })[] {
  const isAlive = ({ path, ifname: name }: Saved) =>
    valid.some(one => {
      const { own, shared } = pathsOf(folder, one)
      return path === own || (path === shared && (name === undefined || one.ifname === name))
    })
  return (listFolder(folder) ?? []).flatMap(file => {
    const saved = file.startsWith('.') ? undefined : read(`${folder}/${file}`)
    if (saved?.config?.name !== network) return []
    return isAlive(saved) ? [] : { ...saved, config: saved.config }
  })
}
