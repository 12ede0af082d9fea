/**
 * Puts this executable into a folder of plugins under every plugin's name, and takes it away again. The folder's own
 * `.catena` holds the file that the names are links to, and under `originals` what had those names before. Each name
 * changes by one rename, so that a runtime finds the old plugin or the new one; whoever runs the old one goes on with it.
 * After a kill the same command does the rest: `uninstall` knows what is ours by what is there, not by notes.
 */
import { ensureFolder, listFolder, nameIn, removeFile, synchronizeFolder } from '../linux/files.ts'
import { errno, isErrno } from '../linux/libc/errno.ts'
import {
  changeMode,
  close,
  forgetPages,
  LOCK_EX,
  LOCK_NB,
  lock,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_RDONLY,
  O_WRONLY,
  open,
  readInto,
  synchronize,
  writeAll,
} from '../linux/libc/file.ts'
import { link, rename, unlink } from '../linux/libc/folder.ts'
import { type FileStatus, status } from '../linux/libc/status.ts'
import { CniError, code } from '../protocol/error.ts'

export interface Installation {
  /** The folder of plugins. */
  folder: string
  /** The executable that is installed. */
  executable: string
  /** All names that it knows, or those that were asked for. */
  names: readonly string[]
  /** Names that somebody else's plugin has are left to it. */
  keepExisting: boolean
  /** Only say what would be done. */
  dryRun: boolean
  /** What is written beside the plugins, when they are there. */
  beside(): Changes
}

/** What was done, or would be, by name. */
export type Changes = Record<
  string,
  'installed' | 'replaced' | 'upgraded' | 'unchanged' | 'left' | 'removed' | 'restored'
>

const BLOCK = 8 << 20

const placesIn = (folder: string) => ({
  own: `${folder}/.catena`,
  originals: `${folder}/.catena/originals`,
})

/** Installs; answers what became of each name. */
export function install(installation: Installation): Changes {
  const { folder, names, dryRun } = installation
  for (const name of names) refuseFolder(`${folder}/${name}`)
  if (dryRun) {
    const intents = names.map((name): [string, Changes[string]] => [name, intentFor(name, installation)])
    return { ...Object.fromEntries(intents), ...installation.beside() }
  }
  const { own, originals } = placesIn(folder)
  ensureFolder(folder, 0o755, { durable: true })
  using _lock = lockFor(folder)
  ensureFolder(originals, 0o755, { durable: true })
  const program = copyOf(installation.executable, own)
  const changes: Changes = {}
  for (const name of names) {
    const intent = intentFor(name, installation)
    changes[name] = intent
    if (intent === 'left') continue
    if (intent === 'replaced') keepOriginal(folder, name)
    if (isSame(status(`${folder}/${name}`, { follow: false }), status(program))) changes[name] = 'unchanged'
    else linkAs(program, `${folder}/${name}`, own)
  }
  synchronizeFolder(folder)
  for (const file of programsIn(own)) if (file !== program && !isNamed(file, folder)) unlink(file)
  return { ...changes, ...installation.beside() }
}

/**
 * Takes away what is ours and brings back what was there before; what has come since stays. What was written
 * beside the plugins goes before them: a runtime that finds a network wants its plugins.
 */
export function uninstall({
  folder,
  dryRun,
  beside,
}: Omit<Installation, 'executable' | 'names' | 'keepExisting'>): Changes {
  const { own, originals } = placesIn(folder)
  if (status(own) === undefined) return {}
  using held = dryRun ? undefined : lockFor(folder)
  const changes = beside()
  const kept = new Set(listFolder(originals))
  for (const name of listFolder(folder) ?? []) {
    if (!isOurs(`${folder}/${name}`, own)) continue
    changes[name] = kept.has(name) ? 'restored' : 'removed'
    if (dryRun) continue
    if (kept.has(name)) rename(`${originals}/${name}`, `${folder}/${name}`)
    else unlink(`${folder}/${name}`)
  }
  for (const name of kept) {
    if (changes[name]) continue
    const isAbsent = status(`${folder}/${name}`, { follow: false }) === undefined
    changes[name] = isAbsent ? 'restored' : 'left' // ours was deleted, or somebody has installed another
    if (dryRun) continue
    if (isAbsent) rename(`${originals}/${name}`, `${folder}/${name}`)
    else unlink(`${originals}/${name}`)
  }
  if (held) removeOwn(folder)
  return changes
}

/** Last of all the file by which a name is known to be ours. */
function removeOwn(folder: string): void {
  const { own, originals } = placesIn(folder)
  synchronizeFolder(folder)
  removeFile(originals)
  for (const name of listFolder(own) ?? []) removeFile(`${own}/${name}`)
  removeFile(own)
  synchronizeFolder(folder)
}

/** Held by the folder itself: a file in it would have to go with the last of what is ours. */
function lockFor(folder: string): Disposable {
  const descriptor = open(folder, O_RDONLY | O_DIRECTORY)
  if (lock(descriptor, LOCK_EX | LOCK_NB, folder)) return { [Symbol.dispose]: () => close(descriptor) }
  close(descriptor)
  throw new CniError(code.tryAgainLater, `${folder}: another installation is going on there`)
}

function intentFor(name: string, { folder, keepExisting }: Installation): Changes[string] {
  const path = `${folder}/${name}`
  if (status(path, { follow: false }) === undefined) return 'installed'
  if (isOurs(path, placesIn(folder).own)) return 'upgraded'
  return keepExisting ? 'left' : 'replaced'
}

function refuseFolder(path: string): void {
  if (status(path, { follow: false })?.kind !== 'folder') return
  throw new CniError(code.io, `cannot install ${path}: a folder has that name`, {
    details: 'remove or rename it; nothing was changed',
  })
}

const isProgram = (name: string) => name.startsWith('program-') && !name.endsWith('.part')
const programsIn = (own: string) => (listFolder(own) ?? []).filter(isProgram).map(name => `${own}/${name}`)

function isSame(one: FileStatus | undefined, other: FileStatus | undefined): boolean {
  return one !== undefined && one.inode === other?.inode && one.device === other.device
}

/** Ours is what is a link to one of our files or, where there can be no links, a copy of one. */
function isOurs(path: string, own: string): boolean {
  const found = status(path, { follow: false })
  if (found?.kind !== 'file') return false
  return programsIn(own).some(
    program =>
      isSame(found, status(program)) ||
      (found.size === status(program)?.size && hashOf(path) === hashOf(program)),
  )
}

/** True when a name in the folder is a link to the file. */
function isNamed(program: string, folder: string): boolean {
  const found = status(program)
  return (listFolder(folder) ?? []).some(name =>
    isSame(found, status(`${folder}/${name}`, { follow: false })),
  )
}

/** A second name for what is there, whatever it is; the one by which runtimes know it stays. */
function keepOriginal(folder: string, name: string): void {
  const { originals, own } = placesIn(folder)
  linkAs(`${folder}/${name}`, `${originals}/${name}`, own)
  synchronizeFolder(originals)
}

/** Gives a file another name, in the place of whatever has it; a copy where the file system knows no links. */
function linkAs(existing: string, name: string, own: string): void {
  const temporary = `${own}/${nameIn(name)}.new`
  unlink(temporary)
  try {
    link(existing, temporary)
  } catch (thrown) {
    if (!isErrno(thrown, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)) throw thrown
    copy(existing, temporary)
  }
  rename(temporary, name)
}

/** The executable in our own folder, under a name that says what it holds; copied if it is not there yet. */
function copyOf(executable: string, own: string): string {
  const program = `${own}/program-${hashOf(executable)}`
  if (status(program) === undefined) {
    const part = `${program}.part`
    unlink(part)
    try {
      copy(executable, part)
      rename(part, program)
    } catch (thrown) {
      unlink(part)
      throw thrown
    }
    synchronizeFolder(own)
    readAgain(program)
  }
  return program
}

function copy(from: string, to: string): void {
  const target = open(to, O_WRONLY | O_CREAT | O_EXCL, 0o755)
  try {
    eachBlock(from, block => writeAll(target, block, to))
    changeMode(target, 0o755, to)
    synchronize(target, to)
  } finally {
    close(target)
  }
}

/** Read once from start to end, a file lies in memory in large pieces, which every start is faster by than one filled page by page. */
function readAgain(path: string): void {
  const descriptor = open(path, O_RDONLY)
  try {
    forgetPages(descriptor, path)
  } finally {
    close(descriptor)
  }
  eachBlock(path, () => {})
}

function hashOf(path: string): string {
  const hasher = new Bun.CryptoHasher('sha256')
  eachBlock(path, block => void hasher.update(block))
  return hasher.digest('hex').slice(0, 32)
}

function eachBlock(path: string, use: (block: Uint8Array) => void): void {
  const buffer = new Uint8Array(BLOCK)
  const descriptor = open(path, O_RDONLY)
  try {
    for (;;) {
      const length = readInto(descriptor, buffer, path)
      if (length === 0) return
      use(buffer.subarray(0, length))
    }
  } finally {
    close(descriptor)
  }
}

/** The folder that is meant, below another root where one is given. */
export function folderFor(into: string, root = ''): string {
  if (!into.startsWith('/'))
    throw new CniError(code.invalidEnvironment, `--into: must be an absolute path: got ${into}`)
  if (root !== '' && status(root)?.kind !== 'folder') {
    throw new CniError(code.io, `--root: ${root} is no folder`, {
      details: 'name the folder that is to become the root of the node',
    })
  }
  const folder = `${root.replace(/\/+$/, '')}${into.replace(/\/+$/, '')}`
  const above = status(folder)
  if (above !== undefined && above.kind !== 'folder')
    throw new CniError(code.io, `--into: ${folder} is no folder`)
  return folder
}
