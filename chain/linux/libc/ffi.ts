/**
 * The C library through bun:ffi: finding it, binding its functions when they are first called, handing bytes to them. The only
 * file that imports bun:ffi; its neighbours say by subject what a function is called with and what its failure means.
 */
import { CString, dlopen, type Pointer, ptr, read, toArrayBuffer } from 'bun:ffi'
import { encodeText } from '../bytes.ts'

const LIBRARIES = [
  'libc.so.6',
  `libc.musl-${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}.so.1`,
  'libc.so',
]

/** What nearly every call of a plugin needs, bound at once: a symbol costs 7 µs, a dlopen of its own 30. */
const common = {
  __errno_location: { args: [], returns: 'ptr' },
  open: { args: ['ptr', 'i32', 'u32'], returns: 'i32' },
  close: { args: ['i32'], returns: 'i32' },
  read: { args: ['i32', 'ptr', 'usize'], returns: 'i64' },
  write: { args: ['i32', 'ptr', 'usize'], returns: 'i64' },
  socket: { args: ['i32', 'i32', 'i32'], returns: 'i32' },
  setsockopt: { args: ['i32', 'i32', 'i32', 'ptr', 'u32'], returns: 'i32' },
  connect: { args: ['i32', 'ptr', 'u32'], returns: 'i32' },
  send: { args: ['i32', 'ptr', 'usize', 'i32'], returns: 'i64' },
  recvfrom: { args: ['i32', 'ptr', 'usize', 'i32', 'ptr', 'ptr'], returns: 'i64' },
  setns: { args: ['i32', 'i32'], returns: 'i32' },
  statx: { args: ['i32', 'ptr', 'i32', 'u32', 'ptr'], returns: 'i32' },
  statfs: { args: ['ptr', 'ptr'], returns: 'i32' },
  fcntl: { args: ['i32', 'i32', 'ptr'], returns: 'i32' },
} as const

/** What keeps state on a disk: bound together when the first of them is called. */
const ofState = {
  flock: { args: ['i32', 'i32'], returns: 'i32' },
  unlink: { args: ['ptr'], returns: 'i32' },
  fsync: { args: ['i32'], returns: 'i32' },
  fchmod: { args: ['i32', 'u32'], returns: 'i32' },
  rename: { args: ['ptr', 'ptr'], returns: 'i32' },
  link: { args: ['ptr', 'ptr'], returns: 'i32' },
  mkdir: { args: ['ptr', 'u32'], returns: 'i32' },
  getdents64: { args: ['i32', 'ptr', 'usize'], returns: 'i64' },
} as const

type Signatures = Parameters<typeof dlopen>[1]
type Bound<T extends Signatures> = ReturnType<typeof dlopen<T>>['symbols']

function openLibrary<const T extends Signatures>(signatures: T): Bound<T> {
  for (const name of LIBRARIES) {
    try {
      return dlopen(name, signatures).symbols
    } catch {
      // the other C library's name is tried next
    }
  }
  throw new Error(`cannot open the C library as any of ${LIBRARIES.join(', ')}`)
}

/** Any function of the C library. */
export type CFunction = (...values: never[]) => unknown

/** Puts something in the place of functions as they are bound; nothing unless `witnessCalls` was asked for. */
let witness: ((name: string, call: CFunction) => CFunction) | undefined

function witnessed<T>(functions: T, put: NonNullable<typeof witness>): T {
  const pairs = Object.entries(functions as Record<string, CFunction>)
  return Object.fromEntries(pairs.map(([name, call]) => [name, put(name, call)])) as T
}

/** Has all calls of this process go through what `put` puts in their place, from now on: for who tells what a plugin does. */
export function witnessCalls(put: NonNullable<typeof witness>): void {
  libc()
  stateLibc()
  witness = put
  openCommon = witnessed(openCommon, put)
  openOfState = witnessed(openOfState, put)
  for (const name of Object.keys(openOccasional)) delete openOccasional[name]
}

let openCommon: Bound<typeof common> | undefined
let openOfState: Bound<typeof ofState> | undefined
const openOccasional: Record<string, unknown> = {}

/** The functions that nearly every call needs. */
export function libc(): Bound<typeof common> {
  if (!openCommon) {
    openCommon = openLibrary(common)
    errnoLocation = openCommon.__errno_location() as Pointer | null
  }
  return openCommon
}

/** The functions that keep state. */
export function stateLibc(): Bound<typeof ofState> {
  libc() // errno has to be within reach before a call, not bound after it
  openOfState ??= openLibrary(ofState)
  return openOfState
}

/** A function that only some verbs of some plugins call, out of a subject's table of them: bound when it is first called. */
export function rarely<T extends Signatures, Name extends keyof T & string>(
  signatures: T,
  name: Name,
): Bound<T>[Name] {
  libc()
  if (!openOccasional[name]) {
    const found = openLibrary({ [name]: signatures[name] as T[Name] })
    Object.assign(openOccasional, witness ? witnessed(found, witness) : found)
  }
  return openOccasional[name] as Bound<T>[Name]
}

const numbered = {
  syscall: { args: ['i64', 'i64', 'i64', 'i64', 'i64', 'i64', 'i64'], returns: 'i64' },
} as const

/** A system call for which C libraries have no function, by its number: the same on every architecture since Linux 5.1. */
export function systemCall(number: number, ...values: number[]): number | bigint {
  const [first = 0, second = 0, third = 0, fourth = 0, fifth = 0, sixth = 0] = values
  return rarely(numbered, 'syscall')(number, first, second, third, fourth, fifth, sixth)
}

/** Names of the C library's functions that this process has bound so far. */
export function boundFunctions(): string[] {
  return [
    ...(openCommon ? Object.keys(common) : []),
    ...(openOfState ? Object.keys(ofState) : []),
    ...Object.keys(openOccasional),
  ]
}

/** Where this thread's errno is. */
let errnoLocation: Pointer | null | undefined

/** The errno of a call that has just come back with this result, 0 where it succeeded; what was kept for the call goes. */
export function failureOf(result: number | bigint): number {
  const number = result < 0 && errnoLocation ? read.i32(errnoLocation, 0) : 0 // first of all: whatever else is done may be a call with an errno of its own
  held.length = 0
  return number
}

/**
 * A number of 32 bits that no other process can know: of where the kernel has put this one's memory, and of the time. Not for
 * secrets; start-up: the first Math.random() of a process would cost it 0.4 ms, Bun.nanoseconds() 0.2.
 */
export function unguessable(): number {
  libc()
  return ((errnoLocation ?? 0) / 4096 + Date.now()) >>> 0
}

/** What a call that is about to be made points to. Nothing else keeps it: of a pointer, the collector knows nothing. */
const held: Structure[] = []

/** What C is handed: bytes, or a structure by its words of 32 bits. start-up: a DataView costs six times as much to make as these. */
export type Structure = Uint8Array | Int32Array | Uint32Array

/** A pointer to bytes that stay until the call that they are for has been asked for its failure. */
export function pointer(bytes: Structure): Pointer {
  held.push(bytes)
  return ptr(bytes)
}

/** A pointer to a path or a name, likewise. */
export function textPointer(text: string): Pointer {
  return pointer(cString(text))
}

/** Text with the terminating zero that C wants. A zero inside would cut a path short, so it is refused. */
export function cString(text: string): Uint8Array {
  if (text.includes('\0')) throw new RangeError(`a zero byte inside ${JSON.stringify(text)}`)
  return encodeText(`${text}\0`)
}

/** The text that a pointer leads to; undefined where it leads nowhere. */
export function textAt(place: Pointer | bigint | null): string | undefined {
  return place === null ? undefined : new CString(place).toString()
}

/** An ioctl's argument that is a number, in the place of the pointer that it mostly is. */
export function asPointer(number: number): Pointer {
  return number as Pointer
}

/** The memory at an address, which must stay for as long as the process lives. */
export function memoryAt(address: number, bytes: number): ArrayBuffer {
  return toArrayBuffer(address as Pointer, 0, bytes)
}
