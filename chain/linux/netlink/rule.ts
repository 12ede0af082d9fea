/** Routing policy rules over rtnetlink (linux/fib_rules.h): which table is asked for which packets. */
import { addressBytes, addressText } from '../../ip/bytes.ts'
import { AF_INET, AF_INET6, socketFamilyOf } from '../../ip/family.ts'
import { errno } from '../libc/errno.ts'
import { attribute, attributeMap, join, readText, readUint32, split, text, uint32 } from './codec.ts'
import { CREATE, dump, EXCLUSIVE, isRefusal, type Request, request, type Transport } from './socket.ts'

const RTM_NEWRULE = 32
const RTM_DELRULE = 33
const RTM_GETRULE = 34
// FRA_*
const SOURCE = 2
const INPUT = 3
const PRIORITY = 6
const TABLE = 15
const TO_TABLE = 1 // FR_ACT_TO_TBL
const BOOT = 3 // RTPROT_BOOT
const PROTOCOL = 21 // FRA_PROTOCOL

/** A rule by what concerns us: "from 10.1.0.2/32 lookup 100". */
export interface Rule {
  family: typeof AF_INET | typeof AF_INET6
  /** Absent: packets from anywhere. */
  source?: { address: string; prefixLength: number }
  table: number
  /** Lower ones are asked first. Absent: the kernel puts it before those that are there. */
  priority?: number
  /** Only packets that came in by this link. */
  input?: string
}

/** struct fib_rule_hdr. */
function header(rule: Rule): Uint8Array {
  const bytes = new Uint8Array(12)
  bytes[0] = rule.family
  bytes[2] = rule.source?.prefixLength ?? 0
  bytes[4] = rule.table < 256 ? rule.table : 0
  bytes[7] = TO_TABLE
  return bytes
}

function encodeRule(rule: Rule): Uint8Array {
  const { input, priority, source, table } = rule
  return join(
    header(rule),
    ...(source ? [attribute(SOURCE, addressBytes(source.address))] : []),
    ...(input === undefined ? [] : [text(INPUT, input)]),
    ...(priority === undefined ? [] : [uint32(PRIORITY, priority)]),
    uint32(TABLE, table),
  )
}

export function describeRule({ source, table }: Rule): string {
  return `from ${source ? `${source.address}/${source.prefixLength}` : 'all'} lookup ${table}`
}

/** The rule for one address of either family. */
export function sourceRule(address: string, table: number): Rule {
  const family = socketFamilyOf(address)
  return { family, source: { address, prefixLength: family === AF_INET ? 32 : 128 }, table }
}

/** The request that adds a rule; an equal one of the same priority is refused with EEXIST. */
export function newRule(rule: Rule): Request {
  return {
    operation: `add rule ${describeRule(rule)}`,
    type: RTM_NEWRULE,
    flags: CREATE | EXCLUSIVE,
    payload: join(encodeRule(rule), attribute(PROTOCOL, new Uint8Array([BOOT]))),
  }
}

export function addRule(route: Transport, rule: Rule): void {
  request(route, newRule(rule))
}

/** Removes the first rule that is as described. Nothing there is an answer, not an error. */
export function removeRule(route: Transport, rule: Rule): 'removed' | 'absent' {
  try {
    request(route, {
      operation: `delete rule ${describeRule(rule)}`,
      type: RTM_DELRULE,
      payload: encodeRule(rule),
    })
    return 'removed'
  } catch (thrown) {
    if (isRefusal(thrown, errno.ENOENT, errno.ESRCH)) return 'absent'
    throw thrown
  }
}

/** Rules that look tables up, of both families or of one, in the kernel's order. */
export function listRules(route: Transport, families: readonly number[] = [AF_INET, AF_INET6]): Rule[] {
  return families.flatMap(family => {
    const payload = new Uint8Array(12)
    payload[0] = family
    return dump(route, { operation: 'list rules', type: RTM_GETRULE, payload }, ({ type, payload }) =>
      type === RTM_NEWRULE ? readRule(payload) : undefined,
    )
  })
}

export function readRule(payload: Uint8Array): Rule {
  const [head, rest] = split(payload, 12)
  const found = attributeMap(rest)
  const source = found.get(SOURCE)
  const priority = found.get(PRIORITY)
  const input = found.get(INPUT)
  const table = found.get(TABLE)
  return {
    family: head.getUint8(0) === AF_INET ? AF_INET : AF_INET6,
    ...(source ? { source: { address: addressText(source), prefixLength: head.getUint8(2) } } : {}),
    table: table ? readUint32(table) : head.getUint8(4),
    ...(input ? { input: readText(input) } : {}),
    priority: priority ? readUint32(priority) : 0,
  }
}
