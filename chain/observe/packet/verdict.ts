/**
 * What nf_tables would do with a packet: the kernel's own expressions, carried out on headers that are only thought of
 * (linux/netfilter/nf_tables.h). What it cannot tell, such as a match that it does not know, it says.
 */
import { addressText } from '../../ip/bytes.ts'
import { isIpv6 } from '../../ip/family.ts'
import { encodeText } from '../../linux/bytes.ts'
import {
  type AttributeMap,
  attributeMap,
  readText,
  readUint32Big,
  readUint64Big,
} from '../../linux/netlink/codec.ts'
import type { Expression, WholeRule } from '../../linux/nftables/whole-rules.ts'
import { matchExtension, targetExtension } from './extensions.ts'
import { matchHead } from './legacy.ts'
import { type Counters, type Lookups, type Outcome, type Verdict, verdictOf } from './outcome.ts'
import { linkHeader, networkHeader, type Packet, protocolNumber, transportHeader } from './packet.ts'
import { describeValue, type Field, fieldAt, metaName } from './words.ts'

/** A rule at work: its registers, and the words for what they hold. */
interface State {
  packet: Packet
  around: Lookups
  bytes: Uint8Array
  fields: Map<number, Field>
  words: string[]
  verdict: Verdict
  isMatch: boolean | 'unknown'
  counters?: Counters
  element?: { set: string; comment: string }
  mark?: number
}

export function carryOut(rule: Pick<WholeRule, 'expressions'>, packet: Packet, around: Lookups): Outcome {
  const state: State = {
    packet,
    around,
    bytes: new Uint8Array(96),
    fields: new Map(),
    words: [],
    verdict: { kind: 'continue' },
    isMatch: true,
  }
  for (const expression of rule.expressions) {
    const before = state.isMatch
    run(expression, state)
    if (before === 'unknown' && state.isMatch === true) state.isMatch = 'unknown'
    if (state.isMatch === false) break
  }
  const { isMatch, verdict, words, counters, element, mark } = state
  return {
    isMatch,
    verdict,
    text: words.join(' '),
    ...(counters ? { counters } : {}),
    ...(element ? { element } : {}),
    ...(mark === undefined ? {} : { mark }),
  }
}

const number = (value: Uint8Array | undefined, otherwise = 0) => (value ? readUint32Big(value) : otherwise)

/** Where a register is: 1 to 4 have sixteen bytes, 8 and those after it four. */
const slot = (register: number) => (register >= 8 ? (register - 8) * 4 : (register - 1) * 16)

const load = (state: State, register: number) => (value: Uint8Array, field: Field) => {
  const at = slot(register)
  state.bytes.fill(0, at, at + Math.max(4, (value.length + 3) & ~3))
  state.bytes.set(value, at)
  state.fields.set(at, { ...field, length: value.length })
}

const held = (state: State, register: number, length: number) =>
  state.bytes.subarray(slot(register), slot(register) + length)

const unknown = (state: State, what: string) => {
  state.isMatch = 'unknown'
  state.words.push(what)
}

type Run = (data: AttributeMap, state: State) => void

const runs: Readonly<Record<string, Run>> = {
  payload: runPayload,
  meta: runMeta,
  ct: runConnection,
  fib: runFib,
  cmp: runCompare,
  range: runRange,
  bitwise: runBitwise,
  byteorder: runByteOrder,
  lookup: runLookup,
  immediate: runImmediate,
  nat: runNat,
  masq(_, state) {
    translate(state, { kind: 'translate', what: 'masquerade' }, 'masquerade')
  },
  redir(data, state) {
    const register = data.get(1)
    const port = register
      ? new DataView(held(state, number(register), 2).slice().buffer).getUint16(0)
      : undefined
    translate(
      state,
      { kind: 'translate', what: 'redirect', ...(port === undefined ? {} : { port }) },
      'redirect',
    )
  },
  counter(data, state) {
    const of = (value: Uint8Array | undefined) => (value ? Number(readUint64Big(value)) : 0)
    state.counters = { bytes: of(data.get(1)), packets: of(data.get(2)) }
    state.words.push('counter')
  },
  reject(_, state) {
    conclude(state, { kind: 'reject' }, 'reject')
  },
  queue(_, state) {
    conclude(state, { kind: 'queue' }, 'queue')
  },
  match(data, state) {
    const name = readText(data.get(1) ?? new Uint8Array(0))
    const info = data.get(3) ?? new Uint8Array(0)
    const found = matchExtension({ name, revision: number(data.get(2)), info }, state.packet, state.around)
    if (found.words) state.words.push(found.words)
    if (found.isMatch !== true) state.isMatch = found.isMatch
  },
  head(data, state) {
    const { isMatch, words } = matchHead(data.get(1) ?? new Uint8Array(0), state.packet)
    if (words) state.words.push(words)
    if (!isMatch) state.isMatch = false
  },
  target(data, state) {
    const name = readText(data.get(1) ?? new Uint8Array(0))
    const info = data.get(3) ?? new Uint8Array(0)
    const verdict = targetExtension({ name, revision: number(data.get(2)), info }, state.packet)
    if (verdict === 'unknown') unknown(state, name)
    else if (verdict.kind === 'continue') state.words.push(name)
    else conclude(state, verdict, name)
  },
}

/** What lets every packet go on. */
const passing = new Set([
  'log',
  'notrack',
  'quota',
  'connlimit',
  'dynset',
  'objref',
  'last',
  'dup',
  'flow_offload',
  'exthdr',
  'limit',
])

function run({ name, data }: Expression, state: State): void {
  const own = Object.hasOwn(runs, name) ? runs[name] : undefined
  if (own) own(data, state)
  else if (passing.has(name)) state.words.push(name)
  else unknown(state, name)
}

function conclude(state: State, verdict: Verdict, words: string): void {
  state.verdict = verdict
  state.words.push(words)
}

const translate = conclude

function runPayload(data: AttributeMap, state: State): void {
  const register = data.get(1)
  if (!register) return void state.words.push('set a header')
  const [base, offset, length] = [number(data.get(2)), number(data.get(3)), number(data.get(4))]
  const { packet } = state
  const header = [linkHeader(packet), networkHeader(packet), transportHeader(packet)][base]
  if (!header || offset + length > header.length) {
    unknown(state, 'a header that is not known')
    return
  }
  load(state, number(register))(header.slice(offset, offset + length), fieldAt(base, offset, packet))
}

const native32 = (value: number) => new Uint8Array(Uint32Array.of(value >>> 0).buffer)

function linkName(name: string | undefined): Uint8Array {
  const bytes = new Uint8Array(16)
  bytes.set(encodeText(name ?? ''))
  return bytes
}

function runMeta(data: AttributeMap, state: State): void {
  const { packet, around } = state
  const key = number(data.get(2))
  const register = data.get(1)
  if (!register) {
    const source = data.get(3)
    if (key === 3 && source)
      state.mark = new DataView(held(state, number(source), 4).slice().buffer).getUint32(0, true)
    return void state.words.push(`${metaName(key)} set`)
  }
  const isSix = isIpv6(packet.destination)
  const values: Record<number, Uint8Array> = {
    1: new Uint8Array(isSix ? [0x86, 0xdd] : [8, 0]), // NFT_META_PROTOCOL
    3: native32(state.mark ?? packet.mark),
    4: native32(around.indexOf(packet.input ?? '')),
    5: native32(around.indexOf(packet.output ?? '')),
    6: linkName(packet.input),
    7: linkName(packet.output),
    15: new Uint8Array([isSix ? 10 : 2]), // NFT_META_NFPROTO
    16: new Uint8Array([protocolNumber(packet)]),
    19: new Uint8Array([0]), // PACKET_HOST
  }
  const value = values[key]
  if (!value) {
    unknown(state, `meta ${key}`)
    return
  }
  load(state, number(register))(value, {
    name: metaName(key),
    length: 0,
    kind: key === 6 || key === 7 ? 'link' : key === 16 ? 'protocol' : 'native',
  })
}

/** NF_CT_STATE_BIT: 2 established, 4 related, 8 new; IPS_*: 16 SNAT, 32 DNAT. */
function runConnection(data: AttributeMap, state: State): void {
  const { packet } = state
  const key = number(data.get(2))
  const register = data.get(1)
  if (!register) return void state.words.push('ct set')
  const status =
    (packet.isTranslated ? 32 : 0) | (packet.isSourceTranslated ? 16 : 0) | (packet.isAnswer ? 2 | 4 | 8 : 0)
  const values: Record<number, [string, Uint8Array]> = {
    0: ['ct state', native32(packet.isAnswer ? 2 : 8)],
    1: ['ct direction', new Uint8Array([packet.isAnswer ? 1 : 0])],
    2: ['ct status', native32(status)],
    3: ['ct mark', native32(0)],
  }
  const value = values[key]
  if (!value) {
    unknown(state, `ct ${key}`)
    return
  }
  load(state, number(register))(value[1], { name: value[0], length: 0, kind: key === 0 ? 'state' : 'native' })
}

function runFib(data: AttributeMap, state: State): void {
  const { packet, around } = state
  const [result, flags] = [number(data.get(2)), number(data.get(3))]
  const address = (flags & 1) !== 0 ? packet.source : packet.destination // NFTA_FIB_F_SADDR
  const end = (flags & 1) !== 0 ? 'saddr' : 'daddr'
  if (result !== 3) {
    unknown(state, `fib ${end}`)
    return
  }
  load(state, number(data.get(1)))(native32(around.addressType(address)), {
    name: `fib ${end} type`,
    length: 0,
    kind: 'address type',
  })
}

function compareBytes(one: Uint8Array, other: Uint8Array): number {
  for (let at = 0; at < other.length; at++) {
    const difference = (one[at] ?? 0) - (other[at] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

const operators = ['', '!= ', '< ', '<= ', '> ', '>= ']

function runCompare(data: AttributeMap, state: State): void {
  const [register, operator] = [number(data.get(1)), number(data.get(2))]
  const value = attributeMap(data.get(3) ?? new Uint8Array(0)).get(1) ?? new Uint8Array(0)
  const difference = compareBytes(held(state, register, value.length), value)
  const holds = [
    difference === 0,
    difference !== 0,
    difference < 0,
    difference <= 0,
    difference > 0,
    difference >= 0,
  ]
  const field = state.fields.get(slot(register))
  state.words.push(`${field?.name ?? '?'} ${operators[operator] ?? ''}${describeValue(value, field)}`)
  if (!holds[operator]) state.isMatch = false
}

function runRange(data: AttributeMap, state: State): void {
  const [register, operator] = [number(data.get(1)), number(data.get(2))]
  const end = (type: number) => attributeMap(data.get(type) ?? new Uint8Array(0)).get(1) ?? new Uint8Array(0)
  const [from, to] = [end(3), end(4)]
  const value = held(state, register, from.length)
  const isWithin = compareBytes(value, from) >= 0 && compareBytes(value, to) <= 0
  const field = state.fields.get(slot(register))
  const range = `${describeValue(from, field)}-${describeValue(to, field)}`
  state.words.push(`${field?.name ?? '?'} ${operator === 1 ? '!= ' : ''}${range}`)
  if (isWithin !== (operator === 0)) state.isMatch = false
}

function runBitwise(data: AttributeMap, state: State): void {
  const [source, target, length] = [number(data.get(1)), number(data.get(2)), number(data.get(3))]
  if (number(data.get(6)) !== 0) {
    unknown(state, 'a shift')
    return
  }
  const of = (type: number) =>
    attributeMap(data.get(type) ?? new Uint8Array(0)).get(1) ?? new Uint8Array(length)
  const [mask, toggled] = [of(4), of(5)]
  const field = state.fields.get(slot(source))
  const value = held(state, source, length).map((byte, at) => (byte & (mask[at] ?? 0)) ^ (toggled[at] ?? 0))
  load(state, target)(value, { ...(field ?? { name: '?', kind: 'native' }), length, mask: mask.slice() })
}

function runByteOrder(data: AttributeMap, state: State): void {
  const [source, target, length, size] = [1, 2, 4, 5].map(type => number(data.get(type))) as [
    number,
    number,
    number,
    number,
  ]
  const value = held(state, source, length).slice()
  for (let at = 0; at + size <= length; at += size) value.subarray(at, at + size).reverse()
  const field = state.fields.get(slot(source)) ?? { name: '?', kind: 'native', length }
  load(state, target)(value, field)
}

function runLookup(data: AttributeMap, state: State): void {
  const set = readText(data.get(1) ?? new Uint8Array(0))
  const source = number(data.get(2))
  const target = data.get(3)
  const isInverted = (number(data.get(5)) & 1) !== 0 // NFT_LOOKUP_F_INV
  const start = slot(source)
  const fields = [...state.fields].filter(([at]) => at >= start).toSorted(([one], [other]) => one - other)
  const names = contiguous(fields, start).map(({ name }) => name)
  const found = state.around.find(set, state.bytes.subarray(start))
  const shown = set.startsWith('__') ? '{ … }' : `@${set}`
  state.words.push(`${names.join(' . ')} ${target ? 'map ' : ''}${isInverted ? '!= ' : ''}${shown}`)
  if ((found !== undefined) === isInverted) {
    state.isMatch = false
    return
  }
  if (!found) return
  state.element = { set, comment: found.comment }
  if (!target) return
  if (number(target) === 0) state.verdict = verdictOf(found.verdict ?? 1, found.target)
  else load(state, number(target))(found.data, { name: shown, length: found.data.length, kind: 'value' })
}

/** The fields of a concatenation, one after the other. */
function contiguous(fields: readonly [number, Field][], start: number): Field[] {
  const found: Field[] = []
  let at = start
  for (const [place, field] of fields) {
    if (place !== at) break
    found.push(field)
    at += Math.max(4, (field.length + 3) & ~3)
  }
  return found
}

function runImmediate(data: AttributeMap, state: State): void {
  const register = number(data.get(1))
  const content = attributeMap(data.get(2) ?? new Uint8Array(0))
  const verdict = content.get(2)
  if (verdict) {
    const found = attributeMap(verdict)
    const chain = found.get(2)
    const decided = verdictOf(number(found.get(1)), chain ? readText(chain) : '')
    conclude(state, decided, 'chain' in decided ? `${decided.kind} ${decided.chain}` : decided.kind)
    return
  }
  const value = content.get(1) ?? new Uint8Array(0)
  load(state, register)(value, { name: '', length: value.length, kind: 'value' })
}

function runNat(data: AttributeMap, state: State): void {
  const isDestination = number(data.get(1)) === 1
  const length = number(data.get(2)) === 10 ? 16 : 4
  const [address, port] = [data.get(3), data.get(5)]
  const to = address ? addressText(held(state, number(address), length).slice()) : undefined
  const toPort = port ? new DataView(held(state, number(port), 2).slice().buffer).getUint16(0) : undefined
  const what = isDestination ? 'destination' : 'source'
  conclude(
    state,
    {
      kind: 'translate',
      what,
      ...(to === undefined ? {} : { address: to }),
      ...(toPort === undefined || toPort === 0 ? {} : { port: toPort }),
    },
    `${isDestination ? 'dnat' : 'snat'} to ${to ?? ''}${toPort ? `:${toPort}` : ''}`,
  )
}
