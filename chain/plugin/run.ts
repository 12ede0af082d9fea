/**
 * The frame in which every plugin runs: environment and standard input in, result or error out, exit status. The only
 * file of the plugins that touches the process.
 */

import { decodeText, encodeText } from '../linux/bytes.ts'
import { callingProcess } from '../linux/child-environment.ts'
import { errno, isErrno } from '../linux/libc/errno.ts'
import { readAll, writeAll } from '../linux/libc/file.ts'
import type { HeldNames } from '../linux/lock.ts'
import { namespaceIdentity, namespaceState, ownNamespaceIdentity } from '../linux/netns.ts'
import { applyRuleset } from '../linux/nftables/engine.ts'
import { type Held, onStranded } from '../linux/stranded.ts'
import { decode, decodeLeniently } from '../protocol/checks.ts'
import { type BaseConfiguration, decodeBase, parseConfiguration } from '../protocol/configuration.ts'
import { checkVerb, type Environment, parseEnvironment, type Verb } from '../protocol/environment.ts'
import { CniError, code, errorDocument, toCniError } from '../protocol/error.ts'
import { parseResult, printError, printResult, type Result } from '../protocol/result.ts'
import { checkVersion, supportedVersions, versionReply } from '../protocol/version.ts'
import { waitForTurn } from './alone.ts'
import { type Attachment, type AttachmentRequest, notChained, type Plugin } from './define.ts'
import { delegateFor } from './delegate.ts'
import { type Io, stopIfAbandoned } from './io.ts'
import { type Ipam, ipamOf, missingIpam, noIpam } from './ipam.ts'
import { type Recorder, record } from './record.ts'
import { allOrNothing, type Undo } from './undo.ts'

/** Runs a plugin once with its input and output; prints what it has to and answers the exit status. Never throws. */
export async function run(plugin: Plugin, io: Io): Promise<0 | 1> {
  if (!isCalled(io)) return introduce(plugin, io)
  let cniVersion: string | undefined
  const learn = (version: string) => {
    cniVersion = version
  }
  const env = io.recordedAs === undefined ? io.env : { ...io.env, CNI_COMMAND: io.recordedAs }
  const recorder = record({ plugin: plugin.name, ...askedBy(), env })
  try {
    await perform(plugin, io, { learn, recorder })
    const published = recorder?.end()
    if (published) await published
    return 0
  } catch (thrown) {
    const error = toCniError(thrown)
    report(io, printError(errorDocument(error, cniVersion)))
    const published = recorder?.end(error)
    if (published) await published
    return 1
  }
}

/** Where standard output is not read any more, the log may still have the error. */
function report(io: Io, text: string): void {
  try {
    io.stdout(text)
  } catch {
    io.stderr(`${text}\n`)
  }
}

/** Without a verb it is a person, or a program that wants to know what it is; other CNI variables may be of its own setting. */
function isCalled({ env }: Io): boolean {
  return Boolean(env.CNI_COMMAND)
}

async function introduce({ name, versions = supportedVersions }: Plugin, io: Io): Promise<0> {
  const { introduction } = await import('./introduction.ts')
  io.stderr(introduction(name, versions))
  return 0
}

/** The verb's story: what is asked, whether it can be done, doing it, and printing what came of it. */
async function perform(
  plugin: Plugin,
  io: Io,
  { learn, recorder }: { learn(cniVersion: string): void; recorder: Recorder | undefined },
): Promise<void> {
  const versions = plugin.versions ?? supportedVersions
  if (io.env.CNI_COMMAND === 'VERSION') return io.stdout(`${JSON.stringify(versionReply(versions))}\n`)
  const environment = parseEnvironment(io.env)
  const stdin = readInput(io)
  const json = parseConfiguration(stdin)
  const base = decodeBase(json)
  learn(base.cniVersion)
  const { verb } = environment
  checkVerb(verb)
  checkVersion(verb, base.cniVersion, versions)
  refuseOwnNamespace(environment)
  const config = plugin.config && (await (verb === 'DEL' ? decodeLeniently : decode)(plugin.config, json))
  recorder?.begin(base.name, environment.args, config)
  const attachment = attachmentOf(environment, base)
  const waiting = waitForTurn(plugin, verb, withEnd(attachment, io))
  using turn = waiting instanceof Promise ? await waiting : waiting
  const request = requestFor({ plugin, environment, base, io, stdin, config, attachment, turn })
  if (verb === 'ADD' || verb === 'CHECK') refuseLacking(plugin, request, base)
  else if (verb === 'STATUS') requireIpam(plugin, request)
  const netns = environment.netns ?? ''
  const attached = <More extends object>(more: More) => withPrevious({ ...request, ...more }, verb, base)
  switch (verb) {
    case 'ADD':
      // an ADD whose result could not be handed over has failed
      return await allOrNothing(async (undo, keep) => {
        stopIfAbandoned(io)
        const result = await plugin.add(attached({ netns, undo: unlessAbandoned(undo, io), keep }))
        stopIfAbandoned(io)
        recorder?.note(result)
        io.stdout(printResult(result, base.cniVersion))
      })
    case 'CHECK':
      return await plugin.check(attached({ netns }))
    case 'DEL':
      return await plugin.del(attached({ netns: namespaceState(netns) === 'present' ? netns : undefined }))
    case 'GC':
      // Without a list of what is alive nothing is known to be dead.
      if (base.validAttachments) await plugin.gc?.({ ...request, valid: base.validAttachments })
      return
    case 'STATUS':
      return await plugin.status?.(request)
  }
}

/** ADD stops between two steps where it is not waited for any more, and takes back those that it has taken. */
function unlessAbandoned(undo: Undo, io: Io): Undo {
  if (!io.isAbandoned) return undo
  return (what, step) => {
    undo(what, step)
    stopIfAbandoned(io)
  }
}

/** The attachment, with what ends a wait for its turn. */
function withEnd(
  attachment: Attachment,
  { isAbandoned, untilAbandoned }: Io,
): Parameters<typeof waitForTurn>[2] {
  return isAbandoned && untilAbandoned ? { ...attachment, isAbandoned, untilAbandoned } : attachment
}

function readInput(io: Io): string {
  try {
    return io.stdin()
  } catch (thrown) {
    throw new CniError(code.io, 'error reading from stdin', {
      details: toCniError(thrown).message,
      cause: thrown,
    })
  }
}

/** Before anything is done: a plugin that worked on its own namespace would work on the host's. */
function refuseOwnNamespace({ verb, netns, netnsOverride }: Environment): void {
  if ((verb !== 'ADD' && verb !== 'DEL') || !netns || netnsOverride) return
  const identity = identityOf(netns)
  if (identity === undefined || identity !== ownNamespaceIdentity()) return
  throw new CniError(
    code.invalidNamespace,
    `plugin's netns and netns from CNI_NETNS should not be the same: ${netns}`,
    {
      details: 'CNI_NETNS names the namespace that the plugin runs in, not a container',
    },
  )
}

function identityOf(netns: string): string | undefined {
  try {
    return namespaceIdentity(netns)
  } catch (thrown) {
    if (isErrno(thrown, errno.EACCES, errno.EPERM)) return undefined // it cannot be looked at: the plugin will say so
    throw thrown
  }
}

function attachmentOf(
  { containerId = '', ifname = '' }: Environment,
  { name }: BaseConfiguration,
): Attachment {
  return { network: name, containerId, ifname }
}

/** What a plugin of its kind cannot do without. DEL and GC take away whatever the configuration says. */
function refuseLacking(
  plugin: Plugin,
  request: { config: unknown; ipam: Ipam },
  { prevResult }: BaseConfiguration,
): void {
  plugin.validate?.(request.config)
  requireIpam(plugin, request)
  if (plugin.chained && prevResult === undefined) throw notChained(plugin.name)
}

function requireIpam({ name, ipam: need }: Plugin, { ipam }: { ipam: Ipam }): void {
  if (need === 'required' && ipam.type === undefined) throw missingIpam(name)
}

function requestFor(given: {
  plugin: Plugin
  environment: Environment
  base: BaseConfiguration
  io: Io
  stdin: string
  config: unknown
  attachment: Attachment
  turn: HeldNames | undefined
}): Omit<AttachmentRequest<unknown>, 'previous'> {
  const { plugin, environment, base, io, stdin, config, attachment, turn } = given
  const { cniVersion, name: network } = base
  const delegate = delegateFor({ io, path: environment.path, stdin, cniVersion })
  return {
    config,
    network,
    cniVersion,
    io,
    stdin,
    path: environment.path,
    args: environment.args,
    engine: io.engine ?? applyRuleset,
    delegate,
    ipam: plugin.ipam ? ipamOf(config, delegate) : noIpam,
    attachment,
    alone: name => (turn && !turn.tryHold(name) ? turn.hold(name) : undefined),
  }
}

/**
 * Adds prevResult, read when somebody looks: one of another version, or a torn one, is of no concern to a plugin that has no
 * use for it.
 */
function withPrevious<Request extends object>(
  request: Request,
  verb: Verb,
  { prevResult, cniVersion }: BaseConfiguration,
): Request & Pick<AttachmentRequest<unknown>, 'previous'> {
  let read: { previous: Result | undefined } | undefined
  return Object.defineProperty(request as Request & { previous: Result | undefined }, 'previous', {
    get: () => {
      read ??= { previous: previousOf(verb, prevResult, cniVersion) }
      return read.previous
    },
  })
}

/** DEL looks instead of remembering: a torn result must not keep it from deleting. */
function previousOf(verb: string, prevResult: unknown, cniVersion: string): Result | undefined {
  if (prevResult === undefined) return undefined
  try {
    return parseResult(prevResult, cniVersion)
  } catch (thrown) {
    if (verb === 'DEL') return undefined
    throw thrown
  }
}

const returns = { namespace: "the container's network namespace", label: "the container's SELinux context" }

/** What is said by a process that cannot be again what it was. */
export function strandedError({ message }: Error, held: Held): CniError {
  return new CniError(code.internal, `return from ${returns[held]}: ${message}`, {
    details: 'the process has ended at once, and nothing was undone: that is left to DEL',
  })
}

/** The process that a call is of, and the one that has started that. */
function askedBy(): { pid: number; parent: number } {
  return callingProcess() ?? { pid: process.pid, parent: process.ppid }
}

/** The input and output of a process. Through libc: process.stdout.write costs 7.7 ms at the first call. */
export function processIo(builtins?: Io['builtins']): Io {
  onStranded((thrown, held) =>
    writeAll(1, encodeText(printError(errorDocument(strandedError(thrown, held)))), 'standard output'),
  )
  return {
    env: process.env,
    stdin: () => decodeText(readAll(0, 'standard input')),
    stdout: text => writeAll(1, encodeText(text), 'standard output'),
    stderr: text => writeAll(2, encodeText(text), 'standard error'),
    builtins,
  }
}

/** Runs a plugin as this process. */
export function main(plugin: Plugin): void {
  exitWith(run(plugin, processIo()))
}

/** Ends the process with what a program answers. The exit status is set, not forced: forcing it cuts long output short. */
export function exitWith(running: Promise<number>): void {
  running
    .catch(async thrown => (await import('./last-words.ts')).lastWords(thrown))
    .then(status => {
      process.exitCode = status
    })
}
