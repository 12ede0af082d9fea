/** What a plugin file sees: a plugin is a value, its verbs are functions from a typed request to a result. */
import type { Address, Cidr } from '../ip/address.ts'
import type { Engine } from '../linux/nftables/nft.ts'
import type { Attachment, ValidAttachment } from '../protocol/attachment.ts'
import type { Checks } from '../protocol/checks.ts'
import { CniError, code } from '../protocol/error.ts'
import type { Result } from '../protocol/result.ts'
import type { Delegate } from './delegate.ts'
import type { Io } from './io.ts'
import type { Ipam, IpamNeed } from './ipam.ts'
import type { Keep, Undo } from './undo.ts'

export type { Attachment, ValidAttachment }

/** What every verb but VERSION is given. */
export interface BaseRequest<Configuration> {
  config: Configuration
  network: string
  /** The configuration's version, "0.1.0" when it names none. */
  cniVersion: string
  /** Runs other plugins (flannel's delegate) with this request's environment and standard input. */
  delegate: Delegate
  /** Speaks to the IPAM plugin of the configuration; does nothing where there is none. */
  ipam: Ipam
  /** Applies nftables rulesets. */
  engine: Engine
  io: Io
  /** The configuration as it came: for what decoding loses, such as keys that stand there twice. */
  stdin: string
  /** CNI_PATH, split. */
  path: string[]
}

export interface AttachmentRequest<Configuration> extends BaseRequest<Configuration> {
  attachment: Attachment
  /** CNI_ARGS as it came. */
  args: string
  /** prevResult, if there was one. Looking at one that cannot be read throws, but in DEL. */
  previous: Result | undefined
  /** Waits until no other operation has what is named (other than the attachment, which one has), and keeps it to the verb's end. */
  alone(name: string): Promise<void> | undefined
}

/** prevResult, which CHECK needs. */
export function requirePrevious(previous: Result | undefined, plugin: string): Result {
  if (previous) return previous
  throw new CniError(code.invalidConfiguration, `prevResult: ${plugin}: Required prevResult missing`)
}

/** For `chained` plugins: in the phrases of all the Go plugins that are. */
export function notChained(plugin: string): CniError {
  return new CniError(
    code.invalidConfiguration,
    `prevResult: ${plugin}: Required prevResult missing: This plugin must be called as chained plugin, missing prevResult from earlier plugin`,
    { details: `${plugin} comes after the plugin that makes the interface, in a list of plugins` },
  )
}

/** prevResult, for who can do without: undefined too where it is of another version or cannot be read. */
export function readablePrevious(request: Pick<AttachmentRequest<unknown>, 'previous'>): Result | undefined {
  try {
    return request.previous
  } catch (thrown) {
    if (thrown instanceof CniError) return undefined
    throw thrown
  }
}

export interface AddRequest<Configuration> extends AttachmentRequest<Configuration> {
  netns: string
  /** Says how to undo the step before this line; carried out backwards when ADD fails. */
  undo: Undo
  /** Keeps a socket that undoing needs. */
  keep: Keep
}

export interface CheckRequest<Configuration> extends AttachmentRequest<Configuration> {
  netns: string
}

/** What keeps rules where a node is free to choose. */
export type RuleKeeper = 'nftables' | 'iptables'

/** `catena migrate`: an ADD's request with the attachment's own result as prevResult. */
export interface MoveRequest<Configuration> extends AddRequest<Configuration> {
  to: RuleKeeper
  /** Only says what would be done. */
  isTrial: boolean
}

/** What has become of a plugin's rules. `left` says why they are not moved; `none`: it has no rules for this attachment. */
export type Moved =
  | { outcome: 'moved' | 'there'; from: RuleKeeper }
  | { outcome: 'left'; why: string }
  | { outcome: 'none' }

export interface DelRequest<Configuration> extends AttachmentRequest<Configuration> {
  /** The namespace may never have been named, or be gone: undefined then. */
  netns: string | undefined
}

export interface GcRequest<Configuration> extends BaseRequest<Configuration> {
  valid: ValidAttachment[]
}

/** What ADD and CHECK are given of prevResult: `chained` plugins are not called without. */
type WithPrevious<Request, Chained> = Chained extends true ? Request & { previous: Result } : Request

/** Addresses that an IPAM plugin gives to containers, one after the other. */
export interface Pool {
  subnet: Cidr
  /** Both included. */
  first: Address
  last: Address
  gateway: Address
  /** How many can be had: all but the gateway. */
  size: bigint
}

/** What an attachment has in packet filters, kept by what ADD chose: CHECK looks for it. */
export interface Rules {
  /** Puts it there, in the place of what the attachment has of it; each step is followed by what undoes it. */
  add(undo: Undo): Promise<void>
  /** A sentence about what is missing. */
  check(): Promise<string | undefined>
}

export interface Plugin<Configuration = unknown, Chained extends boolean = boolean> {
  name: string
  /** Whether it hands the configuration's `ipam` on: required for ADD, CHECK and STATUS, optional, or, when absent, none of its affairs. */
  ipam?: IpamNeed
  /** It works on what an earlier plugin made: ADD and CHECK need prevResult. */
  chained?: Chained
  /** Versions of the specification that it takes; all when absent. */
  versions?: readonly string[]
  /** It keeps nothing and makes nothing: two operations at once need not wait for one another. */
  stateless?: boolean
  /** It keeps others off by a lock beside what it changes: where the one under /run cannot be made, ADD goes on. */
  ownLock?: boolean
  /** It may wait for others, for seconds: such a call is not for a process that has many to serve. */
  waitsForOthers?: boolean
  /** What its configuration may hold; absent where it takes none. */
  config?: Checks<Configuration>
  /** What ADD holds it against, where `config` takes whatever DEL may be given. For who reads configurations and runs nothing. */
  strict?: Checks<unknown>
  /** Refuses what the schema cannot, before ADD and CHECK look at anything else. */
  validate?(config: Configuration): void
  /** Refuses what ADD would refuse later, of the configuration alone. For who reads configurations and runs nothing. */
  examine?(config: Configuration, cniVersion: string): void | Promise<void>
  /** Of an IPAM plugin: what it gives addresses of, by the configuration alone. For who reads configurations and runs nothing. */
  pools?(config: Configuration, cniVersion: string): Promise<Pool[]>
  add(request: WithPrevious<AddRequest<Configuration>, Chained>): Promise<Result> | Result
  check(request: WithPrevious<CheckRequest<Configuration>, Chained>): Promise<void> | void
  /** For who puts back what somebody has flushed; undefined where it is to have none. */
  rules?(
    request: WithPrevious<CheckRequest<Configuration>, Chained>,
  ): Promise<Rules | undefined> | Rules | undefined
  del(request: DelRequest<Configuration>): Promise<void> | void
  status?(request: BaseRequest<Configuration>): Promise<void> | void
  gc?(request: GcRequest<Configuration>): Promise<void> | void
  /** Moves the rules of a live attachment to another packet filter, with no moment in which there are none. For `catena migrate`. */
  move?(request: WithPrevious<MoveRequest<Configuration>, Chained>): Promise<Moved>
}

/** Declares a plugin; the configuration's type follows from its schema, and is the plugin's own affair from then on. */
export function definePlugin<Configuration, Chained extends boolean = false>(
  plugin: Plugin<Configuration, Chained>,
): Plugin {
  return plugin as unknown as Plugin
}
