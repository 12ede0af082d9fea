/** What a plugin file sees: a plugin is a value, its verbs are functions from a typed request to a result. */
import type { z } from 'zod/mini'
import type { Engine } from '../linux/nftables/nft.ts'
import type { Attachment, ValidAttachment } from '../protocol/attachment.ts'
import { CniError } from '../protocol/error.ts'
import type { Result } from '../protocol/result.ts'
import type { Delegate } from './delegate.ts'
import type { World } from './io.ts'
import type { Keep, Undo } from './undo.ts'

export type { Attachment, ValidAttachment }

/** What every verb but VERSION is given. */
export interface BaseRequest<Configuration> {
  config: Configuration
  network: string
  /** The configuration's version, "0.1.0" when it names none. */
  cniVersion: string
  /** Runs other plugins (IPAM, flannel's delegate) with this request's environment and standard input. */
  delegate: Delegate
  /** Applies nftables rulesets. */
  engine: Engine
  world: World
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
  /** Waits until nobody else has what is named (other than the attachment, which one has), and keeps it to the verb's end. */
  alone(name: string): Promise<void> | undefined
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

export interface DelRequest<Configuration> extends AttachmentRequest<Configuration> {
  /** The namespace may never have been named, or be gone: undefined then. */
  netns: string | undefined
}

export interface GcRequest<Configuration> extends BaseRequest<Configuration> {
  valid: ValidAttachment[]
}

export interface Plugin<Configuration = unknown> {
  name: string
  /** Versions of the specification that it takes; all when absent. */
  versions?: readonly string[]
  /** It keeps nothing and makes nothing: two operations at once need not wait for one another. */
  stateless?: boolean
  /** It keeps others off by a lock beside what it changes: where the one under /run cannot be made, ADD goes on. */
  ownLock?: boolean
  /** What its configuration may hold; absent where it takes none, which saves loading zod. */
  config?: z.ZodMiniType<Configuration>
  add(request: AddRequest<Configuration>): Promise<Result> | Result
  check(request: CheckRequest<Configuration>): Promise<void> | void
  del(request: DelRequest<Configuration>): Promise<void> | void
  status?(request: BaseRequest<Configuration>): Promise<void> | void
  gc?(request: GcRequest<Configuration>): Promise<void> | void
}

/** Declares a plugin; the configuration's type follows from its schema, and is the plugin's own affair from then on. */
export function definePlugin<Configuration>(plugin: Plugin<Configuration>): Plugin {
  return plugin as unknown as Plugin
}
