/**
 * The flight recorder: each call of a plugin leaves a bounded record under /run of what was asked, what was done to the machine,
 * and what came of it. A line in a file before the work, and one after it: whoever was killed has left the first alone. Reading
 * them is `catena explain`'s affair (docs/command/explain.md). A recorder that cannot write is silent: it is no part of the work.
 */

import { decodeText, encodeText } from '../linux/bytes.ts'
import { ensureFolder } from '../linux/files.ts'
import { SystemError } from '../linux/libc/errno.ts'
import {
  close,
  LOCK_EX,
  LOCK_NB,
  lock,
  O_APPEND,
  O_CREAT,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_RDONLY,
  O_WRONLY,
  open,
  openIfPresent,
  readAll,
  writeAll,
} from '../linux/libc/file.ts'
import { rename } from '../linux/libc/folder.ts'
import { status, statusOf } from '../linux/libc/status.ts'
import { linesOf, type Observed, observe } from '../linux/observer.ts'
import { isObject } from '../protocol/configuration.ts'
import type { CniError } from '../protocol/error.ts'
import type { Course } from '../trace/collect.ts'
import { NODE_WIDE, RUN_FOLDER } from './state.ts'

export const RECORDS_FOLDER = `${RUN_FOLDER}/records`
/** The file that is written, and the full one before it. */
export const RECORDS = `${RECORDS_FOLDER}/log`
export const OLDER_RECORDS = `${RECORDS_FOLDER}/log.1`

/** Bytes of a file; there are two. A record takes about 1 kB. */
const FILE_LIMIT = 1 << 20
/** Bytes of a line, and of each thing in it. */
const LINE_LIMIT = 8192
const TEXT_LIMIT = 400
const DEEDS_LIMIT = 40
const LINES_LIMIT = 8

/** What is written before the work. Times are milliseconds. */
export interface Beginning {
  v: 1
  id: string
  /** Since 1970. */
  at: number
  pid: number
  /** The process that asked: a runtime, or a plugin that runs another. */
  parent: number
  plugin: string
  verb: string
  container?: string | undefined
  ifname?: string | undefined
  netns?: string | undefined
  network?: string | undefined
  /** Of CNI_ARGS, what tells a person who it was for. */
  args?: Record<string, string>
  /** Of the configuration, what the plugin's schema knows: anything else may be a secret of somebody's. */
  config?: unknown
}

/** What is written after it, with the beginning of its own where there was none. */
export interface Ending {
  v: 1
  id: string
  ended: true
  took: number
  status: 0 | 1
  error?: { code: number; msg: string; details?: string | undefined }
  addresses?: string[]
  /** What was done to the machine, in order. */
  deeds?: Deed[] | undefined
  /** Deeds that there was no room for. */
  omitted?: number
}

export interface Deed {
  /** Since the beginning. */
  at: number
  took: number
  /** Who was asked. */
  of: Observed['of']
  /** What was asked, at once. */
  what: string[]
  /** What the machine said instead of doing it. */
  refusal?: string
}

export interface Recorder {
  /** What was asked is known, and the work begins. */
  begin(network: string, args: string, config: unknown): void
  /** The plugin's result, for the addresses in it. */
  note(result: { ips?: readonly { address: string }[] | undefined }): void
  /** A promise where the call is exported as well. */
  end(error?: CniError): Promise<unknown> | undefined
}

/** Of CNI_ARGS: names that a runtime gives to what people know. */
const TELLING = /^(K8S_POD_(NAMESPACE|NAME|UID)|NERDCTL_.*NAME|IP|MAC|IgnoreUnknown)$/

/** What is being done by the calls that are under way: of a plugin's, and of one that it runs in this process, the latter's. */
const underWay: Observed[][] = []
let calls = 0

/** The process that runs a plugin. */
export interface Recorded {
  plugin: string
  pid: number
  parent: number
  env: Readonly<Record<string, string | undefined>>
}

/** Starts a record; undefined where the node wants none, or a verb is of no interest afterwards. */
export function record({ plugin, pid, parent, env }: Recorded): Recorder | undefined {
  const verb = env.CNI_COMMAND ?? ''
  if (verb === 'VERSION' || !isWanted()) return undefined
  const began = performance.now()
  const at = Date.now()
  const id = `${pid}.${++calls}.${at}`
  const { CNI_CONTAINERID: container, CNI_IFNAME: ifname, CNI_NETNS: netns } = env
  let beginning: Beginning | undefined = { v: 1, id, at, pid, parent, plugin, verb, container, ifname, netns }
  const log = new Log()
  const deeds: Observed[] = []
  let omitted = 0
  let network = ''
  let ips: readonly { address: string }[] | undefined
  underWay.push(deeds)
  const watching = observe(observed => {
    if (!observed.changes || underWay[underWay.length - 1] !== deeds) return
    if (deeds.length < DEEDS_LIMIT) deeds.push(observed)
    else omitted++
  })
  return {
    begin(of, args, config) {
      if (!beginning) return
      network = of
      beginning.network = of
      if (args !== '') beginning.args = tellingArgs(args)
      if (isObject(config)) beginning.config = config
      if (verb === 'STATUS') return // asked every few seconds: of interest where something is wrong
      log.append(beginning)
      beginning = undefined
    },
    note(result) {
      ips = result.ips
    },
    end(error) {
      watching[Symbol.dispose]()
      underWay.splice(underWay.indexOf(deeds), 1)
      if (verb === 'STATUS' && !error) return undefined
      const took = rounded(performance.now() - began)
      const ending: Ending = { v: 1, id, ended: true, took, status: error ? 1 : 0 }
      if (error)
        ending.error = {
          code: error.code,
          msg: cut(error.message),
          details: error.details && cut(error.details),
        }
      if (ips) ending.addresses = addressesOf(ips)
      if (deeds.length > 0) ending.deeds = described(deeds, began)
      if (omitted > 0) ending.omitted = omitted
      if (beginning) log.append(beginning)
      log.append(ending)
      log.close()
      if (!env.OTEL_EXPORTER_OTLP_ENDPOINT && !env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) return undefined
      return publish({ plugin, env, network }, { observed: deeds, at: new Date(at), began, took, error })
    },
  }
}

/** Sends the call as a trace of its own, or as a part of the caller's, where an administrator collects them (OpenTelemetry). */
async function publish(
  { plugin, env, network }: Pick<Recorded, 'plugin' | 'env'> & { network: string },
  course: Course,
): Promise<unknown> {
  const { traceOf, traceparentFor } = await import('../trace/collect.ts')
  const { exportTrace } = await import('../trace/otlp.ts')
  const { CNI_COMMAND: verb = '', CNI_CONTAINERID: container = '', CNI_IFNAME: ifname = '' } = env
  const traceparent = traceparentFor(env.TRACEPARENT)
  const trace = traceOf({ verb, subject: plugin, network, container, ifname, traceparent }, course)
  return await exportTrace(trace, env)
}

/** What is wrong with the file, if anything is, will be said by whoever needs what it says. */
function isWanted(): boolean {
  let descriptor: number | undefined
  try {
    descriptor = openIfPresent(NODE_WIDE, O_RDONLY | O_NONBLOCK)
    return (
      descriptor === undefined || JSON.parse(decodeText(readAll(descriptor, NODE_WIDE))).records !== false
    )
  } catch {
    return true
  } finally {
    if (descriptor !== undefined) close(descriptor)
  }
}

/** To the microsecond. Not by Math, at whose first use an engine makes all of it: 0.1 ms, here and wherever every call passes. */
function rounded(milliseconds: number): number {
  const microseconds = milliseconds * 1000 + 0.5
  return (microseconds - (microseconds % 1)) / 1000
}
const cut = (text: string) => (text.length > TEXT_LIMIT ? `${text.slice(0, TEXT_LIMIT)}…` : text)

// start-up: by hand, for each array method that runs for the first time costs 0.05 ms

function addressesOf(ips: readonly { address: string }[]): string[] {
  const addresses: string[] = []
  for (const { address } of ips) addresses.push(address)
  return addresses
}

function described(deeds: readonly Observed[], began: number): Deed[] {
  const told: Deed[] = []
  for (const deed of deeds) {
    const { of, refusal } = deed
    const lines = linesOf(deed, LINES_LIMIT)
    const what = cutLines(lines, deed.count ?? lines.length)
    const times = { at: rounded(deed.began - began), took: rounded(deed.ended - deed.began) }
    told.push(refusal === undefined ? { ...times, of, what } : { ...times, of, what, refusal: cut(refusal) })
  }
  return told
}

function cutLines(lines: readonly string[], count: number): string[] {
  const told: string[] = []
  for (let at = 0; at < lines.length && at < LINES_LIMIT; at++) told.push(cut(lines[at] ?? ''))
  if (count > LINES_LIMIT) told.push(`… and ${count - LINES_LIMIT} more`)
  return told
}

function tellingArgs(args: string): Record<string, string> {
  const told: Record<string, string> = {}
  for (const pair of args.split(';')) {
    const at = pair.indexOf('=')
    const name = pair.slice(0, at)
    if (TELLING.test(name)) told[name] = cut(pair.slice(at + 1))
  }
  return told
}

/** Lines of one call, each appended in one write, which the kernel keeps apart from those of other processes. */
class Log {
  #descriptor: number | undefined

  append(line: Beginning | Ending): void {
    const text = JSON.stringify(line)
    try {
      this.#descriptor ??= openLog()
      if (this.#descriptor === undefined) return
      writeAll(
        this.#descriptor,
        encodeText(`${text.length > LINE_LIMIT ? shortened(line) : text}\n`),
        RECORDS,
      )
    } catch (thrown) {
      if (!(thrown instanceof SystemError)) throw thrown
    }
  }

  close(): void {
    if (this.#descriptor !== undefined) close(this.#descriptor)
    this.#descriptor = undefined
  }
}

const FLAGS = O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK

/** Our own file with room in it; undefined where something else stands in its place, or it is another name of somebody's. */
function openLog(): number | undefined {
  const descriptor = openIfPresent(RECORDS, FLAGS) ?? createLog()
  let isKept = false
  let isOurs: boolean
  try {
    const { kind, links, size } = statusOf(descriptor, RECORDS)
    isOurs = kind === 'file' && links <= 1
    isKept = isOurs && size < FILE_LIMIT
    if (isKept) return descriptor
    if (isOurs) makeRoom(descriptor)
  } finally {
    if (!isKept) close(descriptor)
  }
  return isOurs ? open(RECORDS, FLAGS | O_CREAT, 0o600) : undefined
}

function createLog(): number {
  ensureFolder(RECORDS_FOLDER, 0o700)
  return open(RECORDS, FLAGS | O_CREAT, 0o600)
}

/** Without what makes it longer than a record may be. */
function shortened(line: Beginning | Ending): string {
  const { config, deeds, ...rest } = line as Beginning & Ending
  for (let kept = (deeds?.length ?? 0) >> 1; kept > 0; kept >>= 1) {
    const omitted = (rest.omitted ?? 0) + (deeds?.length ?? 0) - kept
    const text = JSON.stringify({ ...rest, deeds: deeds?.slice(0, kept), omitted })
    if (text.length <= LINE_LIMIT) return text
  }
  return JSON.stringify(rest)
}

/** The full file becomes the older one. Of several who find it full, one has its lock, and the others find another in its place. */
function makeRoom(descriptor: number): void {
  if (!lock(descriptor, LOCK_EX | LOCK_NB, RECORDS)) return
  if (status(RECORDS)?.isOf(statusOf(descriptor, RECORDS))) rename(RECORDS, OLDER_RECORDS)
}
