/** Kernel parameters under /proc/sys, read and written as files. Enter the namespace first: net.* belongs to the thread's. */
import { readFile, writeExisting } from './files.ts'

/** The path of a parameter given with slashes: "net/ipv4/ip_forward". Interface names may contain dots. */
function pathOf(key: string): string {
  return `/proc/sys/${key}`
}

/** The value without its newline; undefined when the kernel has no such parameter. */
export function readSysctl(key: string): string | undefined {
  return readFile(pathOf(key))?.replace(/\n$/, '')
}

/** Writes a value; throws SystemError when the parameter is absent or the kernel refuses the value. */
export function writeSysctl(key: string, value: string): void {
  writeExisting(pathOf(key), value)
}

/** Writes a value unless it is there already: a read costs less than a write that notifies every interface. */
export function ensureSysctl(key: string, value: string): 'written' | 'unchanged' {
  if (readSysctl(key) === value) return 'unchanged'
  writeSysctl(key, value)
  return 'written'
}
