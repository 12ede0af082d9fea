/** What an earlier daemon left: leases go on where their namespace and link are still there, and are given back where they are not. */
import { listFolder, readState, removeFile, TEMPORARY_PREFIX } from '../../../chain/linux/files.ts'
import { namespaceIdentity } from '../../../chain/linux/netns.ts'
import { toCniError } from '../../../chain/protocol/error.ts'
import { clientIdentifier } from '../configuration.ts'
import { type ClientLink, closeClientLink, openClientLink } from '../link/client-link.ts'
import { enter, families, type RegistryState } from './handles.ts'
import type { Facts } from './lease-file.ts'
import { fileName, isLeaseFile, isNoteFile } from './state.ts'

/** Takes up every lease on disk; what is unreadable is told and removed. A note says what was deleted while no daemon ran. */
export function resume(registry: RegistryState): void {
  const names = listFolder(registry.folder) ?? []
  const notes = new Set(names.filter(isNoteFile))
  for (const name of names.filter(isLeaseFile)) {
    try {
      resumeOne(registry, name, notes)
    } catch (thrown) {
      registry.log('error', { file: `${registry.folder}/${name}`, error: toCniError(thrown).message })
    }
  }
  for (const name of names.filter(name => isNoteFile(name) || name.startsWith(TEMPORARY_PREFIX))) {
    removeFile(`${registry.folder}/${name}`)
  }
}

function resumeOne(registry: RegistryState, name: string, notes: ReadonlySet<string>): void {
  const { clock, log, options } = registry
  const path = `${registry.folder}/${name}`
  const family = families.find(({ ending }) => name.endsWith(ending))
  const stored = family?.decode(readState(path) ?? '')
  if (!family || !stored) {
    removeFile(path)
    log('unreadable', { file: path })
    return
  }
  const { containerId, ifname, network } = stored.own
  const identifier = clientIdentifier(containerId, network, ifname)
  const clientLink = sameClientLink(registry, stored.own)
  if (!clientLink) {
    const { event, ...facts } = family.releaseOrphan(stored, { identifier, options, now: clock() })
    log(event, { client: identifier, ...facts })
    removeFile(path)
    return
  }
  const deleted = notes.has(fileName(identifier))
  log(deleted ? 'deleted meanwhile' : 'adopted', {
    client: identifier,
    address: family.addressOf(stored.lease),
  })
  const handle = enter(registry, { family, own: stored.own }, setting =>
    family.adopt(clientLink, stored, setting),
  )
  if (deleted) handle.release()
}

/** The namespace and link of a lease from disk, if they are still the same ones. */
function sameClientLink(registry: RegistryState, facts: Facts): ClientLink | undefined {
  const path = registry.options.hostPrefix + facts.netns
  if (namespaceIdentity(path) !== facts.netnsIdentity) return undefined
  let clientLink: ClientLink
  try {
    clientLink = openClientLink(path, facts.ifname)
  } catch {
    return undefined // the link has gone
  }
  if (clientLink.link.index === facts.link && clientLink.link.address === facts.hardware) return clientLink
  closeClientLink(clientLink)
  return undefined
}
