/** Folders where plugins keep state, and files in them, under names that the protocol has checked. */
import { ensureFolder, folderOf, listFolder, readFile, removeFile, writeInPlace } from '../linux/files.ts'

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

/** What a plugin keeps about owners where the kernel's state cannot say it: a file for each under /run. */
export function recordsIn<T>(name: string) {
  const folder = `${RUN_FOLDER}/${name}`
  const pathOf = (owner: string) => `${folder}/${owner}.json`
  return {
    /** Before what it is about comes to be, so that nothing is without a record. */
    remember: (owner: string, record: T) => writeState(pathOf(owner), record),
    recall: (owner: string) => readState(pathOf(owner)) as T | undefined,
    forget: (owner: string) => removeState(pathOf(owner)),
    /** The owners that have records. */
    recorded: () =>
      (listFolder(folder) ?? [])
        .filter(file => file.endsWith('.json'))
        .map(file => file.slice(0, -'.json'.length)),
  }
}
