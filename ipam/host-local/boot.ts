/**
 * Tells reservations of an earlier boot from those of this one, with the Go plugin's files as they are: an extended attribute
 * names the boot that a reservation was made in, whose twin is under /run and gone with a reboot. What bears no such mark (the
 * Go plugin's files, file systems without attributes) is judged by its age.
 */
import { ensureFolder, folderOf, readFile, removeFile } from '../../chain/linux/files.ts'
import { errno, isErrno, SystemError } from '../../chain/linux/libc/errno.ts'
import { setAttribute } from '../../chain/linux/libc/file.ts'
import { readAttribute, readLink, symbolicLink } from '../../chain/linux/libc/folder.ts'
import { status } from '../../chain/linux/libc/status.ts'
import { RUN_FOLDER } from '../../chain/plugin/state.ts'

/** Two, so that neither can be lost or broken without the other's telling: with both, reservations would turn old. */
const TWINS = [`${RUN_FOLDER}/boot`, `${RUN_FOLDER}/host-local/boot`] as const
const ATTRIBUTE = 'user.catena.boot'

/**
 * The name of this boot: the kernel's, and a number that is drawn when /run is empty. The number alone would outlive a reboot where
 * /run is on a disk; the kernel's alone stays where only the host's services were wiped. Never replaced: two processes that did
 * so at once would take each other's reservations for old.
 */
function thisBoot(): string {
  const [first, second] = TWINS.map(readTwin)
  const isKept = first !== undefined && second !== undefined
  return `${kernelBoot()}/${isKept ? first : keepTwins(first ?? second)}`
}

/** The kernel's own name of this boot. */
export function kernelBoot(): string {
  return (readFile('/proc/sys/kernel/random/boot_id') ?? '').trim()
}

const drawTwin = () => crypto.getRandomValues(new Uint8Array(8)).toHex()

/** Writes what is not there, or broken. Of two processes that draw, the first one's number is taken by both; '' where none can be kept. */
function keepTwins(known: string | undefined): string {
  let kept = known
  for (const path of TWINS) kept = readTwin(path) ?? writeTwin(path, kept ?? drawTwin()) ?? kept
  return kept ?? ''
}

function writeTwin(path: string, text: string): string | undefined {
  try {
    ensureFolder(folderOf(path))
    return linkTwin(path, text)
  } catch (thrown) {
    if (!(thrown instanceof SystemError)) throw thrown
    return undefined // nothing can be written there
  }
}

/** A link is there with its text or not at all, and is one system call. */
function linkTwin(path: string, text: string): string {
  try {
    symbolicLink(text, path)
    return text
  } catch (thrown) {
    const found = readTwin(path)
    if (found !== undefined) return found // another process was first
    if (!isErrno(thrown, errno.EEXIST)) throw thrown
    removeFile(path) // it is broken
    symbolicLink(text, path)
    return text
  }
}

/** undefined where there is none, or what is there is none. */
function readTwin(path: string): string | undefined {
  try {
    const text = readLink(path)
    return /^[0-9a-f]{16}$/.test(text) ? text : undefined
  } catch (thrown) {
    if (isErrno(thrown, errno.ENOENT, errno.ENOTDIR, errno.EINVAL)) return undefined
    throw thrown
  }
}

/** Marks an open file as made in this boot, where the file system can. */
export function markAsOfThisBoot(descriptor: number): void {
  try {
    setAttribute(descriptor, ATTRIBUTE, thisBoot())
  } catch (thrown) {
    if (!(thrown instanceof SystemError)) throw thrown // no attributes there, no room or no right: the age has to do
  }
}

/** What the file of a reservation tells without being read. */
export type Age = 'absent' | 'empty' | 'of this boot' | 'of an earlier boot'

/** Tells the age of files; asks the machine once. What cannot be told is of this boot: it is not taken over. */
export function agesOfFiles(): (path: string) => Age {
  const boot = thisBoot()
  let started: number | undefined
  const ageOf = (path: string): Age => {
    const mark = readAttribute(path, ATTRIBUTE)
    if (mark === boot) return 'of this boot' // and whole: the name comes after text and mark
    const found = status(path, { follow: false })
    if (found === undefined) return 'absent'
    if (found.kind === 'folder') return 'of this boot'
    if (found.kind === 'other' || found.size === 0) return 'empty'
    if (mark !== undefined) return 'of an earlier boot'
    started ??= startOfMachine()
    return found.modified < started ? 'of an earlier boot' : 'of this boot'
  }
  return path => {
    try {
      return ageOf(path)
    } catch (thrown) {
      if (thrown instanceof SystemError) return 'of this boot'
      throw thrown
    }
  }
}

/** Milliseconds since the epoch (`btime` of /proc/stat). */
function startOfMachine(): number {
  return Number(/^btime (\d+)$/m.exec(readFile('/proc/stat') ?? '')?.[1] ?? 0) * 1000
}
