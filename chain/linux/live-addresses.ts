/** Which addresses are in use on this machine: on any link of any network namespace that can be found. */
import { listFolder, readFile } from './files.ts'
import { errno, isErrno } from './libc.ts'
import { listAddresses } from './netlink/address.ts'
import { openRoute } from './netlink/socket.ts'
import { inNamespace, namespaceIdentity, namespaceState } from './netns.ts'

/** Namespaces that are kept by a mount, wherever a runtime keeps them (proc_pid_mountinfo(5)). */
function mountedPaths(): string[] {
  const lines = (readFile('/proc/self/mountinfo') ?? '').split('\n').filter(line => line.includes(' - nsfs '))
  return lines.map(line =>
    (line.split(' ')[4] ?? '').replace(/\\(\d{3})/g, (_, octal) =>
      String.fromCharCode(Number.parseInt(octal, 8)),
    ),
  )
}

/** Paths of all namespaces: those with a name, and those that processes are in. Each namespace once. */
function namespacePaths(): string[] {
  const processes = (listFolder('/proc') ?? [])
    .filter(name => /^\d+$/.test(name))
    .map(id => `/proc/${id}/ns/net`)
  const found = new Map<string, string>()
  for (const path of [...mountedPaths(), ...processes]) {
    const identity = identityOf(path)
    if (identity !== undefined && !found.has(identity)) found.set(identity, path)
  }
  return [...found.values()]
}

/** Processes come and go while they are looked at. One that may not be looked at stays, to be refused when it is opened. */
function identityOf(path: string): string | undefined {
  try {
    return namespaceState(path) === 'present' ? namespaceIdentity(path) : undefined
  } catch (thrown) {
    return isErrno(thrown, errno.EPERM, errno.EACCES) ? path : undefined
  }
}

/**
 * Every address on every link; undefined when a namespace may not be looked into, and so nothing is known. Costs about a
 * tenth of a millisecond a namespace: for rare decisions only.
 */
export function liveAddresses(): Set<string> | undefined {
  const live = new Set<string>()
  for (const path of namespacePaths()) {
    try {
      using route = inNamespace(path, openRoute)
      for (const { address } of listAddresses(route)) live.add(address)
    } catch (thrown) {
      if (isErrno(thrown, errno.EPERM, errno.EACCES)) return undefined
      // it ended meanwhile, or is a namespace of another kind
    }
  }
  return live
}
