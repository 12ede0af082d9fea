/**
 * What a process asks of the system, call by call, while plugins run in it: messages over netlink, files, sysctls, programs. The
 * plugins are not told, and do not know.
 */
import { type CFunction, memoryAt, textAt, witnessCalls } from '../../linux/libc/ffi.ts'
import { type Message, messages, readInt32 } from '../../linux/netlink/codec.ts'
import { NETLINK_NETFILTER, NETLINK_ROUTE } from '../../linux/netlink/socket.ts'

/** Where something is done: in the host's network namespace or in the container's. */
export type Where = 'host' | 'container'

export interface NetlinkCall {
  kind: 'netlink'
  where: Where
  protocol: number
  message: Message
  /** Why the kernel refused it; 0 where it did not. */
  errno: number
}

export interface FileCall {
  kind: 'file'
  does: 'write' | 'create' | 'folder' | 'rename' | 'link' | 'symbolic link' | 'delete'
  path: string
  /** The new name, or what a symbolic link leads to. */
  to?: string
  text?: string
}

export interface SysctlCall {
  kind: 'sysctl'
  where: Where
  /** With slashes, relative to /proc/sys. */
  key: string
  value: string
}

export interface ProgramCall {
  kind: 'program'
  where: Where
  words: string[]
  input: string
  /** How it ended; 0 is well. */
  status: number
}

/** A tap device, made through /dev/net/tun. */
export interface TapCall {
  kind: 'tap'
  where: Where
  name: string
  multiQueue: boolean
  virtioHeader: boolean
  owner?: number
  group?: number
}

export type Call = NetlinkCall | FileCall | SysctlCall | ProgramCall | TapCall

export interface Recorder {
  /** Takes note of something beside what goes through the C library. */
  note(call: ProgramCall): void
  where(): Where
}

const AF_NETLINK = 16
const OWN = '/proc/thread-self/ns/net'
const SYSCTLS = '/proc/sys/'
const O_CREAT = 0o100
const CLONE_NEWNET = 0x40000000
const MSG_PEEK = 2
const ERROR = 2 // NLMSG_ERROR
// linux/if_tun.h
const TUNSETIFF = 0x400454ca
const TUNSETOWNER = 0x400454cc
const TUNSETGROUP = 0x400454ce
const IFF_MULTI_QUEUE = 0x100
const IFF_VNET_HDR = 0x4000

/** A namespace: one of the two, or one that is made to try something in, of which nothing is told. */
type Place = Where | 'scratch'

type Opened =
  | { kind: 'namespace'; place: Place }
  | { kind: 'socket'; place: Place; protocol: number }
  | { kind: 'sysctl'; place: Place; key: string }
  | { kind: 'file'; path: string }

const decoder = new TextDecoder()

/** Records from now on; `container` tells whether a path is that of the container's namespace. */
export function recordCalls(isContainer: (path: string) => boolean, tell: (call: Call) => void): Recorder {
  const state = new Recording(isContainer, tell)
  witnessCalls((name, call) => {
    const before = state.before[name]
    const after = state.after[name]
    if (!before && !after) return call
    return ((...values: unknown[]) => {
      before?.(...(values as never[]))
      const result = (call as (...all: unknown[]) => unknown)(...values)
      after?.(Number(result), ...(values as never[]))
      return result
    }) as CFunction
  })
  return {
    note: tell,
    where: () => (state.place === 'container' ? 'container' : 'host'),
  }
}

type Before = (...values: never[]) => void
type After = (result: number, ...values: never[]) => void

class Recording {
  place: Place = 'host'
  readonly #opened = new Map<number, Opened>()
  readonly #taps = new Map<number, TapCall>()
  readonly #waiting = new Map<string, NetlinkCall>()
  readonly #isContainer: (path: string) => boolean
  readonly #tell: (call: Call) => void

  constructor(isContainer: (path: string) => boolean, tell: (call: Call) => void) {
    this.#isContainer = isContainer
    this.#tell = tell
  }

  /** What is noted before a call: bytes that it may change, names that it takes away. */
  readonly before: Readonly<Record<string, Before>> = {
    send: (descriptor: number, bytes: number, length: number) => this.#sent(descriptor, copy(bytes, length)),
    write: (descriptor: number, bytes: number, length: number) =>
      this.#wrote(descriptor, copy(bytes, length)),
  }

  /** What is noted when it has gone well. */
  readonly after: Readonly<Record<string, After>> = {
    open: (descriptor: number, path: number, flags: number) =>
      void (descriptor >= 0 && this.#open(descriptor, textOf(path), flags)),
    socket: (descriptor: number, family: number, _: number, protocol: number) => {
      if (descriptor >= 0 && family === AF_NETLINK)
        this.#opened.set(descriptor, { kind: 'socket', place: this.place, protocol })
    },
    close: (_: number, descriptor: number) => {
      this.#opened.delete(descriptor)
      this.#taps.delete(descriptor)
    },
    dup: (result: number, descriptor: number) => {
      const known = this.#opened.get(descriptor)
      if (known && result >= 0) this.#opened.set(result, known)
    },
    setns: (result: number, descriptor: number) => {
      const known = this.#opened.get(descriptor)
      if (result === 0) this.place = known?.kind === 'namespace' ? known.place : 'scratch'
    },
    unshare: (result: number, flags: number) => {
      if (result === 0 && flags & CLONE_NEWNET) this.place = 'scratch'
    },
    recvfrom: (length: number, descriptor: number, bytes: number, _: number, flags: number) => {
      if (length > 0 && !(flags & MSG_PEEK)) this.#received(descriptor, bytes, length)
    },
    ioctl: (result: number, descriptor: number, request: number, argument: number) => {
      if (result >= 0) this.#control(descriptor, Number(request), Number(argument))
    },
    rename: (result: number, from: number, to: number) =>
      this.#file(result, { does: 'rename', path: textOf(from), to: textOf(to) }),
    link: (result: number, from: number, to: number) =>
      this.#file(result, { does: 'link', path: textOf(from), to: textOf(to) }),
    symlink: (result: number, target: number, name: number) =>
      this.#file(result, { does: 'symbolic link', path: textOf(name), to: textOf(target) }),
    unlink: (result: number, path: number) => this.#file(result, { does: 'delete', path: textOf(path) }),
    mkdir: (result: number, path: number) => this.#file(result, { does: 'folder', path: textOf(path) }),
  }

  /** What belongs to a tap follows its creation, and is told with it. */
  #control(descriptor: number, request: number, argument: number): void {
    const known = this.#taps.get(descriptor)
    if (request === TUNSETOWNER && known) known.owner = argument
    if (request === TUNSETGROUP && known) known.group = argument
    if (request !== TUNSETIFF || this.place === 'scratch') return
    const asked = copy(argument, 18) // struct ifreq: a name and flags
    const flags = (asked[16] ?? 0) | ((asked[17] ?? 0) << 8)
    const name = decoder.decode(asked.subarray(0, Math.max(asked.indexOf(0), 0)))
    const call: TapCall = {
      kind: 'tap',
      ...{ where: this.place, name },
      multiQueue: (flags & IFF_MULTI_QUEUE) !== 0,
      virtioHeader: (flags & IFF_VNET_HDR) !== 0,
    }
    this.#taps.set(descriptor, call)
    this.#tell(call)
  }

  #file(result: number, call: Omit<FileCall, 'kind'>): void {
    if (result === 0) this.#tell({ kind: 'file', ...call })
  }

  #open(descriptor: number, path: string, flags: number): void {
    if (path === OWN) this.#opened.set(descriptor, { kind: 'namespace', place: this.place })
    else if (this.#isContainer(path)) this.#opened.set(descriptor, { kind: 'namespace', place: 'container' })
    else if (path.startsWith(SYSCTLS))
      this.#opened.set(descriptor, { kind: 'sysctl', place: this.place, key: path.slice(SYSCTLS.length) })
    else this.#opened.set(descriptor, { kind: 'file', path })
    if (flags & O_CREAT) this.#tell({ kind: 'file', does: 'create', path })
  }

  #sent(descriptor: number, bytes: Uint8Array): void {
    const known = this.#opened.get(descriptor)
    if (known?.kind !== 'socket' || known.place === 'scratch') return
    const { place, protocol } = known
    if (protocol !== NETLINK_ROUTE && protocol !== NETLINK_NETFILTER) return
    for (const message of messages(bytes)) {
      const call: NetlinkCall = { kind: 'netlink', where: place, protocol, message, errno: 0 }
      this.#waiting.set(`${descriptor} ${message.sequence}`, call)
      this.#tell(call)
    }
  }

  #received(descriptor: number, bytes: number, length: number): void {
    if (this.#opened.get(descriptor)?.kind !== 'socket') return
    for (const { type, sequence, payload } of messages(copy(bytes, length))) {
      const call = type === ERROR ? this.#waiting.get(`${descriptor} ${sequence}`) : undefined
      if (call) call.errno = -readInt32(payload)
    }
  }

  #wrote(descriptor: number, bytes: Uint8Array): void {
    const known = this.#opened.get(descriptor)
    const text = decoder.decode(bytes)
    if (known?.kind === 'file') this.#tell({ kind: 'file', does: 'write', path: known.path, text })
    if (known?.kind === 'sysctl' && known.place !== 'scratch')
      this.#tell({ kind: 'sysctl', where: known.place, key: known.key, value: text })
  }
}

const copy = (place: number, length: number): Uint8Array =>
  new Uint8Array(memoryAt(place, Number(length))).slice()

const textOf = (place: number): string => textAt(place as never) ?? ''
