/** Which addresses are in use on this machine: on any link of any network namespace that can be found. */
import { listFolder } from './files.ts'
import { listAddresses } from './netlink/address.ts'
import { openRoute } from './netlink/socket.ts'
import { inNamespace, namespaceIdentity, namespaceState } from './netns.ts'

const FOLDERS = ['/run/netns', '/run/docker/netns']

/** Paths of all namespaces: those with a name, and those that processes are in. Each namespace once. */
function namespacePaths(): string[] {
  const named = FOLDERS.flatMap(folder => (listFolder(folder) ?? []).map(name => `${folder}/${name}`))
  const processes = (listFolder('/proc') ?? [])
    .filter(name => /^\d+$/.test(name))
    .map(id => `/proc/${id}/ns/net`)
  const found = new Map<string, string>()
  for (const path of [...named, ...processes]) {
    const identity = identityOf(path)
    if (identity !== undefined && !found.has(identity)) found.set(identity, path)
  }
  return [...found.values()]
}

/** Processes come and go while they are looked at, and not all may be looked at. */
function identityOf(path: string): string | undefined {
  try {
    return namespaceState(path) === 'present' ? namespaceIdentity(path) : undefined
  } catch {
    return undefined
  }
}

/** Every address on every link. Costs about a tenth of a millisecond a namespace: for rare decisions only. */
export function liveAddresses(): Set<string> {
  const live = new Set<string>()
  for (const path of namespacePaths()) {
    try {
      using route = inNamespace(path, openRoute)
      for (const { address } of listAddresses(route)) live.add(address)
    } catch {
      // it ended meanwhile
    }
  }
  return live
}
