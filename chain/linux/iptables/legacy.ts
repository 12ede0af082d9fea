/**
 * A table of the kernel's older ip_tables, read without a program: two socket options
 * (linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h, linux/netfilter/x_tables.h).
 */
import { encodeText } from '../bytes.ts'
import { errno, isErrno } from '../libc/errno.ts'
import { close } from '../libc/file.ts'
import { getSocketOption, SOCK_RAW, socket } from '../libc/socket.ts'
import { readInt32, readText, readUint32 } from '../netlink/codec.ts'
import type { BriefRule, BriefTable } from './brief.ts'
import type { Family } from './tools.ts'

const GET_INFO = 64 // IPT_SO_GET_INFO, IP6T_SO_GET_INFO
const GET_ENTRIES = 65
const INFO_LENGTH = 84 // struct ipt_getinfo: name, valid_hooks, hook_entry[5], underflow[5], num_entries, size
const ENTRIES_OFFSET = 40 // struct ipt_get_entries: name, size, padding
const NAME_LENGTH = 32 // XT_TABLE_MAXNAMELEN
const RAW = 255 // IPPROTO_RAW

/** Address family, level of the options, and where an entry says where its target and the next entry are. */
const layouts = {
  ip: { domain: 2, level: 0, offsets: 88, length: 112 }, // AF_INET, SOL_IP, struct ipt_entry
  ip6: { domain: 10, level: 41, offsets: 140, length: 168 }, // AF_INET6, SOL_IPV6, struct ip6t_entry
}

/** By NF_INET_* number. */
const builtins = ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING']

interface Info {
  validHooks: number
  /** By hook: where its chain begins, and where it ends with the policy. */
  starts: number[]
  ends: number[]
  size: number
}

const ATTEMPTS = 8

/** Reads a table; undefined where there is none, or one may not ask, as in a user namespace that owns no network. */
export function readLegacyTable(family: Family, table: string): BriefTable | undefined {
  try {
    return readTable(family, table)
  } catch (thrown) {
    if (isErrno(thrown, errno.ENOENT, errno.ENOPROTOOPT, errno.EPERM, errno.EACCES)) return undefined
    throw thrown
  }
}

function readTable(family: Family, table: string): BriefTable {
  const { domain, level } = layouts[family]
  const descriptor = socket(domain, SOCK_RAW, RAW)
  try {
    for (let attempt = 1; ; attempt++) {
      const info = readInfo(descriptor, level, table)
      try {
        const entries = structure(ENTRIES_OFFSET + info.size, table)
        new DataView(entries.buffer).setUint32(NAME_LENGTH, info.size, true)
        getSocketOption(descriptor, { level, option: GET_ENTRIES }, entries)
        return readEntries(entries.subarray(ENTRIES_OFFSET), info, family)
      } catch (thrown) {
        // somebody has replaced the table since it told its size
        if (!isErrno(thrown, errno.EAGAIN) || attempt === ATTEMPTS) throw thrown
      }
    }
  } finally {
    close(descriptor)
  }
}

function structure(length: number, table: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length)
  bytes.set(encodeText(table))
  return bytes
}

function readInfo(descriptor: number, level: number, table: string): Info {
  const info = structure(INFO_LENGTH, table)
  getSocketOption(descriptor, { level, option: GET_INFO }, info)
  const number = (at: number) => readUint32(info.subarray(at))
  return {
    validHooks: number(32),
    starts: builtins.map((_, hook) => number(36 + 4 * hook)),
    ends: builtins.map((_, hook) => number(56 + 4 * hook)),
    size: number(80),
  }
}

interface Entry {
  at: number
  next: number
  /** "" is a verdict, or a jump. */
  target: string
  /** What follows the target's name. */
  data: Uint8Array
  matches: Uint8Array
}

function* entriesIn(bytes: Uint8Array, family: Family): Generator<Entry> {
  const { offsets, length } = layouts[family]
  for (let at = 0; at + length <= bytes.length; ) {
    const own = new DataView(bytes.buffer, bytes.byteOffset + at)
    const target = own.getUint16(offsets, true)
    const next = own.getUint16(offsets + 2, true)
    if (next === 0) return
    yield {
      at,
      next: at + next,
      target: readText(bytes.subarray(at + target + 2, at + target + 31)), // struct xt_entry_target
      data: bytes.subarray(at + target + 32, at + next),
      matches: bytes.subarray(at + length, at + target),
    }
    at += next
  }
}

const DROP = -1 // -NF_DROP - 1
const HEAD = 'ERROR' // XT_ERROR_TARGET, with the name of the chain that begins behind it

/** Pure. */
function readEntries(bytes: Uint8Array, { validHooks, starts, ends }: Info, family: Family): BriefTable {
  const rules = new Map<string, BriefRule[]>()
  const named = new Map<number, string>()
  const dropping: string[] = []
  const entries = [...entriesIn(bytes, family)]
  for (const { target, data, next } of entries) if (target === HEAD) named.set(next, readText(data))
  for (const [hook, name] of builtins.entries()) {
    if (!(validHooks & (1 << hook))) continue
    named.set(starts[hook] ?? 0, name)
    const policy = entries.find(({ at }) => at === ends[hook])
    if (policy && readInt32(policy.data) === DROP) dropping.push(name)
  }
  let chain: BriefRule[] = []
  for (const [index, entry] of entries.entries()) {
    const name = named.get(entry.at)
    if (name !== undefined) {
      chain = []
      rules.set(name, chain)
    }
    const following = entries[index + 1]
    const isLast = !following || following.target === HEAD || named.has(following.at) // a chain's end is no rule
    if (!isLast && entry.target !== HEAD) chain.push(ruleOf(entry, named))
  }
  return {
    dropping,
    hasChain: name => rules.has(name),
    rulesIn: name => rules.get(name) ?? [],
  }
}

function ruleOf({ target, data, matches }: Entry, named: ReadonlyMap<number, string>): BriefRule {
  const jump = target === '' ? named.get(readInt32(data)) : undefined
  return { targets: jump === undefined ? [] : [jump], comment: commentIn(matches) }
}

/** struct xt_entry_match: size, name, and for "comment" the text. */
function commentIn(matches: Uint8Array): string {
  for (let at = 0; at + 32 <= matches.length; ) {
    const size = new DataView(matches.buffer, matches.byteOffset + at).getUint16(0, true)
    if (readText(matches.subarray(at + 2, at + 31)) === 'comment')
      return readText(matches.subarray(at + 32, at + size))
    if (size === 0) break
    at += size
  }
  return ''
}
