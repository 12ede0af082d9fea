/** What callers of the runtime hand in and are told: an attachment, options, a step. Types and their validation; runs nothing. */
import type { Builtins } from '../invoke/invoke.ts'
import type { Attachment, ValidAttachment } from '../protocol/attachment.ts'
import type { JsonObject } from '../protocol/configuration.ts'
import { checkContainerId, checkInterfaceName, checkNetworkName } from '../protocol/environment.ts'
import type { CniError } from '../protocol/error.ts'

export type { ValidAttachment }

/** What a network's plugins are asked to make, check or remove: libcni's RuntimeConf. */
export interface RuntimeAttachment extends ValidAttachment {
  /** Path of the network namespace. A DEL may come without, when the namespace is gone. */
  netns?: string | undefined
  /** CNI_ARGS, in order. */
  args?: readonly (readonly [key: string, value: string])[] | undefined
  /** By capability: each plugin is given those that its `capabilities` name, as `runtimeConfig`. */
  capabilityArgs?: Readonly<JsonObject> | undefined
}

/** A cached attachment, as the ADD left it. */
export interface CachedAttachment extends RuntimeAttachment, Attachment {
  /** The network's configuration as text, as it was at ADD. */
  configuration: string
  /** The ADD's result, in the version it was given in; absent when it cannot be read. */
  result?: JsonObject | undefined
}

export type RuntimeVerb = 'ADD' | 'CHECK' | 'DEL' | 'GC' | 'STATUS' | 'VERSION'

/** One plugin call that has ended, well or not. */
export interface Step {
  verb: RuntimeVerb
  /** The plugin's type. */
  plugin: string
  milliseconds: number
  /** What has done it: the warm service, this process, or one of the plugin's own; absent where nothing was started. */
  by?: 'service' | 'this process' | 'a process'
  /** What the plugin wrote to standard error. */
  stderr: string
  /** Why it failed; absent when it did not. */
  error?: CniError
}

export interface RuntimeOptions {
  /** Folders in which plugins are looked for: CNI_PATH. */
  path: readonly string[]
  /** Results are kept in its folder `results`; "/var/lib/cni" unless given. */
  cacheFolder?: string | undefined
  /** Locks are kept here; "/run/catena/locks" unless given. */
  lockFolder?: string | undefined
  /** What plugins inherit beside CNI_*; this process's environment unless given. */
  environment?: Readonly<Record<string, string | undefined>> | undefined
  /** Plugins that this executable holds, run without a process. */
  builtins?: Builtins | undefined
  /** Ends the running plugin with all that it started, and throws the signal's reason. */
  signal?: AbortSignal | undefined
  /** Milliseconds that each plugin may take before it is ended with all that it started. */
  timeout?: number | undefined
  /** Told of each plugin call when it has ended. */
  onStep?: ((step: Step) => void) | undefined
}

export interface AddOptions extends RuntimeOptions {
  /** After a failed ADD, runs DEL for what was added. Without it the caller has to, as with libcni. */
  undo?: boolean | undefined
}

/** Throws what libcni throws for a container, network or interface that the specification forbids (codes 3, 4 and 7). */
export function checkAttachment(network: string, { containerId, ifname }: RuntimeAttachment): void {
  checkContainerId(containerId)
  checkNetworkName(network)
  checkInterfaceName(ifname)
}
