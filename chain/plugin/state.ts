/** Folders where plugins keep state, and files in them, under names that the protocol has checked. */
import { ensureFolder, folderOf, readFile, removeFile, writeInPlace } from '../linux/files.ts'

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

/** Writes a JSON file under /run, in place: one that a kill has torn reads as absent, and leaves no other name behind. */
export function writeState(path: string, value: unknown): void {
  ensureFolder(folderOf(path))
  writeInPlace(path, JSON.stringify(value))
}

export const removeState = removeFile
