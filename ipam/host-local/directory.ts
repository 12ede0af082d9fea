/**
 * Who holds which address, without reading the reservations: lists of ours under /run, each for a part of the containers. Only a
 * hint, confirmed by the files themselves. It is complete as long as the reservations' folder is as we left it, which the
 * folder's time of change tells: we set it to one that nobody else would. The Go plugin's reservations, a crash and a reboot show.
 */
import { ensureFolder, readFile, removeFile } from '../../chain/linux/files.ts'
import {
  close,
  O_CREAT,
  O_TRUNC,
  O_WRONLY,
  open,
  readLink,
  SystemError,
  setModified,
  status,
  symbolicLink,
  writeAll,
} from '../../chain/linux/libc.ts'
import { RUN_FOLDER } from '../../chain/plugin/state.ts'

/** The holder of an address. In the oldest format a reservation names the container alone. */
export interface Owner {
  containerId: string
  interface?: string
}

export interface Entry {
  address: string
  owner: Owner
}

export interface Directory {
  /** The folder of the reservations. */
  folder: string
  /** The folder of the lists. */
  lists: string
  /** Nobody but us has changed the reservations: who is not in the lists holds nothing. */
  complete: boolean
}

export function openDirectory(folder: string): Directory {
  const network = folder.slice(folder.lastIndexOf('/') + 1)
  const lists = `${RUN_FOLDER}/host-local/${network}-${digest(folder).toString('hex', 0, 4)}`
  return { folder, lists, complete: readStamp(lists) === stampOf(folder) }
}

function digest(text: string): Buffer {
  return new Bun.CryptoHasher('sha512').update(text).digest()
}

function stampOf(folder: string): string | undefined {
  const found = status(folder)
  return found && `${found.inode}.${found.modifiedNanoseconds}`
}

const stampPath = (lists: string) => `${lists}/stamp`

function readStamp(lists: string): string | undefined {
  return attempt(() => readLink(stampPath(lists)))
}

/** Without the hint everything still works, by reading: nothing that happens to it is worth a failure. */
function attempt<T>(step: () => T): T | undefined {
  try {
    return step()
  } catch (thrown) {
    if (thrown instanceof SystemError) return undefined
    throw thrown
  }
}

/** All of a container's interfaces are in one list of 256, so that a list stays short. */
function listPath({ lists }: Directory, containerId: string): string {
  return `${lists}/${digest(containerId).toString('hex', 0, 1)}`
}

const lineOf = ({ address, owner }: Entry) => `${address} ${owner.containerId} ${owner.interface ?? ''}`

function readList(path: string): Entry[] {
  const lines = (attempt(() => readFile(path)) ?? '').split('\n').filter(Boolean)
  return lines.map(line => {
    const [address = '', containerId = '', name] = line.split(' ')
    return { address, owner: { containerId, ...(name ? { interface: name } : {}) } }
  })
}

/** Not atomic: whoever is killed here has changed the reservations before, and not stamped them as known. */
function writeList(path: string, entries: readonly Entry[]): void {
  if (entries.length === 0) {
    removeFile(path)
    return
  }
  const descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
  try {
    writeAll(descriptor, Buffer.from(entries.map(entry => `${lineOf(entry)}\n`).join('')), path)
  } finally {
    close(descriptor)
  }
}

/** What the lists say about a container. */
export function entriesFor(directory: Directory, containerId: string): Entry[] {
  return readList(listPath(directory, containerId)).filter(({ owner }) => owner.containerId === containerId)
}

/** Takes note of what one container has been given and what it has lost. Call it under the lock, after the files have changed. */
export function update(
  directory: Directory,
  containerId: string,
  change: { given?: Entry[]; lost?: string[] },
): void {
  const { given = [], lost = [] } = change
  const gone = new Set([...lost, ...given.map(({ address }) => address)])
  attempt(() => {
    ensureFolder(directory.lists)
    const path = listPath(directory, containerId)
    writeList(path, [...readList(path).filter(({ address }) => !gone.has(address)), ...given])
    if (directory.complete) stamp(directory)
  })
}

/** Takes note of everything, after all reservations were read. */
export function rebuild(directory: Directory, entries: readonly Entry[]): void {
  directory.complete = true
  attempt(() => {
    ensureFolder(directory.lists)
    const byList = Map.groupBy(entries, ({ owner }) => listPath(directory, owner.containerId))
    for (const [path, list] of byList) writeList(path, list)
    stamp(directory)
  })
}

/**
 * Leaves a folder with a time of change of our own making. The one that it has says less: the clock of files may stand still for
 * 4 ms (CONFIG_HZ), and whatever another program does meanwhile does not show.
 */
function stamp({ folder, lists }: Directory): void {
  removeFile(stampPath(lists))
  const [random = 0] = crypto.getRandomValues(new Uint32Array(1))
  setModified(folder, { seconds: Math.floor(Date.now() / 1000), nanoseconds: random % 1_000_000_000 })
  symbolicLink(stampOf(folder) ?? '', stampPath(lists))
}
