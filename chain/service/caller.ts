/**
 * Who calls, as the kernel says it and not as the caller does. A plugin that runs here must see what it would see in the caller's
 * own process, and may do what it may: whoever is not exactly the service's equal does the call himself.
 */
import { decodeText } from '../linux/bytes.ts'
import { errno, isErrno, SystemError } from '../linux/libc/errno.ts'
import {
  close,
  O_DIRECTORY,
  O_RDONLY,
  open,
  openIn,
  openThroughPaths,
  readAll,
  readInto,
  waitReadable,
} from '../linux/libc/file.ts'
import { linkTarget } from '../linux/libc/folder.ts'
import { type FileStatus, fileSystemTypeOf, statusFrom } from '../linux/libc/status.ts'
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

/** Lines of /proc/<pid>/status that say what a process may do, in the kernel's order. */
const rights = ['Uid', 'Gid', 'CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp'].map(name => `\n${name}:`)
const PARENT = '\nPPid:' // before them

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

/** The identity of a process by the path of its folder: "/proc/4711". Throws where it has gone. */
export function identityIn(path: string): Identity {
  const folder = open(path, O_RDONLY | O_DIRECTORY)
  try {
    return identityOf(folder)
  } finally {
    close(folder)
  }
}

/** The identity of a process by its open folder. */
function identityOf(folder: number, isLabelled = true): Identity {
  const text = textIn(folder, 'status')
  const parent = valueIn(text, PARENT)
  let { end } = parent
  return {
    files: sameFiles.map(([name]) => statusFrom(folder, name)),
    rights: rights.map(name => {
      const found = valueIn(text, name, end)
      end = found.end
      return found.value
    }),
    label: isLabelled ? labelIn(folder) : undefined,
    parent: Number(parent.value),
  }
}

const buffer = new Uint8Array(16_384)

/** The text of a file of /proc, which the kernel hands over in one piece where there is room for it. */
function textIn(folder: number, name: string): string {
  const descriptor = openIn(folder, name, O_RDONLY)
  try {
    const length = readInto(descriptor, buffer, name)
    const text = decodeText(buffer.subarray(0, length))
    return length < buffer.length ? text : text + decodeText(readAll(descriptor, name))
  } finally {
    close(descriptor)
  }
}

/** What stands behind a name, and where it ends. By hand, as every call comes here: expressions cost ten times as much. */
function valueIn(text: string, name: string, from = 0): { value: string; end: number } {
  const next = text.indexOf(name, from)
  const start = next < 0 ? text.indexOf(name) : next
  if (start < 0) return { value: '', end: from }
  const end = text.indexOf('\n', start + 1)
  return { value: text.slice(start + name.length, end), end }
}

function labelIn(folder: number): string | undefined {
  try {
    return textIn(folder, 'attr/current').replaceAll('\0', '').trim()
  } catch (thrown) {
    if (isErrno(thrown, errno.EINVAL, errno.EACCES, errno.ENOENT)) return undefined // no security module that labels
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
      const identity = identityOf(folder, own.label !== undefined)
      const difference = differenceOf(identity, own)
      if (difference) return refuse(folder, difference)
      return {
        folder: `/proc/self/fd/${folder}`,
        pid: process,
        parent: identity.parent,
        [Symbol.dispose]: () => close(folder),
      }
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

/**
 * Whether a path means another thing in the caller's process than in this one: what begins where the process is, and what leads over
 * /proc/self, /proc/thread-self and /dev/fd, by whatever links.
 */
export function isOfOneProcess(path: string): boolean {
  return !path.startsWith('/') || (!leadsOutOfProc(path) && leadsOverOwn(path))
}

const PROC_SUPER_MAGIC = 0x9fa0 // linux/magic.h

/**
 * Whether the kernel finds something outside of /proc, without a link on the way that only it can follow: so no process's folder has led
 * there. It says so at once, and the name is looked at part by part only where it does not.
 */
function leadsOutOfProc(path: string): boolean {
  const descriptor = openThroughPaths(path)
  if (descriptor === undefined) return false
  try {
    return fileSystemTypeOf(descriptor) !== PROC_SUPER_MAGIC
  } finally {
    close(descriptor)
  }
}

/** How many links a path may lead over (path_resolution(7)). */
const MOST_LINKS = 40

function leadsOverOwn(path: string): boolean {
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
  const target = linkTarget(path)
  if (typeof target === 'string') return target
  if (noLink.includes(target)) return undefined
  throw new SystemError(`readlink ${path}`, target)
}

const noLink: readonly number[] = [errno.EINVAL, errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP]
