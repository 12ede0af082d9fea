/**
 * Tells reservations of an earlier boot from those of this one, with the Go plugin's files as they are: an extended attribute
 * names the boot that a reservation was made in, whose twin is under /run and gone with a reboot. What bears no such mark (the
 * Go plugin's files, file systems without attributes) is judged by its age.
 */
import { ensureFolder, readFile } from '../../chain/linux/files.ts'
import {
  errno,
  isErrno,
  readAttribute,
  readLink,
  SystemError,
  setAttribute,
  status,
  symbolicLink,
} from '../../chain/linux/libc.ts'
import { RUN_FOLDER } from '../../chain/plugin/state.ts'

const TWIN = `${RUN_FOLDER}/boot`
const ATTRIBUTE = 'user.catena.boot'

/**
 * The name of this boot: the kernel's, and a number that is drawn when /run is empty. The number alone would outlive a reboot where
 * /run is on a disk; the kernel's alone stays where only the host's services were wiped. Never replaced: two processes that did
 * so at once would take each other's reservations for old.
 */
function thisBoot(): string {
  return `${kernelBoot()}/${readTwin() ?? drawTwin()}`
}

/** The kernel's own name of this boot. */
export function kernelBoot(): string {
  return (readFile('/proc/sys/kernel/random/boot_id') ?? '').trim()
}

function drawTwin(): string {
  const drawn = Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString('hex')
  try {
    ensureFolder(RUN_FOLDER)
    symbolicLink(drawn, TWIN) // a link is there with its text or not at all, and is one system call
    return drawn
  } catch (thrown) {
    if (!(thrown instanceof SystemError)) throw thrown
    return readTwin() ?? '' // another process was first, or nothing can be written there
  }
}

function readTwin(): string | undefined {
  try {
    return readLink(TWIN)
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

/** Tells the age of files; asks the machine once. What cannot be told is of this boot: nobody takes it over. */
export function agesOfFiles(): (path: string) => Age {
  const boot = thisBoot()
  let started: number | undefined
  const ageOf = (path: string): Age => {
    const mark = readAttribute(path, ATTRIBUTE)
    if (mark === boot) return 'of this boot' // and whole: the name comes after text and mark
    const found = status(path)
    if (found === undefined) return 'absent'
    if (found.size === 0) return 'empty'
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
