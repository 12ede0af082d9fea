/** What plugins keep under /run, where the kernel's state cannot say it: gone after a reboot, as the kernel's state is. */
import { ensureFolder, listFolder, readState, removeFile, writeInPlace } from '../linux/files.ts'
import { status } from '../linux/libc/status.ts'
import { isObject as isJsonObject } from '../protocol/configuration.ts'

/** For `isWhole`: an object, and not a list. */
export const isObject: (value: unknown) => value is object = isJsonObject

export const RUN_FOLDER = '/run/catena'

/** An administrator's answers for the whole node: a JSON object. */
export const NODE_WIDE = '/etc/cni/catena.json'

/** Whether a configuration may name such a folder for state: a relative one would be another for each place that a runtime works in. */
export function isStateFolder(path: string): boolean {
  return path === '' || path.startsWith('/')
}

/**
 * Records in a folder of this name: a JSON file for each owner, or each chain of an owner's. What is in a file is a record when
 * `isWhole` says so of the object there: anybody may have meddled with it.
 */
export function recordsIn<T extends object>(name: string, isWhole: (found: Partial<T>) => boolean) {
  const folder = `${RUN_FOLDER}/${name}`
  const pathOf = (owner: string) => `${folder}/${owner}.json`
  return {
    /**
     * Before what it is about comes to be, so that nothing is without a record. In place: what a kill has torn reads as
     * absent, and leaves no other name behind.
     */
    remember(owner: string, record: T): void {
      ensureFolder(folder)
      writeInPlace(pathOf(owner), JSON.stringify(record))
    },
    recall(owner: string): T | undefined {
      const found = parse(readState(pathOf(owner)))
      return found && isWhole(found as Partial<T>) ? (found as T) : undefined
    },
    forget: (owner: string) => removeFile(pathOf(owner)),
    /** The owners that have records. */
    recorded: () =>
      (listFolder(folder) ?? [])
        .filter(file => file.endsWith('.json'))
        .map(file => file.slice(0, -'.json'.length)),
    /** Whether anybody has remembered anything here since the machine started. */
    wereEver: () => status(folder) !== undefined,
  }
}

/** undefined for what is absent, empty or torn. */
function parse(text: string | undefined): object | undefined {
  if (!text) return undefined
  try {
    const json: unknown = text.includes('"interface"') ? JSON.parse(text, withIfname) : JSON.parse(text)
    return isObject(json) ? json : undefined
  } catch {
    return undefined
  }
}

/** Attachments that an older version has written call their `ifname` "interface". */
function withIfname(_: string, value: unknown): unknown {
  if (!isObject(value) || !('interface' in value && 'containerId' in value) || 'ifname' in value) return value
  const { interface: ifname, ...rest } = value
  return { ...rest, ifname }
}

/** For `isWhole`: a list of texts. */
export function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every(each => typeof each === 'string')
}
