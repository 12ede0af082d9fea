/**
 * Tells reservations of an earlier boot from those of this one, with the Go plugin's files as they are: an extended attribute
 * names the boot that a reservation was made in, whose twin is under /run and gone with a reboot. What bears no such mark (the
 * Go plugin's files, file systems without attributes) is judged by its age.
 */
import { ensureFolder, readFile, removeFile } from '../../chain/linux/files.ts'
import {
  errno,
  type FileStatus,
  isErrno,
  readAttribute,
  readLink,
  SystemError,
  setAttribute,
  symbolicLink,
} from '../../chain/linux/libc.ts'
import { RUN_FOLDER } from '../../chain/plugin/state.ts'

const TWIN = `${RUN_FOLDER}/boot`
const ATTRIBUTE = 'user.catena.boot'

/**
 * The name of this boot: the kernel's, and a number drawn when /run was empty. The number alone would outlive a reboot where
 * /run is on a disk; the kernel's alone stays where only the host's services were wiped.
 */
export function thisBoot(): string {
  const kernel = (readFile('/proc/sys/kernel/random/boot_id') ?? '').trim()
  const found = readTwin()
  if (found?.startsWith(kernel)) return found
  const drawn = `${kernel}/${Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString('hex')}`
  try {
    if (found !== undefined) removeFile(TWIN)
    ensureFolder(RUN_FOLDER)
    symbolicLink(drawn, TWIN) // a link is there with its text or not at all, and is one system call
    return drawn
  } catch (thrown) {
    if (!(thrown instanceof SystemError)) throw thrown
    return readTwin() ?? kernel // another process was first, or nothing can be written there
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
    if (!isErrno(thrown, errno.EOPNOTSUPP, errno.EPERM, errno.ENOSPC)) throw thrown
  }
}

/** A test for files that were made before the machine started; asks the machine once. */
export function earlierBoot(): (path: string, found: Pick<FileStatus, 'modified'>) => boolean {
  const boot = thisBoot()
  let started: number | undefined
  return (path, { modified }) => {
    const made = readAttribute(path, ATTRIBUTE)
    if (made !== undefined) return made !== boot
    started ??= startOfMachine()
    return modified < started
  }
}

/** Milliseconds since the epoch (`btime` of /proc/stat). */
function startOfMachine(): number {
  return Number(/^btime (\d+)$/m.exec(readFile('/proc/stat') ?? '')?.[1] ?? 0) * 1000
}
