/** What a registry holds: a handle for each lease, by the file that it is kept in, and what a handle gets of the daemon. */
import { ensureFolder, listFolder, removeFile, writeAtomically } from '../../../chain/linux/files.ts'
import { status } from '../../../chain/linux/libc/status.ts'
import { namespaceIdentity } from '../../../chain/linux/netns.ts'
import { clientIdentifier } from '../configuration.ts'
import type { Family, LeaseHandle, Setting } from './family.ts'
import type { Options } from './flags.ts'
import { ipv4 } from './ipv4.ts'
import { ipv6 } from './ipv6.ts'
import type { Facts } from './lease-file.ts'
import { type Log, limited } from './log.ts'
import { fileName } from './state.ts'

export const families: readonly Family[] = [ipv4 as Family, ipv6 as Family]

export interface RegistryState {
  options: Options
  log: Log
  folder: string
  /** By the name of the file that they are kept in. */
  handles: Map<string, LeaseHandle>
  clock(): number
}

/** Puts a handle into the registry, in the place of another one of the same attachment and family. */
export function enter(
  registry: RegistryState,
  { family, own }: { family: Family; own: Facts },
  hold: (setting: Setting) => LeaseHandle,
): LeaseHandle {
  const { containerId, ifname, network } = own
  const { clock, folder, options } = registry
  const identifier = clientIdentifier(containerId, network, ifname)
  const name = fileName(identifier, family.ending)
  const path = `${folder}/${name}`
  removeFile(`${folder}/${fileName(identifier)}`) // the note of a DEL before this ADD
  const handle = hold({
    identifier,
    options,
    context: {
      clock,
      random: Math.random,
      log: limited(clock, (event, more) =>
        registry.log(event, {
          client: identifier,
          network,
          container: containerId,
          interface: ifname,
          ...more,
        }),
      ),
      save(lease) {
        ensureFolder(folder, 0o700)
        writeAtomically(path, family.encode(own, lease, Date.now() - clock()))
      },
      forget: () => void removeFile(path),
      inhabited: () => isInhabited(options.hostPrefix + own.netns, own.netnsIdentity),
    },
  })
  registry.handles.set(name, handle)
  return handle
}

/** A namespace whose path has gone may still have processes in it; where it has none, its addresses are unused. */
function isInhabited(path: string, identity: string): boolean {
  if (namespaceIdentity(path) === identity) return true
  const processes = (listFolder('/proc') ?? []).filter(name => /^\d+$/.test(name))
  return processes.some(name => {
    try {
      const found = status(`/proc/${name}/ns/net`)
      return found !== undefined && `${found.device}/${found.inode}` === identity
    } catch {
      return false // it ended, or is not ours to look at
    }
  })
}
