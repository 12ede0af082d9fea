/** The network namespaces of a machine: those that a mount keeps, and those that processes are in. Changes nothing. */
import { listFolder, readFile } from '../linux/files.ts'
import { errno, isErrno, SystemError } from '../linux/libc/errno.ts'
import { namespaceIdentity, namespaceState, ownNamespaceIdentity } from '../linux/netns.ts'

export interface FoundNamespace {
  /** Device and inode. */
  identity: string
  /** Where it is mounted. */
  paths: string[]
  /** Processes in it. */
  processes: number[]
}

/** Where runtimes keep namespaces: a plain file there is what an unmounted one has left, or one that is being made. */
const FOLDERS = ['/run/netns', '/run/docker/netns']

/** Paths that namespaces are mounted on, wherever a runtime has them (proc_pid_mountinfo(5)). */
function mountedPaths(): string[] {
  const lines = readFile('/proc/self/mountinfo')?.split('\n') ?? []
  return lines
    .filter(line => line.includes(' - nsfs ') && line.split(' ')[3]?.startsWith('net:'))
    .map(line =>
      (line.split(' ')[4] ?? '').replace(/\\(\d{3})/g, (_, octal) =>
        String.fromCharCode(Number.parseInt(octal, 8)),
      ),
    )
}

/** Undefined of what has ended or is being unmounted while it is looked at, and of what one may not look at. */
function identityOf(path: string): string | undefined {
  try {
    return namespaceState(path) === 'present' ? namespaceIdentity(path) : undefined
  } catch (thrown) {
    if (thrown instanceof SystemError) return undefined
    throw thrown
  }
}

/** All namespaces that can be found but the own one. */
export function findNamespaces(): FoundNamespace[] {
  const found = new Map<string, FoundNamespace>()
  const own = ownNamespaceIdentity()
  const note = (path: string, add: (namespace: FoundNamespace) => void) => {
    const identity = identityOf(path)
    if (identity === undefined || identity === own) return
    const known = found.get(identity) ?? { identity, paths: [], processes: [] }
    found.set(identity, known)
    add(known)
  }
  for (const path of new Set(mountedPaths())) note(path, ({ paths }) => paths.push(path))
  for (const name of listFolder('/proc') ?? []) {
    if (/^\d+$/.test(name)) note(`/proc/${name}/ns/net`, ({ processes }) => processes.push(Number(name)))
  }
  return [...found.values()]
}

/** Files in the folders of namespaces that are none. */
export function findDeadMounts(): string[] {
  return FOLDERS.flatMap(folder =>
    (listFolder(folder) ?? []).map(name => `${folder}/${name}`).filter(isDead),
  ).toSorted()
}

function isDead(path: string): boolean {
  try {
    return namespaceState(path) === 'not a namespace'
  } catch (thrown) {
    if (isErrno(thrown, errno.EACCES, errno.EPERM)) return false
    throw thrown
  }
}

/** What a process is called; undefined when it has gone. */
export function processName(process: number): string | undefined {
  try {
    return readFile(`/proc/${process}/comm`)?.trim()
  } catch {
    return undefined
  }
}
