/** Folders where plugins keep state, and files in them, under names that the protocol has checked. */
import { ensureFolder, folderOf, readFile, removeFile, writeAtomically } from '../linux/files.ts'

/** State that need not outlive the machine: gone after a reboot, as the kernel's state is. */
export const RUN_FOLDER = '/run/catena'

/** Reads a JSON file of ours; undefined when it is absent, empty or torn. */
export function readState(path: string): unknown {
  const text = readFile(path)
  if (!text) return undefined
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Writes a JSON file; whole or not at all. `durable: false` for files under /run. */
export function writeState(
  path: string,
  value: unknown,
  options: { mode?: number; durable?: boolean } = {},
): void {
  ensureFolder(folderOf(path))
  writeAtomically(path, JSON.stringify(value), options)
}

export const removeState = removeFile
