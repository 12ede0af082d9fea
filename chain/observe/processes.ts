/** Which processes have a socket open: looked for among all of them, which takes milliseconds. */
import { listFolder } from '../linux/files.ts'
import { SystemError } from '../linux/libc/errno.ts'
import { readLink } from '../linux/libc/folder.ts'
import { processName } from './namespaces.ts'

export function processesWith(inode: number): { id: number; name: string }[] {
  const ids = (listFolder('/proc') ?? []).filter(name => /^\d+$/.test(name))
  return ids
    .filter(id => descriptorsOf(id).some(path => linkAt(path) === `socket:[${inode}]`))
    .map(id => ({ id: Number(id), name: processName(Number(id)) ?? '' }))
}

function descriptorsOf(id: string): string[] {
  return quietly(() => (listFolder(`/proc/${id}/fd`) ?? []).map(name => `/proc/${id}/fd/${name}`)) ?? []
}

const linkAt = (path: string) => quietly(() => readLink(path))

/** Processes and descriptors go while they are looked at, and some may not be looked at. */
function quietly<T>(look: () => T): T | undefined {
  try {
    return look()
  } catch (thrown) {
    if (thrown instanceof SystemError) return undefined
    throw thrown
  }
}
