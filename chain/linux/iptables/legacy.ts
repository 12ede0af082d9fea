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
    return readTable(family, table, readEntries)
  } catch (thrown) {
    if (isErrno(thrown, errno.ENOENT, errno.ENOPROTOOPT, errno.EPERM, errno.EACCES)) return undefined
    throw thrown
  }
}

/** A rule with all that it matches and does. */
export interface WholeLegacyRule {
  /** struct ipt_ip, struct ip6t_ip: addresses, links, protocol. */
  head: Uint8Array
  matches: Extension[]
  /** A verdict of ip_tables (-1 drop, -2 accept, -4 queue, -5 return), a chain, or a target of its own. */
  target: { verdict: number } | { chain: string } | Extension
  counters: { packets: bigint; bytes: bigint }
}

/** struct xt_entry_match, xt_entry_target. */
export interface Extension {
  name: string
  revision: number
  info: Uint8Array
}

export interface WholeLegacyTable {
  /** Built-in chains with the NF_INET_* number of their hook. */
  hooks: { hook: number; chain: string; drops: boolean }[]
  rulesIn(chain: string): readonly WholeLegacyRule[]
  chains: readonly string[]
}

/** Reads a table with all that its rules do; undefined as above. */
export function readWholeLegacyTable(family: Family, table: string): WholeLegacyTable | undefined {
  try {
    return readTable(family, table, readWhole)
  } catch (thrown) {
    if (isErrno(thrown, errno.ENOENT, errno.ENOPROTOOPT, errno.EPERM, errno.EACCES)) return undefined
    throw thrown
  }
}

type Read<T> = (bytes: Uint8Array, info: Info, family: Family) => T

function readTable<T>(family: Family, table: string, read: Read<T>): T {
  const { domain, level } = layouts[family]
  const descriptor = socket(domain, SOCK_RAW, RAW)
  try {
    for (let attempt = 1; ; attempt++) {
      const info = readInfo(descriptor, level, table)
      try {
        const entries = structure(ENTRIES_OFFSET + info.size, table)
        new DataView(entries.buffer).setUint32(NAME_LENGTH, info.size, true)
        getSocketOption(descriptor, { level, option: GET_ENTRIES }, entries)
        return read(entries.subarray(ENTRIES_OFFSET), info, family)
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
  head: Uint8Array
  revision: number
  counters: { packets: bigint; bytes: bigint }
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
      head: bytes.subarray(at, at + offsets - 4),
      revision: bytes[at + target + 31] ?? 0,
      counters: {
        packets: own.getBigUint64(length - 16, true), // struct xt_counters
        bytes: own.getBigUint64(length - 8, true),
      },
    }
    at += next
  }
}

const DROP = -1 // -NF_DROP - 1
const HEAD = 'ERROR' // XT_ERROR_TARGET, with the name of the chain that begins behind it

/** Each chain's entries, without its head and its end. Pure. */
function chainsIn(bytes: Uint8Array, { validHooks, starts, ends }: Info, family: Family) {
  const chains = new Map<string, Entry[]>()
  const named = new Map<number, string>()
  const hooks: WholeLegacyTable['hooks'] = []
  const entries = [...entriesIn(bytes, family)]
  for (const { target, data, next } of entries) if (target === HEAD) named.set(next, readText(data))
  for (const [hook, chain] of builtins.entries()) {
    if (!(validHooks & (1 << hook))) continue
    named.set(starts[hook] ?? 0, chain)
    const policy = entries.find(({ at }) => at === ends[hook])
    hooks.push({ hook, chain, drops: policy !== undefined && readInt32(policy.data) === DROP })
  }
  let chain: Entry[] = []
  for (const [index, entry] of entries.entries()) {
    const name = named.get(entry.at)
    if (name !== undefined) {
      chain = []
      chains.set(name, chain)
    }
    const following = entries[index + 1]
    const isLast = !following || following.target === HEAD || named.has(following.at) // a chain's end is no rule
    if (!isLast && entry.target !== HEAD) chain.push(entry)
  }
  return { chains, named, hooks }
}

/** Pure. */
function readEntries(bytes: Uint8Array, info: Info, family: Family): BriefTable {
  const { chains, named, hooks } = chainsIn(bytes, info, family)
  return {
    dropping: hooks.filter(({ drops }) => drops).map(({ chain }) => chain),
    hasChain: name => chains.has(name),
    rulesIn: name => (chains.get(name) ?? []).map(entry => ruleOf(entry, named)),
  }
}

/** Pure. */
function readWhole(bytes: Uint8Array, info: Info, family: Family): WholeLegacyTable {
  const { chains, named, hooks } = chainsIn(bytes, info, family)
  return {
    hooks,
    chains: [...chains.keys()],
    rulesIn: name => (chains.get(name) ?? []).map(entry => wholeRuleOf(entry, named)),
  }
}

function wholeRuleOf(entry: Entry, named: ReadonlyMap<number, string>): WholeLegacyRule {
  const { target, data, matches, head, revision, counters } = entry
  const verdict = target === '' ? readInt32(data) : 0
  const chain = named.get(verdict)
  return {
    head,
    counters,
    matches: extensionsIn(matches),
    target:
      target !== '' ? { name: target, revision, info: data } : chain === undefined ? { verdict } : { chain },
  }
}

function extensionsIn(matches: Uint8Array): Extension[] {
  const found: Extension[] = []
  for (let at = 0; at + 32 <= matches.length; ) {
    const size = new DataView(matches.buffer, matches.byteOffset + at).getUint16(0, true)
    if (size === 0) break
    found.push({
      name: readText(matches.subarray(at + 2, at + 31)),
      revision: matches[at + 31] ?? 0,
      info: matches.subarray(at + 32, at + size),
    })
    at += size
  }
  return found
}

function ruleOf({ target, data, matches }: Entry, named: ReadonlyMap<number, string>): BriefRule {
  const jump = target === '' ? named.get(readInt32(data)) : undefined
  return { targets: jump === undefined ? [] : [jump], comment: commentIn(matches) }
}

function commentIn(matches: Uint8Array): string {
  const comment = extensionsIn(matches).find(({ name }) => name === 'comment')
  return comment ? readText(comment.info) : ''
}
