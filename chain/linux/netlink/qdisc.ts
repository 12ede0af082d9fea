/** Queueing disciplines over rtnetlink (linux/pkt_sched.h): token buckets, hierarchies of them, and the hook for incoming packets. */
import { errno } from '../libc/errno.ts'
import {
  attribute,
  attributeMap,
  join,
  nested,
  readText,
  readUint32,
  readUint64,
  split,
  text,
  uint32,
  uint64,
  viewOf,
} from './codec.ts'
import { CREATE, dump, ECHO, EXCLUSIVE, isRefusal, type Request, request, type Transport } from './socket.ts'

const RTM_NEWQDISC = 36
const RTM_DELQDISC = 37
const RTM_GETQDISC = 38
const RTM_NEWTCLASS = 40
const RTM_GETTCLASS = 42
// TCA_*
const KIND = 1
const OPTIONS = 2

/** Where a discipline sits: TC_H_ROOT for what goes out, TC_H_INGRESS for what comes in. */
export const places = { root: 0xffffffff, ingress: 0xfffffff1 } as const
export type Place = keyof typeof places

/** A handle as tc writes it: "1:" is (1, 0), "ffff:" is (0xffff, 0). */
export function handleOf(major: number, minor = 0): number {
  return ((major << 16) | minor) >>> 0
}

/** struct tcmsg, which every message about disciplines, classes and filters starts with. */
export function trafficHeader(of: {
  link: number
  handle?: number
  parent?: number
  info?: number
}): Uint8Array {
  const view = new DataView(new ArrayBuffer(20))
  view.setInt32(4, of.link, true)
  view.setUint32(8, of.handle ?? 0, true)
  view.setUint32(12, of.parent ?? 0, true)
  view.setUint32(16, of.info ?? 0, true)
  return new Uint8Array(view.buffer)
}

/** A rate with the tokens that may be saved up. The kernel counts these in time: ticks of 64 ns (PSCHED_SHIFT). */
export interface Bucket {
  /** Bytes per second. */
  rate: bigint
  /** Ticks that the burst takes at that rate; may be more than the 32 bits that the structure has. */
  ticks: number
  /** Bytes of the burst. */
  burst: number
  /** Bytes that may wait. */
  limit: number
}

export type Discipline =
  | ({ kind: 'tbf' } & Bucket)
  /** Packets that no filter classifies go to the class with this minor number; 0: straight out. */
  | { kind: 'htb'; defaultClass: number }
  /** A queue of so many bytes. */
  | { kind: 'bfifo'; limit: number }
  | { kind: 'ingress' }

const MAXIMUM = 0xffffffff

/** struct tc_ratespec: rates that do not fit are full here, and stand in an attribute of 64 bits. */
function rateSpecification(rate: bigint): Uint8Array {
  const view = new DataView(new ArrayBuffer(12))
  view.setUint8(1, 1) // TC_LINKLAYER_ETHERNET: no rate table is needed
  view.setUint32(8, rate > BigInt(MAXIMUM) ? MAXIMUM : Number(rate), true)
  return new Uint8Array(view.buffer)
}

function words(...values: number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4)
  for (const [index, value] of values.entries()) viewOf(bytes).setUint32(index * 4, value, true)
  return bytes
}

const TBF_PARMS = 1
const TBF_RATE64 = 4
const TBF_BURST = 6

function tokenBucket({ rate, ticks, burst, limit }: Bucket): Uint8Array {
  const parameters = join(
    rateSpecification(rate),
    new Uint8Array(12), // no peak rate
    words(Math.min(limit, MAXIMUM), Math.min(ticks, MAXIMUM), 0), // struct tc_tbf_qopt: limit, buffer, mtu
  )
  return nested(
    OPTIONS,
    attribute(TBF_PARMS, parameters),
    ...(rate > BigInt(MAXIMUM) ? [uint64(TBF_RATE64, rate)] : []),
    ...(ticks > MAXIMUM ? [uint32(TBF_BURST, burst)] : []), // the kernel counts the time itself, in 64 bits
  )
}

const HTB_PARMS = 1
const HTB_INIT = 2
const HTB_RATE64 = 6
const HTB_CEIL64 = 7

function options(discipline: Discipline): Uint8Array[] {
  switch (discipline.kind) {
    case 'tbf':
      return [tokenBucket(discipline)]
    case 'htb': // struct tc_htb_glob: version, rate2quantum, default class, debug, packets so far
      return [nested(OPTIONS, attribute(HTB_INIT, words(3, 10, discipline.defaultClass, 0, 0)))]
    case 'bfifo':
      return [attribute(OPTIONS, words(discipline.limit))]
    case 'ingress':
      return []
  }
}

/** The request that puts a discipline at a place of a link, or below a class. One that is there is refused with EEXIST. */
export function newDiscipline(
  link: number,
  discipline: Discipline,
  at: { handle: number; parent: Place | number },
): Request {
  const parent = typeof at.parent === 'number' ? at.parent : places[at.parent]
  return {
    operation: `add ${discipline.kind} to link ${link}`,
    type: RTM_NEWQDISC,
    flags: CREATE | EXCLUSIVE,
    payload: join(
      trafficHeader({ link, handle: at.handle, parent }),
      text(KIND, discipline.kind),
      ...options(discipline),
    ),
  }
}

/** The request that adds a class to a hierarchy of token buckets; it never borrows. */
export function newBucketClass(
  link: number,
  bucket: Bucket,
  at: { classId: number; parent: number },
): Request {
  const { rate, ticks } = bucket
  const buffer = Math.min(ticks, MAXIMUM)
  const QUANTUM = 1514 // a frame: with one class it has nothing to share
  const parameters = join(
    rateSpecification(rate),
    rateSpecification(rate),
    words(buffer, buffer, QUANTUM, 0, 0),
  )
  return {
    operation: `add htb class to link ${link}`,
    type: RTM_NEWTCLASS,
    flags: CREATE | EXCLUSIVE,
    payload: join(
      trafficHeader({ link, handle: at.classId, parent: at.parent }),
      text(KIND, 'htb'),
      nested(
        OPTIONS,
        attribute(HTB_PARMS, parameters),
        ...(rate > BigInt(MAXIMUM) ? [uint64(HTB_RATE64, rate), uint64(HTB_CEIL64, rate)] : []),
      ),
    ),
  }
}

/** Removes a place's discipline, with its classes and filters. Nothing there is an answer, not an error. */
export function removeDiscipline(route: Transport, link: number, place: Place): 'removed' | 'absent' {
  try {
    request(route, {
      operation: `delete the ${place} discipline of link ${link}`,
      type: RTM_DELQDISC,
      payload: trafficHeader({ link, parent: places[place] }),
    })
    return 'removed'
  } catch (thrown) {
    // ENOENT: only the default one is there; EINVAL: there is no hook for incoming packets
    if (isRefusal(thrown, errno.ENOENT, errno.EINVAL, errno.ENODEV)) return 'absent'
    throw thrown
  }
}

/** What the kernel has at a place. */
export interface FoundDiscipline {
  kind: string
  handle: number
  /** Of a token bucket; ticks modulo 2^32. */
  bucket?: Omit<Bucket, 'burst'>
  /** Of a hierarchy: its default class. */
  defaultClass?: number
}

/** The discipline at a place of a link; undefined where there is none. The kernel's own default, as far as it is told, has the handle 0. */
export function findDiscipline(route: Transport, link: number, place: Place): FoundDiscipline | undefined {
  return readFirst(route, {
    operation: `look up the ${place} discipline of link ${link}`,
    type: RTM_GETQDISC,
    flags: ECHO,
    payload: trafficHeader({ link, parent: places[place] }),
  })
}

/** A discipline with its link, and where it sits there: one of `places`, or below a class. */
export interface PlacedDiscipline extends FoundDiscipline {
  link: number
  parent: number
}

/** The disciplines of all links, without the default ones that the kernel puts there. */
export function listDisciplines(route: Transport): PlacedDiscipline[] {
  const asked = { operation: 'list disciplines', type: RTM_GETQDISC, payload: trafficHeader({ link: 0 }) }
  return dump(route, asked, ({ payload }) => {
    const [head] = split(payload, 20)
    const found = readDiscipline(payload)
    if (found.handle === 0) return undefined
    return { ...found, link: head.getInt32(4, true), parent: head.getUint32(12, true) }
  })
}

/** A class of a hierarchy. */
export function findBucketClass(
  route: Transport,
  link: number,
  classId: number,
): FoundDiscipline | undefined {
  return readFirst(route, {
    operation: `look up class ${classId} of link ${link}`,
    type: RTM_GETTCLASS,
    flags: ECHO,
    payload: trafficHeader({ link, handle: classId }),
  })
}

function readFirst(route: Transport, asked: Request): FoundDiscipline | undefined {
  try {
    const [reply] = request(route, asked)
    return reply && readDiscipline(reply.payload)
  } catch (thrown) {
    if (isRefusal(thrown, errno.ENOENT, errno.EINVAL, errno.ENODEV)) return undefined
    throw thrown
  }
}

/** Reads a message about a discipline or a class. */
export function readDiscipline(payload: Uint8Array): FoundDiscipline {
  const [head, rest] = split(payload, 20)
  const found = attributeMap(rest)
  const name = found.get(KIND)
  const kind = name ? readText(name) : ''
  return { kind, handle: head.getUint32(8, true), ...readOptions(kind, found.get(OPTIONS)) }
}

function readOptions(
  kind: string,
  bytes: Uint8Array | undefined,
): Pick<FoundDiscipline, 'bucket' | 'defaultClass'> {
  if (!bytes || (kind !== 'tbf' && kind !== 'htb')) return {}
  const found = attributeMap(bytes)
  const initial = found.get(HTB_INIT)
  if (kind === 'htb' && initial) return { defaultClass: split(initial, 20)[0].getUint32(8, true) }
  const parameters = found.get(TBF_PARMS) // and HTB_PARMS
  if (!parameters) return {}
  const [view] = split(parameters, 36)
  const long = found.get(kind === 'tbf' ? TBF_RATE64 : HTB_RATE64)
  const rate = long ? readUint64(long) : BigInt(readUint32(parameters.subarray(8)))
  return kind === 'tbf'
    ? { bucket: { rate, limit: view.getUint32(24, true), ticks: view.getUint32(28, true) } }
    : { bucket: { rate, limit: 0, ticks: view.getUint32(24, true) } }
}
