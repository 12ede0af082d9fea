/**
 * A twin of the node in which ADD can be carried out: namespaces of this process's own for network and mounts, made to look like
 * the host's and the container's. What is written goes to memory, and all of it ends with the process.
 */
import { folderOf, listFolder } from '../../linux/files.ts'
import { errno, isErrno, SystemError } from '../../linux/libc/errno.ts'
import { close, O_RDONLY, open } from '../../linux/libc/file.ts'
import { makeFolder, unlink } from '../../linux/libc/folder.ts'
import { mount, unmount, unshare } from '../../linux/libc/process.ts'
import { status } from '../../linux/libc/status.ts'
import {
  createNamespace,
  inNamespace,
  namespaceState,
  openNamespace,
  openNewNamespace,
} from '../../linux/netns.ts'
import { CniError, code } from '../../protocol/error.ts'
import type { Where } from './calls.ts'
import { captureRuleset, restoreRuleset } from './ruleset.ts'
import { type CapturedStack, captureStack, restoreStack } from './stack.ts'
import { restoreByTools } from './tables.ts'

const CLONE_NEWNS = 0x20000 // sched.h
const CLONE_NEWNET = 0x40000000
const MS_BIND = 4096 // linux/mount.h
const MS_REC = 16384
const MS_PRIVATE = 1 << 18
const MNT_DETACH = 2

/** Where plugins, runtimes and the tools that they call write. */
const WRITTEN = ['/run', '/var/lib/cni', '/var/lib/catena', '/run/cni', '/run/catena']
/** Daemons outside of the twin: what they are asked would be done to the node. */
const DAEMONS = ['/run/cni/dhcp.sock', '/run/dbus/system_bus_socket']

export interface Twin {
  /** The container's namespace in the twin. */
  netns: string
  /** Whether the container's namespace is there on the node. */
  isThere: boolean
  /** What is not as on the node, in words. */
  lacking: string[]
  /** What the node had. */
  captured: Readonly<Record<Where, CapturedStack | undefined>>
  /** Where a file of the node is to be read that the twin may have another of. */
  original(path: string): string
}

/** Links that the twin is to be without, by their names. */
export type Without = Readonly<Record<Where, readonly string[]>>

/** Enters for good: this process never sees the node again. `folders`: more that plugins write to. */
export function enterTwin(netns: string, folders: readonly string[], without: Without): Twin {
  const isThere = namespaceState(netns) === 'present'
  const home = openNamespace('/proc/thread-self/ns/net')
  const host = captureStack()
  const ruleset = captureRuleset()
  const container = isThere ? inNamespace(netns, captureStack) : undefined
  try {
    unshare(CLONE_NEWNS | CLONE_NEWNET)
  } catch (thrown) {
    if (!isErrno(thrown, errno.EPERM)) throw thrown
    throw new CniError(code.internal, 'plan needs namespaces of its own to try ADD in', {
      details: `${(thrown as Error).message}; ADD itself needs root as well`,
      cause: thrown,
    })
  }
  mount('none', '/', { flags: MS_REC | MS_PRIVATE })
  const original = coverFolders([...WRITTEN, ...folders])
  for (const socket of DAEMONS) unlink(socket)
  showOwnDevices()
  const outside = openNewNamespace()
  const lacking = [
    ...restoreStack(host, outside, without.host),
    ...restoreByTools(home, restoreRuleset(ruleset)),
  ]
  const place = makeNamespace(netns)
  if (container)
    lacking.push(...inNamespace(place, () => restoreStack(container, outside, without.container)))
  return { netns: place, isThere, lacking, captured: { host, container }, original }
}

/** /sys shows the devices of the namespace that mounted it. */
function showOwnDevices(): void {
  try {
    mount('sysfs', '/sys', { type: 'sysfs', flags: 0 })
  } catch (thrown) {
    if (!(thrown instanceof SystemError)) throw thrown // where it may not be mounted, only host-device looks there
  }
}

/** A new namespace at the path of the container's; beside it where nothing can be put there, as for a process's own. */
function makeNamespace(netns: string): string {
  const place = netns.startsWith('/proc/') ? '/run/netns/catena-plan' : netns
  if (status(place) !== undefined) {
    const own = openNewNamespace()
    try {
      mount(`/proc/self/fd/${own}`, place, { flags: MS_BIND })
    } finally {
      close(own)
    }
    return place
  }
  makeFolders(folderOf(place))
  createNamespace(place)
  return place
}

function makeFolders(path: string): void {
  if (path === '' || status(path)) return
  makeFolders(folderOf(path))
  makeFolder(path, 0o755)
}

/** Layers in memory over folders: what is there is read, what is written stays in the layer. Answers where the original of a file is. */
function coverFolders(folders: readonly string[]): Twin['original'] {
  const covered = [...new Set(folders.map(nearest))].toSorted((one, other) => one.length - other.length)
  // below a layer mounts are not seen: each folder is opened before the first one is covered
  const opened = covered.map(folder => ({ folder, descriptor: open(folder, O_RDONLY) }))
  const scratch = scratchFolder(covered)
  mount('plan', scratch, { type: 'tmpfs', flags: 0, data: 'mode=700' })
  for (const [index, { folder, descriptor }] of opened.entries()) {
    const [upper, work] = [`${scratch}/${index}`, `${scratch}/${index}-work`]
    makeFolder(upper, 0o755)
    makeFolder(work, 0o755)
    makeFoldersIn(folder)
    cover(folder, `lowerdir=/proc/self/fd/${descriptor},upperdir=${upper},workdir=${work}`)
  }
  unmount(scratch, MNT_DETACH)
  return path => {
    const found = opened.findLast(({ folder }) => path.startsWith(`${folder}/`))
    return found ? `/proc/self/fd/${found.descriptor}${path.slice(found.folder.length)}` : path
  }
}

/** What was a mount of its own may be missing in the layer above. */
function makeFoldersIn(folder: string): void {
  if (!status(folder)) makeFolders(folder)
}

function cover(folder: string, data: string): void {
  try {
    mount('plan', folder, { type: 'overlay', flags: 0, data })
  } catch (thrown) {
    if (!isErrno(thrown, errno.EPERM, errno.EINVAL)) throw thrown
    mount('plan', folder, { type: 'overlay', flags: 0, data: `${data},userxattr` }) // in a user namespace
  }
}

/** The folder, or what is there of those above. */
const nearest = (path: string): string =>
  path === '' ? '/' : status(path)?.kind === 'folder' ? path : nearest(folderOf(path))

/** A folder that is not needed here: its content is hidden for a moment. */
function scratchFolder(covered: readonly string[]): string {
  const isFree = (path: string) =>
    status(path)?.kind === 'folder' && !covered.some(each => each === path || each.startsWith(`${path}/`))
  const usual = ['/mnt', '/media', '/srv', '/opt', '/boot', '/home']
  const found = [...usual, ...(listFolder('/') ?? []).map(name => `/${name}`)].find(isFree)
  if (found !== undefined) return found
  throw new CniError(code.internal, 'plan finds no folder to put a layer in')
}
