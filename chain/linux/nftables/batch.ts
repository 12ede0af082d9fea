/**
 * Transactions of nf_tables over netlink: whatever our own tables are made of, and what comes and goes with each container.
 * Running nft costs ten times more than the whole of it. What this cannot encode is left to nft, the whole transaction.
 */
import { errno, isErrno } from '../libc/errno.ts'
import { unguessable } from '../libc/ffi.ts'
import { enlargeBuffer, limitReceiving } from '../libc/socket.ts'
import { attribute, encodeMessage, join, messages, nested, text, uint32Big } from '../netlink/codec.ts'
import {
  APPEND,
  CREATE,
  EXCLUSIVE,
  KernelError,
  REQUEST,
  readRefusal,
  type Transport,
} from '../netlink/socket.ts'
import { now, observer } from '../observer.ts'
import { describeSets, type SetDescription } from './list.ts'
import { openNetfilter } from './netfilter.ts'
import {
  type ChainSpec,
  type Command,
  describeCommand,
  type ElementSpec,
  NftError,
  type NftObject,
} from './nft.ts'
import { encodeRule } from './rule.ts'
import { encodeElements, encodeSet } from './set.ts'
import { OnlyNft, onlyNft } from './type.ts'

const SUBSYSTEM = 10 << 8 // NFNL_SUBSYS_NFTABLES
const NEW_TABLE = SUBSYSTEM | 0
const DELETE_TABLE = SUBSYSTEM | 2
const NEW_CHAIN = SUBSYSTEM | 3
const DELETE_CHAIN = SUBSYSTEM | 5
const NEW_RULE = SUBSYSTEM | 6
const DELETE_RULE = SUBSYSTEM | 8
const NEW_SET = SUBSYSTEM | 9
const DELETE_SET = SUBSYSTEM | 11
const NEW_ELEMENTS = SUBSYSTEM | 12
const DELETE_ELEMENTS = SUBSYSTEM | 14
const BATCH_BEGIN = 0x10 // NFNL_MSG_BATCH_BEGIN
const BATCH_END = 0x11
const BATCH_GENERATION = 1 // NFNL_BATCH_GENID, since Linux 4.12
const ACK = 4 // NLM_F_ACK
const ERROR = 2 // NLMSG_ERROR

const families = { inet: 1, ip: 2, bridge: 7, ip6: 10 } // NFPROTO_*
const hooks = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } // NF_INET_*, NF_BR_*
const policies = { drop: 0, accept: 1 } // NF_DROP, NF_ACCEPT

interface Encoded {
  type: number
  flags: number
  payload: Uint8Array
  command: Command
}

/** More does not fit the usual buffers (net.core.wmem_default, rmem_default). */
const USUAL_BYTES = 128 * 1024
const USUAL_COMMANDS = 128
/** What an acknowledgement takes of a socket's buffer, with the kernel's own data about it; a sentence comes with a refusal. */
const ACKNOWLEDGEMENT = 1024

/**
 * Applies commands as one transaction; false when there is one among them that only nft can encode. Throws NftError with
 * the command that the kernel refused; with ERESTART where the ruleset's generation is not the one given.
 */
export function applyBatch(commands: readonly Command[], generation?: number): boolean {
  using netfilter = openNetfilter()
  const encoded = encodeAll(netfilter, commands)
  if (!encoded) return false
  transact(netfilter, encoded, generation)
  return true
}

/** Commands as messages; undefined when one of them is only nft's to encode. */
function encodeAll(netfilter: Transport, commands: readonly Command[]): Encoded[] | undefined {
  const sets = new Sets(netfilter)
  try {
    return commands.flatMap(command => encodeCommand(command, sets))
  } catch (thrown) {
    if (thrown instanceof OnlyNft) return undefined
    throw thrown
  }
}

type Family = keyof typeof families

/** Sets as this batch makes them, else as the kernel describes them, each table looked at once. */
class Sets {
  readonly #known = new Map<string, SetDescription>()
  readonly #listed = new Set<string>()
  readonly #netfilter: Transport
  #made = 0

  constructor(netfilter: Transport) {
    this.#netfilter = netfilter
  }

  /** A number for a new set: the kernel wants one in each batch. */
  nextId(): number {
    return ++this.#made
  }

  learn(family: Family, table: string, description: SetDescription): void {
    this.#known.set(`${family} ${table} ${description.name}`, description)
  }

  find(family: Family, table: string, name: string): SetDescription | undefined {
    const key = `${family} ${table}`
    const known = this.#known.get(`${key} ${name}`)
    if (known || this.#listed.has(key)) return known
    this.#listed.add(key)
    for (const set of describeSets(this.#netfilter, family, table)) this.learn(family, table, set)
    return this.#known.get(`${key} ${name}`)
  }
}

function message(
  command: Command,
  { type, family, flags = 0 }: { type: number; family: Family; flags?: number },
  ...parts: Uint8Array[]
): Encoded {
  return { command, type, flags, payload: join(new Uint8Array([families[family], 0, 0, 0]), ...parts) }
}

function encodeCommand(command: Command, sets: Sets): Encoded | Encoded[] {
  switch (command.verb) {
    case 'create':
      return encodeNew(command, { sets, flags: CREATE | EXCLUSIVE })
    case 'add':
      return encodeNew(command, { sets, flags: CREATE })
    case 'insert':
      return command.kind === 'rule' ? encodeNew(command, { sets, flags: CREATE }) : onlyNft('insert')
    case 'delete':
      return encodeDeletion(command, sets)
  }
  if (command.kind !== 'chain') return onlyNft('flush')
  const { family, table, name } = command
  return message(command, { type: DELETE_RULE, family }, text(1, table), text(2, name)) // no handle: all rules
}

/** A command that is about an object as a whole. */
type ObjectCommand = Command & NftObject

function encodeNew(
  command: ObjectCommand,
  { sets, flags }: { sets: Sets; flags: number },
): Encoded | Encoded[] {
  const { family } = command
  switch (command.kind) {
    case 'element':
      return encodeElementsOf(command, { sets, flags })
    case 'table':
      return message(command, { type: NEW_TABLE, family, flags }, text(1, command.name), uint32Big(2, 0))
    case 'chain':
      return message(command, { type: NEW_CHAIN, family, flags }, ...encodeChain(command))
    case 'rule': {
      const parts = encodeRule(command, name => sets.find(family, command.table, name))
      const place = command.verb === 'insert' ? 0 : APPEND
      return message(command, { type: NEW_RULE, family, flags: flags | place }, ...parts)
    }
  }
  const { parts, description } = encodeSet(command, sets.nextId())
  sets.learn(family, command.table, description)
  return message(command, { type: NEW_SET, family, flags }, ...parts)
}

/** A chain, a base chain where it has a hook (NFTA_CHAIN_*). */
function encodeChain({ table, name, type, hook, prio = 0, policy = 'accept' }: ChainSpec): Uint8Array[] {
  if (hook === undefined) return [text(1, table), text(3, name)]
  return [
    text(1, table),
    text(3, name),
    nested(4, uint32Big(1, hooks[hook]), uint32Big(2, prio >>> 0)),
    uint32Big(5, policies[policy]),
    text(7, type ?? 'filter'),
  ]
}

function encodeElementsOf(
  command: Command & ElementSpec,
  { sets, flags }: { sets: Sets; flags?: number },
): Encoded[] {
  const { family, table, name } = command
  const set = sets.find(family, table, name)
  const type = flags === undefined ? DELETE_ELEMENTS : NEW_ELEMENTS
  // a set that is not there is for the kernel to refuse, as it would refuse nft
  const lists = set ? encodeElements(command, set) : [nested(3)]
  return lists.map(list =>
    message(command, { type, family, flags: flags ?? 0 }, text(1, table), text(2, name), list),
  )
}

function encodeDeletion(command: ObjectCommand, sets: Sets): Encoded | Encoded[] {
  const { family } = command
  switch (command.kind) {
    case 'element':
      return encodeElementsOf(command, { sets })
    case 'table':
      return message(command, { type: DELETE_TABLE, family }, text(1, command.name))
    case 'chain':
      return message(command, { type: DELETE_CHAIN, family }, text(1, command.table), text(3, command.name))
    case 'rule': {
      const { table, chain, handle } = command
      if (handle === undefined) return onlyNft('a rule without handle')
      const parts = [text(1, table), text(2, chain), bigEndian64(3, handle)]
      return message(command, { type: DELETE_RULE, family }, ...parts)
    }
  }
  return message(command, { type: DELETE_SET, family }, text(1, command.table), text(2, command.name))
}

function bigEndian64(type: number, value: number): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(8))
  bytes.setBigUint64(0, BigInt(value))
  return attribute(type, new Uint8Array(bytes.buffer))
}

let lastSequence: number | undefined
const LAST_SEQUENCE = 0xf0000000

/** Sends a batch and reads each command's acknowledgement. */
function transact(
  netfilter: Transport & { descriptor: number },
  commands: readonly Encoded[],
  generation: number | undefined,
): void {
  let sequence = lastSequence ?? unguessable() >>> 1
  if (sequence > LAST_SEQUENCE) sequence = 0 // in good time before it would begin again amidst a batch
  const first = ++sequence
  const unchanged = generation === undefined ? [] : [uint32Big(BATCH_GENERATION, generation)]
  const edge = (type: number, sequence: number, ...parts: Uint8Array[]) =>
    // res_id: the subsystem
    encodeMessage({ type, flags: REQUEST, sequence, payload: join(new Uint8Array([0, 0, 0, 10]), ...parts) })
  const body = commands.map(({ type, flags, payload }) =>
    encodeMessage({ type, flags: REQUEST | ACK | flags, sequence: ++sequence, payload }),
  )
  const batch = join(edge(BATCH_BEGIN, first, ...unchanged), ...body, edge(BATCH_END, ++sequence))
  lastSequence = sequence
  limitReceiving(netfilter.descriptor, PATIENCE)
  if (batch.length > USUAL_BYTES) enlargeBuffer(netfilter.descriptor, 'sending', batch.length)
  if (body.length > USUAL_COMMANDS)
    enlargeBuffer(netfilter.descriptor, 'receiving', body.length * ACKNOWLEDGEMENT)
  const began = now()
  netfilter.send(batch)
  const [refusal] = acknowledgements(netfilter, { first, commands })
  observer?.({
    of: 'nftables',
    operations: most => commands.slice(0, most).map(({ command }) => describeCommand(command)),
    count: commands.length,
    changes: true,
    began,
    ended: performance.now(),
    refusal: refusal?.error.message,
  })
  if (!refusal) return
  const subject = refusal.command ? `: ${describeCommand(refusal.command)}` : ''
  throw new NftError(`apply nftables rules${subject}: ${refusal.error.message}`, refusal.error.message, {
    errno: refusal.error.errno,
    command: refusal.command,
  })
}

const PATIENCE = 10 // seconds: the kernel answers within the send

function receiveInTime(netfilter: Transport): Uint8Array {
  try {
    return netfilter.receive()
  } catch (thrown) {
    if (!isErrno(thrown, errno.EAGAIN)) throw thrown
    throw new KernelError('apply nftables rules', errno.ETIMEDOUT, 'the kernel did not acknowledge the batch')
  }
}

function acknowledgements(
  netfilter: Transport,
  { first, commands }: { first: number; commands: readonly Encoded[] },
): { error: KernelError; command: Command | undefined }[] {
  const refusals: { error: KernelError; command: Command | undefined }[] = []
  for (let open = commands.length; open > 0; ) {
    for (const message of messages(receiveInTime(netfilter))) {
      if (message.type !== ERROR) continue
      const command = commands[message.sequence - first - 1]?.command
      const error = readRefusal('nf_tables', message)
      if (error) refusals.push({ error, command })
      open = command === undefined ? 0 : open - 1 // an answer to the batch itself is the only one
    }
  }
  return refusals
}
