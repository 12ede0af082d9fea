/**
 * Who calls, as the kernel says it and not as the caller does. A plugin that runs here must see what it would see in the caller's
 * own process, and may do what it may: whoever is not exactly the service's equal does the call himself.
 */
import { readFile } from '../linux/files.ts'
import { errno, isErrno } from '../linux/libc/errno.ts'
import { close, O_DIRECTORY, O_RDONLY, open, waitReadable } from '../linux/libc/file.ts'
import { readLink } from '../linux/libc/folder.ts'
import { type FileStatus, status } from '../linux/libc/status.ts'
import { type Peer, peerProcess } from '../linux/libc/unix-socket.ts'
import type { Refusal } from './scoreboard.ts'

/** What makes two processes equal, below their folders in /proc: files by device and inode. */
const sameFiles: readonly (readonly [name: string, otherwise: Refusal])[] = [
  ['exe', 'another executable'],
  ['ns/net', 'another network namespace'],
  ['ns/mnt', 'another mount namespace'],
  ['ns/user', 'another user namespace'],
  ['root', 'another root folder'],
]

/** Lines of /proc/<pid>/status that say what a process may do. */
const rights = ['Uid', 'Gid', 'CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp']

/** What a process is. */
export interface Identity {
  files: readonly (FileStatus | undefined)[]
  /** Of each of `rights`. */
  rights: readonly string[]
  /** The label that SELinux or AppArmor gives it; undefined where there is neither. */
  label: string | undefined
  /** The process that has started it. */
  parent: number
}

/** The identity of a process by its folder: "/proc/4711", or an open one. Throws where it has gone. */
export function identityIn(folder: string, isLabelled = true): Identity {
  const text = readFile(`${folder}/status`) ?? ''
  return {
    files: sameFiles.map(([name]) => status(`${folder}/${name}`)),
    rights: rights.map(name => lineOf(text, name)),
    label: isLabelled ? labelIn(folder) : undefined,
    parent: Number(lineOf(text, 'PPid')),
  }
}

/** What stands behind a name in /proc/<pid>/status. By hand, as every call comes here: expressions cost ten times as much. */
function lineOf(text: string, name: string): string {
  const start = text.indexOf(`\n${name}:`)
  return start < 0 ? '' : text.slice(start + name.length + 2, text.indexOf('\n', start + 1))
}

function labelIn(folder: string): string | undefined {
  try {
    return readFile(`${folder}/attr/current`)?.replaceAll('\0', '').trim()
  } catch (thrown) {
    if (isErrno(thrown, errno.EINVAL, errno.EACCES)) return undefined // no security module that labels
    throw thrown
  }
}

/** What sets a caller apart from the service; undefined when nothing does. */
export function differenceOf(caller: Identity, own: Identity): Refusal | undefined {
  for (let index = 0; index < sameFiles.length; index++) {
    const [name, otherwise] = sameFiles[index] ?? ['', 'gone']
    const [theirs, ours] = [caller.files[index], own.files[index]]
    if (theirs === undefined || ours === undefined) return 'gone'
    if (!theirs.isOf(ours, { mount: name === 'root' })) return otherwise
  }
  for (let index = 0; index < rights.length; index++)
    if (caller.rights[index] !== own.rights[index]) return 'other rights'
  return caller.label === own.label ? undefined : 'another security label'
}

/** A caller that may be served: an open folder of /proc, which stays his own whoever gets his number. */
export interface Caller extends Disposable {
  /** The folder's path through this process's descriptor. */
  folder: string
  pid: number
  /** The process that has started it. */
  parent: number
}

/** Judges who has connected; answers why he is refused, or the caller. */
export function judge(connection: number, { process, user }: Peer, own: Identity): Refusal | Caller {
  if (user !== 0) return 'not root'
  if (process <= 0) return 'another user namespace' // a number that means nothing here
  try {
    const folder = open(`/proc/${process}`, O_RDONLY | O_DIRECTORY)
    try {
      if (hasEnded(connection)) return refuse(folder, 'gone')
      const path = `/proc/self/fd/${folder}`
      const identity = identityIn(path, own.label !== undefined)
      const difference = differenceOf(identity, own)
      if (difference) return refuse(folder, difference)
      const { parent } = identity
      return { folder: path, pid: process, parent, [Symbol.dispose]: () => close(folder) }
    } catch (thrown) {
      close(folder)
      throw thrown
    }
  } catch (thrown) {
    if (isErrno(thrown, errno.ENOENT, errno.ESRCH, errno.EINVAL)) return 'gone'
    throw thrown
  }
}

function refuse(folder: number, why: Refusal): Refusal {
  close(folder)
  return why
}

/** Whether the process that connected has ended: what was opened by its number may be another's then. Not known before Linux 6.5. */
function hasEnded(connection: number): boolean {
  const descriptor = peerProcess(connection)
  if (descriptor === undefined) return false
  try {
    return waitReadable(descriptor, 0)
  } finally {
    close(descriptor)
  }
}

/** How many links a path may lead over (path_resolution(7)). */
const MOST_LINKS = 40

/**
 * Whether a path means another thing in the caller's process than in this one: what begins where the process is, and what leads over
 * /proc/self, /proc/thread-self and /dev/fd, by whatever links.
 */
export function isOfOneProcess(path: string): boolean {
  if (!path.startsWith('/')) return true
  let links = 0
  let way = ''
  const names = path.split('/').toReversed()
  for (let name = names.pop(); name !== undefined; name = names.pop()) {
    if (name === '' || name === '.') continue
    if (name === '..') {
      way = way.slice(0, Math.max(0, way.lastIndexOf('/')))
      continue
    }
    const here = `${way}/${name}`
    if (here === '/proc/self' || here === '/proc/thread-self') return true
    const target = here.startsWith('/proc/') ? undefined : linkAt(here) // below a process's folder links are no paths
    if (target === undefined) way = here
    else {
      if (++links > MOST_LINKS) return false // ELOOP, for whoever opens it
      if (target.startsWith('/')) way = ''
      names.push(...target.split('/').toReversed())
    }
  }
  return false
}

/** Where a link leads; undefined for what is none. */
function linkAt(path: string): string | undefined {
  try {
    return readLink(path)
  } catch (thrown) {
    if (isErrno(thrown, errno.EINVAL, errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP))
      return undefined
    throw thrown
  }
}
