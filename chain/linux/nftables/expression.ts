/** What a rule of nf_tables does, read from its expressions as far as somebody asks for it. Pure. */
import { addressText } from '../../ip/bytes.ts'
import { type AttributeMap, attributeMap, attributes, readText, readUint32Big } from '../netlink/codec.ts'

/** What a rule matches and what it leads to; absent where it does not match by it, or not by one value alone. */
export interface RuleContent {
  /** What iptables keeps as a match of its own (linux/netfilter/nf_tables_compat.h, xt_comment.h); nft has it elsewhere. */
  comment: string
  /** Chains that the rule jumps or goes to. */
  targets: string[]
  /** It drops, rejects, queues, or hands packets to an extension that is not known to let them go on. */
  mayDrop: boolean
  source?: string
  destination?: string
  /** Names of the links that packets come from and go to. */
  input?: string
  output?: string
}

type Attributes = AttributeMap

const ADDRESS_OFFSETS: Readonly<Record<string, 'source' | 'destination'>> = {
  '4 12': 'source', // struct iphdr, struct ipv6hdr
  '4 16': 'destination',
  '16 8': 'source',
  '16 24': 'destination',
}
const NETWORK_HEADER = 1 // NFT_PAYLOAD_NETWORK_HEADER
const LINK_NAMES: Readonly<Record<number, 'input' | 'output'>> = { 6: 'input', 7: 'output' } // NFT_META_IIFNAME, OIFNAME
const EQUAL = 0 // NFT_CMP_EQ

const harmless = [
  'AUDIT',
  'CHECKSUM',
  'CLASSIFY',
  'CONNMARK',
  'CONNSECMARK',
  'CT',
  'DSCP',
  'HL',
  'LOG',
  'MARK',
]
const harmlessToo = [
  'NFLOG',
  'NOTRACK',
  'SECMARK',
  'SET',
  'TCPMSS',
  'TCPOPTSTRIP',
  'TEE',
  'TOS',
  'TRACE',
  'TTL',
]
/** Targets of iptables after which a packet goes on to the next rule. */
export const goesOn: ReadonlySet<string> = new Set([...harmless, ...harmlessToo])

/** Reads NFTA_RULE_EXPRESSIONS. */
export function readExpressions(expressions: Uint8Array | undefined): RuleContent {
  const content: RuleContent = { comment: '', targets: [], mayDrop: false }
  let loaded: 'source' | 'destination' | 'input' | 'output' | undefined
  for (const { value } of expressions ? attributes(expressions) : []) {
    const expression = attributeMap(value)
    const name = textOf(expression.get(1)) // NFTA_EXPR_NAME
    const data = attributeMap(expression.get(2) ?? new Uint8Array(0)) // NFTA_EXPR_DATA
    if (name === 'cmp' && loaded) compare(content, loaded, data)
    loaded = loadedBy(name, data)
    if (name === 'immediate') conclude(content, data)
    if (name === 'match' && textOf(data.get(1)) === 'comment') content.comment = textOf(data.get(3)) // NFTA_MATCH_NAME, INFO
    if (name === 'reject' || name === 'queue') content.mayDrop = true
    if (name === 'target' && !goesOn.has(textOf(data.get(1)))) content.mayDrop = true // NFTA_TARGET_NAME
  }
  return content
}

function textOf(value: Uint8Array | undefined): string {
  return value ? readText(value) : ''
}

function numberOf(value: Uint8Array | undefined): number {
  return value ? readUint32Big(value) : 0
}

function loadedBy(name: string, data: Attributes) {
  if (name === 'meta') return LINK_NAMES[numberOf(data.get(2))] // NFTA_META_KEY
  if (name !== 'payload' || numberOf(data.get(2)) !== NETWORK_HEADER) return undefined // NFTA_PAYLOAD_BASE
  return ADDRESS_OFFSETS[`${numberOf(data.get(4))} ${numberOf(data.get(3))}`] // NFTA_PAYLOAD_LEN, NFTA_PAYLOAD_OFFSET
}

function compare(content: RuleContent, what: keyof RuleContent & string, data: Attributes): void {
  const value = attributeMap(data.get(3) ?? new Uint8Array(0)).get(1) // NFTA_CMP_DATA, NFTA_DATA_VALUE
  if (!value || numberOf(data.get(2)) !== EQUAL) return // NFTA_CMP_OP
  if (what === 'source' || what === 'destination') content[what] = addressText(value)
  // a name that does not end is the beginning of one
  if ((what === 'input' || what === 'output') && value.includes(0)) content[what] = readText(value)
}

const DROP = 0
const QUEUE = 3

/** NFTA_IMMEDIATE_DATA with a verdict; without one it loads a value. */
function conclude(content: RuleContent, data: Attributes): void {
  const verdict = attributeMap(data.get(2) ?? new Uint8Array(0)).get(2) // NFTA_DATA_VERDICT
  if (!verdict) return
  const found = attributeMap(verdict)
  const code = numberOf(found.get(1)) // NFTA_VERDICT_CODE
  if (code === DROP || code === QUEUE) content.mayDrop = true
  const chain = found.get(2) // NFTA_VERDICT_CHAIN
  if (chain) content.targets.push(readText(chain))
}
