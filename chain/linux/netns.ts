/** Network namespaces: identity, entering, making and removing. The only file that calls setns. */
import { errno, isErrno, SystemError } from './libc/errno.ts'
import { close, O_CREAT, O_EXCL, O_NONBLOCK, O_RDONLY, open } from './libc/file.ts'
import { unlink } from './libc/folder.ts'
import { mount, setNamespace, unmount, unshare } from './libc/process.ts'
import { fileSystemType, status } from './libc/status.ts'
import { endStranded } from './stranded.ts'

const CLONE_NEWNET = 0x40000000 // sched.h
const NSFS_MAGIC = 0x6e736673 // linux/magic.h
const PROC_SUPER_MAGIC = 0x9fa0
const MS_BIND = 4096 // linux/mount.h
const MNT_DETACH = 2
const OWN = '/proc/thread-self/ns/net'

/** A body that runs in another namespace must end before the thread goes home: promises do not compile. */
export type NotAsync<T> = T extends PromiseLike<unknown> ? never : T

/** What a namespace path turned out to be. */
export type NamespaceState = 'present' | 'absent' | 'not a namespace'

/** Looks at a namespace path without entering. A leftover regular file is 'not a namespace'. */
export function namespaceState(path: string): NamespaceState {
  if (path === '') return 'absent'
  try {
    const type = fileSystemType(path)
    return type === NSFS_MAGIC || type === PROC_SUPER_MAGIC ? 'present' : 'not a namespace'
  } catch (thrown) {
    if (isErrno(thrown, errno.ENOENT, errno.ENOTDIR, errno.ESRCH)) return 'absent'
    throw thrown
  }
}

/**
 * Opens a namespace by path; the descriptor names it also after the path has gone. Looks first what it is: a pipe would wait
 * for a writer, and some devices do something when they are opened.
 */
export function openNamespace(path: string): number {
  if (namespaceState(path) === 'not a namespace')
    throw new SystemError(`enter ${path}, which is no network namespace`, errno.EINVAL)
  return open(path, O_RDONLY | O_NONBLOCK)
}

/** Device and inode of a namespace: equal for two paths to the same one. */
export function namespaceIdentity(path: string): string | undefined {
  const found = status(path)
  return found && `${found.device}/${found.inode}`
}

/** The identity of the namespace that this thread is in. */
export function ownNamespaceIdentity(): string | undefined {
  return namespaceIdentity(OWN)
}

/**
 * Runs a body with the thread in the namespace (a path, or a descriptor) and is home again afterwards, whatever
 * happens. Sockets and /proc/sys/net files that the body opens stay bound to the namespace and can be used outside.
 */
export function inNamespace<T>(namespace: string | number, body: () => NotAsync<T>): NotAsync<T> {
  const target = typeof namespace === 'number' ? namespace : openNamespace(namespace)
  try {
    const home = open(OWN, O_RDONLY)
    try {
      setNamespace(target, CLONE_NEWNET, `network namespace ${namespace}`)
      try {
        return body()
      } finally {
        goHome(home)
      }
    } finally {
      close(home)
    }
  } finally {
    if (typeof namespace === 'string') close(target)
  }
}

const ATTEMPTS = 3

/** What the kernel lacks for it, such as memory, may be there a moment later; the right to it will not. */
function goHome(home: number): void {
  for (let attempt = 1; ; attempt++) {
    try {
      setNamespace(home, CLONE_NEWNET, 'the home network namespace')
      return
    } catch (thrown) {
      if (attempt < ATTEMPTS && !isErrno(thrown, errno.EPERM)) continue
      endStranded(thrown as Error, 'namespace')
    }
  }
}

/** Opens a new namespace that lives as long as the descriptor or what is opened inside. */
export function openNewNamespace(): number {
  const home = open(OWN, O_RDONLY)
  try {
    unshare(CLONE_NEWNET)
    try {
      return open(OWN, O_RDONLY)
    } finally {
      goHome(home)
    }
  } finally {
    close(home)
  }
}

/**
 * Makes a namespace and keeps it at a path by a bind mount, as `ip netns add` does; its folder must exist.
 * A path that exists already is refused with EEXIST.
 */
export function createNamespace(path: string): void {
  close(open(path, O_RDONLY | O_CREAT | O_EXCL, 0o444))
  const home = open(OWN, O_RDONLY)
  try {
    unshare(CLONE_NEWNET)
    try {
      mount(OWN, path, { flags: MS_BIND })
    } finally {
      goHome(home)
    }
  } catch (thrown) {
    removeNamespace(path)
    throw thrown
  } finally {
    close(home)
  }
}

/** Unmounts a namespace's path and deletes the file; the kernel drops the namespace with its last user. */
export function removeNamespace(path: string): 'removed' | 'absent' {
  if (status(path) === undefined) return 'absent'
  try {
    unmount(path, MNT_DETACH)
  } catch (thrown) {
    if (!isErrno(thrown, errno.EINVAL)) throw thrown // EINVAL: nothing is mounted there
  }
  unlink(path)
  return 'removed'
}
