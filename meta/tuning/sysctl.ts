/** Sysctls of a configuration: their keys as paths under /proc/sys/net, written, read back and compared. Enter the container first. */

import { canonicalAddress } from '../../chain/ip/text.ts'
import { errno, isErrno, SystemError } from '../../chain/linux/libc/errno.ts'
import { status } from '../../chain/linux/libc/status.ts'
import { readSysctl, writeSysctl } from '../../chain/linux/sysctl.ts'
import { CniError, code } from '../../chain/protocol/error.ts'

/** One sysctl that is expected. */
export interface Setting {
  /** As the configuration spells it. */
  key: string
  /** Where in the configuration it stands: "args.cni.sysctl.net.ipv4.conf.IFNAME.forwarding". */
  place: string
  value: string
  /** What the key may mean, best first: relative to /proc/sys, with the interface's name in place. */
  candidates: string[]
}

/** Stands for the interface's name. */
export const PLACEHOLDER = 'IFNAME'

/**
 * The readings of a key. The Go plugin turns every dot into a slash before it puts the interface's name in; sysctl(8)
 * lets the first separator decide, so that names with dots can be written: "net/ipv4/conf/eth0.5/forwarding" and
 * "net.ipv4.conf.eth0/5.forwarding". The name of the container's interface is also known where it is written out.
 */
function readingsOf(key: string, name: string): string[] {
  const bare = withoutLeadingSeparator(key)
  const known = bare.replace(`.${name}.`, () => `.${PLACEHOLDER}.`)
  const slashed = known.replaceAll('.', '/')
  const readings = bare.includes('/')
    ? readingsWithSlashes(bare, slashed)
    : [slashed, bare.replaceAll('.', '/')]
  const [one = '', other = ''] = readings.map(reading => reading.replace(PLACEHOLDER, () => name))
  return one === other ? [one] : [one, other]
}

function readingsWithSlashes(bare: string, slashed: string): [string, string] {
  if (/[./]/.exec(bare)?.[0] === '/') return [bare, slashed]
  return [slashed, bare.replace(/[./]/g, separator => (separator === '.' ? '/' : '.'))]
}

function withoutLeadingSeparator(key: string): string {
  return key.startsWith('.') || key.startsWith('/') ? key.slice(1) : key
}

/** A setting with its key understood. Code 7 for a key that leaves /proc/sys/net. */
export function settingOf(
  place: string,
  key: string,
  { name, value }: { name: string; value: string },
): Setting {
  const refuse = (reason: string): never => {
    throw new CniError(
      code.invalidConfiguration,
      `${place}: invalid net sysctl key: ${JSON.stringify(key)}, because ${reason}`,
    )
  }
  const segments = withoutLeadingSeparator(key).replaceAll('/', '.').split('.')
  if (segments.includes('')) refuse('it has two separators in a row, or one at its end')
  if (segments[0] !== 'net' || segments.length < 2) refuse('only what is below net. belongs to a container')
  if (key.includes('\0')) refuse('it holds a zero byte')
  return { key, place, value, candidates: readingsOf(key, name) }
}

/** Two keys for one parameter with different values: the result would hang on their order. */
export function refuseConflicts(settings: readonly Setting[]): void {
  const seen = new Map<string, Setting>()
  for (const setting of settings) {
    const [path = ''] = setting.candidates
    const other = seen.get(path)
    if (other && other.value !== setting.value) {
      throw new CniError(
        code.invalidConfiguration,
        `${setting.place}: duplicated sysctl keys are not allowed: it means the same as ${other.place}`,
      )
    }
    seen.set(path, setting)
  }
}

function locate({ key, place, candidates }: Setting): string {
  const found = candidates.find(path => status(`/proc/sys/${path}`) !== undefined)
  if (found !== undefined) return found
  throw new CniError(code.internal, `${place}: the kernel has no sysctl ${key} in the container`, {
    details: `there is no /proc/sys/${candidates.join(' and no /proc/sys/')}; parameters of the whole machine are not in a container's namespace`,
  })
}

/** What was there before, for whoever takes it back. */
export interface Previous {
  path: string
  /** Undefined for what can be written only. */
  before: string | undefined
}

/** Writes a value and reads it back. A refusal names key, value and the kernel's reason. `noted` is told first what was there. */
export function applySetting(setting: Setting, noted: (before: Previous) => void): void {
  const path = locate(setting)
  const before = readIfReadable(path)
  noted({ path, before })
  const what = `set sysctl ${setting.key} to ${JSON.stringify(setting.value)}`
  try {
    writeSysctl(path, setting.value)
  } catch (thrown) {
    if (!(thrown instanceof SystemError)) throw thrown
    throw new CniError(code.internal, `${what}: the kernel refuses it`, {
      details: `${thrown.message}; it is ${before === undefined ? 'not to be read' : JSON.stringify(before)}`,
      cause: thrown,
    })
  }
  const after = readIfReadable(path)
  if (after === undefined || isSameValue(after, setting.value)) return
  restoreSetting({ path, before })
  throw new CniError(code.internal, `${what}: the kernel took it and made it ${JSON.stringify(after)}`, {
    details: `/proc/sys/${path} held ${JSON.stringify(before)} before, and holds it again`,
  })
}

/** Puts a value back, where it could be read. */
export function restoreSetting({ path, before }: Previous): void {
  if (before !== undefined) writeSysctl(path, before)
}

/** Undefined for what can be written only (EACCES) or was never set (EIO, stable_secret). */
function readIfReadable(path: string): string | undefined {
  try {
    return readSysctl(path)
  } catch (thrown) {
    if (isErrno(thrown, errno.EACCES, errno.EPERM, errno.EIO)) return undefined
    throw thrown
  }
}

/** Says how a sysctl differs from what is expected; undefined when it does not. */
export function differenceOf(setting: Setting): string | undefined {
  const value = readIfReadable(locate(setting))
  if (value === undefined || isSameValue(value, setting.value)) return undefined
  return `Error: Tuning configured value of ${setting.key} is ${setting.value}, current value is ${value}`
}

/** Whether the kernel's spelling of a value means the configuration's: blanks, bases, sets of ranges, addresses. */
function isSameValue(kernel: string, expected: string): boolean {
  if (kernel.trim() === expected) return true
  const fields = (value: string) => value.trim().split(/\s+/).map(canonical)
  const one = fields(kernel)
  const other = fields(expected)
  return one.length === other.length && one.every((word, index) => word === other[index])
}

function canonical(word: string): string {
  if (/^[+-]?(0x[0-9a-f]+|\d+)$/i.test(word)) return String(integerOf(word))
  if (/^\d+(-\d+)?(,\d+(-\d+)?)*$/.test(word)) return members(word).join()
  return canonicalAddress(word) ?? word.toLowerCase()
}

/** As the kernel's strtoul with base 0: 0x is hexadecimal, a leading 0 octal. */
function integerOf(word: string): bigint {
  const [, sign, digits = '0'] = /^([+-]?)(.*)$/.exec(word) ?? []
  const value = /^0[0-7]+$/.test(digits) ? BigInt(`0o${digits.slice(1)}`) : BigInt(digits)
  return sign === '-' ? -value : value
}

/** The ranges of a list of numbers, joined where they touch: "3,1-2" is "1-3". */
function members(list: string): string[] {
  const ranges = list
    .split(',')
    .map(part => {
      const [start = 0, end = start] = part.split('-').map(Number)
      return { start, end }
    })
    .sort((one, other) => one.start - other.start)
  const joined: { start: number; end: number }[] = []
  for (const range of ranges) {
    const last = joined.at(-1)
    if (last && range.start <= last.end + 1) last.end = Math.max(last.end, range.end)
    else joined.push(range)
  }
  return joined.map(({ start, end }) => `${start}-${end}`)
}
