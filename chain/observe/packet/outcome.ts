/** What becomes of a packet at a rule, and what a rule may ask that is not in the packet. */
import type { Chain } from '../../linux/nftables/list.ts'
import type { Family } from '../../linux/nftables/nft.ts'
import type { WholeRule } from '../../linux/nftables/whole-rules.ts'
import type { Packet } from './packet.ts'

/** What a packet is asked about that is not in it. */
export interface Lookups {
  /** RTN_*: 1 unicast, 2 local, 3 broadcast, 5 multicast. */
  addressType(address: string): number
  indexOf(link: string): number
  /** The host's own address on the link that a packet goes out by, or has come in by. */
  ownAddress(packet: Packet): string
  /** Looks a key up in a set or map: the element, or undefined. */
  find(set: string, key: Uint8Array): FoundElement | undefined
}

export interface FoundElement {
  data: Uint8Array
  verdict?: number
  target?: string
  comment: string
}

export interface Counters {
  packets: number
  bytes: number
}

export type Verdict =
  | { kind: 'accept' | 'drop' | 'return' | 'continue' | 'reject' | 'queue' }
  | { kind: 'jump' | 'goto'; chain: string }
  | {
      kind: 'translate'
      what: 'destination' | 'source' | 'masquerade' | 'redirect'
      address?: string
      port?: number
    }

/** A rule that matched, or of which one cannot tell. */
export interface Outcome {
  isMatch: boolean | 'unknown'
  verdict: Verdict
  /** As nft would write it. */
  text: string
  counters?: Counters
  /** The element that decided. */
  element?: { set: string; comment: string }
  /** A mark that it has set. */
  mark?: number
}

const [VERDICT_DROP, VERDICT_ACCEPT, VERDICT_QUEUE] = [0, 1, 3]
const [CONTINUE, BREAK, JUMP, GOTO, RETURN] = [-1, -2, -3, -4, -5] // NFT_*

export function verdictOf(code: number, chain = ''): Verdict {
  switch (code | 0) {
    case VERDICT_DROP:
      return { kind: 'drop' }
    case VERDICT_ACCEPT:
      return { kind: 'accept' }
    case VERDICT_QUEUE:
      return { kind: 'queue' }
    case JUMP:
      return { kind: 'jump', chain }
    case GOTO:
      return { kind: 'goto', chain }
    case RETURN:
      return { kind: 'return' }
    case BREAK:
    case CONTINUE:
      return { kind: 'continue' }
  }
  return { kind: (code & 0xff) === VERDICT_QUEUE ? 'queue' : 'accept' }
}

/** A table of either kind. */
export interface Table {
  family: Family
  /** Of the kernel's older ip_tables. */
  isLegacy?: boolean
  name: string
  chains: readonly Chain[]
  rules: ReadonlyMap<string, readonly WholeRule[]>
  find(set: string, key: Uint8Array): FoundElement | undefined
}
