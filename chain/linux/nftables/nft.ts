/**
 * Rulesets of nf_tables as data (libnftables-json(5)), and the engine that applies one as a single transaction by
 * running nft. Knows no table of ours.
 */

import { helperEnvironment, helperPath, runnerForCaller } from '../child-environment.ts'
import { SystemFailure } from '../failure.ts'
import { errno } from '../libc/errno.ts'
import { close } from '../libc/file.ts'
import { inNamespace, openNewNamespace } from '../netns.ts'
import { now, observer } from '../observer.ts'

export type Family = 'ip' | 'ip6' | 'inet' | 'bridge'

/** An expression or a statement; what they may be is nft's grammar, and `nft -c -j` judges it in the tests. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json }

export interface TableSpec {
  family: Family
  name: string
}

export interface ChainSpec {
  family: Family
  table: string
  name: string
  type?: 'nat' | 'filter'
  hook?: 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting'
  prio?: number
  policy?: 'accept' | 'drop'
}

export interface RuleSpec {
  family: Family
  table: string
  chain: string
  expr?: Json[]
  comment?: string
  handle?: number
}

export interface SetSpec {
  family: Family
  table: string
  name: string
  type: string | string[]
  flags?: ('interval' | 'constant')[]
}

export interface MapSpec extends SetSpec {
  map: string
}

export interface ElementSpec {
  family: Family
  table: string
  /** Name of the set or map. */
  name: string
  elem: Json[]
}

/** What a ruleset is made of, and a command is about. */
export type NftObject =
  | ({ kind: 'table' } & TableSpec)
  | ({ kind: 'chain' } & ChainSpec)
  | ({ kind: 'rule' } & RuleSpec)
  | ({ kind: 'set' } & SetSpec)
  | ({ kind: 'map' } & MapSpec)
  | ({ kind: 'element' } & ElementSpec)

/** add: created if absent; create: must not exist; insert: a rule at the chain's start. Verbs and kinds are nft's own. */
export type Command =
  | ({ verb: 'add' | 'create' | 'insert' | 'delete' } & NftObject)
  | ({ verb: 'flush'; kind: 'table' } & TableSpec)
  | ({ verb: 'flush'; kind: 'chain' } & Pick<ChainSpec, 'family' | 'table' | 'name'>)

/**
 * Applies commands whole or not at all. Throws NftError: with ERESTART, and nothing done, where the ruleset has changed since a
 * generation that the commands were decided from. (The program nft cannot tell.)
 */
export type Engine = (commands: readonly Command[], generation?: number) => Promise<void>

/** A refused ruleset: errno if nft named one, and the command that failed. */
export class NftError extends SystemFailure {
  override name = 'NftError'
  readonly command: Command | undefined
  declare readonly said: string

  constructor(
    message: string,
    said: string,
    { errno, command }: { errno?: number | undefined; command?: Command | undefined },
  ) {
    const subject = command && describeCommand(command)
    super(message, { operation: 'apply nftables rules', subject, errno, said })
    this.command = command
  }
}

interface Outcome {
  failed: boolean
  message: string
  stdout: string
}

type RunNft = (options: readonly string[], input?: string) => Outcome

/** Loads what runs nft; here only, since execa costs more than the rest of a plugin. */
async function loadNft(): Promise<RunNft> {
  const runFor = runnerForCaller()
  if (runFor) return nftBy(runFor)
  const { execaSync } = await import('execa')
  // The synchronous form: the asynchronous one gives the child a socket as stdin, which `nft -f -` cannot open.
  return (options, input = '') => {
    const result = execaSync('nft', options, {
      input,
      reject: false,
      env: { ...helperEnvironment(), PATH: helperPath(), LC_ALL: 'C' },
      extendEnv: false,
    })
    if (result.code === 'ENOENT') throw notInstalled()
    const message = String(result.stderr || result.shortMessage || '')
    return { failed: result.failed, message, stdout: String(result.stdout) }
  }
}

/** On behalf of somebody else than who started this process. */
function nftBy(runFor: NonNullable<ReturnType<typeof runnerForCaller>>): RunNft {
  return (options, input = '') => {
    const file = Bun.which('nft', { PATH: helperPath() })
    if (!file) throw notInstalled()
    const env = { ...helperEnvironment(), PATH: helperPath(), LC_ALL: 'C' }
    const { status, signal, stdout, stderr } = runFor({ args: [file, ...options], env, input })
    const message = stderr || (signal === undefined ? '' : `nft was ended by signal ${signal}`)
    return { failed: status !== 0, message, stdout }
  }
}

function notInstalled(): NftError {
  return new NftError('apply nftables rules: nft is not installed', `no nft in ${helperPath()}`, {
    errno: errno.ENOENT,
  })
}

/** Commands as `nft -j -f` reads them. */
export function nftDocument(commands: readonly Command[]): string {
  return JSON.stringify({
    nftables: commands.map(({ verb, kind, ...spec }) => ({ [verb]: { [kind]: spec } })),
  })
}

/** The engine that runs `nft -j -f -` once: it can apply everything. */
export const applyWithNft: Engine = async commands => {
  if (commands.length === 0) return
  const runNft = await loadNft()
  const began = now()
  const { failed, message } = runNft(['-j', '-f', '-'], nftDocument(commands))
  observer?.({
    of: 'program',
    operations: () => ['nft -j -f -', ...commands.map(describeCommand)],
    changes: true,
    began,
    ended: performance.now(),
    refusal: failed ? message : undefined,
  })
  if (!failed) return
  const command = firstRefused(runNft, commands)
  const number = errnoOf(message)
  const subject = command ? `: ${describeCommand(command)}` : ''
  throw new NftError(`apply nftables rules${subject}: ${firstLine(message)}`, message, {
    errno: number,
    command,
  })
}

/** The shortest refused beginning ends with the command that fails; nft itself names no JSON command. */
function firstRefused(runNft: RunNft, commands: readonly Command[]): Command | undefined {
  const isRefused = (count: number) =>
    runNft(['-c', '-j', '-f', '-'], nftDocument(commands.slice(0, count))).failed
  let accepted = 0
  let refused = commands.length
  if (!isRefused(refused)) return undefined // what was refused a moment ago would be taken now: none is to blame
  while (refused - accepted > 1) {
    const middle = (accepted + refused) >> 1
    if (isRefused(middle)) refused = middle
    else accepted = middle
  }
  return commands[refused - 1]
}

function firstLine(message: string): string {
  return message.split('\n', 1)[0] ?? ''
}

/** The only place that reads nft's message, and only their first line: it prints strerror() of what the kernel said. */
function errnoOf(message: string): number | undefined {
  const line = firstLine(message).replace(/; did you mean .*$/, '')
  if (line.endsWith('No such file or directory')) return errno.ENOENT
  if (line.endsWith('File exists')) return errno.EEXIST
  if (line.endsWith('Directory not empty') || line.includes('interval overlaps')) return errno.ENOTEMPTY
  if (line.endsWith('Device or resource busy')) return errno.EBUSY
  if (line.endsWith('Operation not supported')) return errno.EOPNOTSUPP
  if (line.endsWith('Operation not permitted')) return errno.EPERM
  return undefined
}

/** A command for a person: "create element ip catena port_address { … }". */
export function describeCommand(command: Command): string {
  const { verb, kind, family } = command
  const where =
    kind === 'table' ? [command.name] : [command.table, kind === 'rule' ? command.chain : command.name]
  const body = kind === 'element' ? command.elem : kind === 'rule' ? command.expr : undefined
  return `${[verb, kind, family, ...where].join(' ')}${body === undefined ? '' : ` ${JSON.stringify(body)}`}`
}

/**
 * Translates match expressions from nft's language into data, by letting nft load them into an empty namespace and list
 * them again. Throws NftError for what nft does not take.
 */
export async function translateMatches(family: Family, matches: string): Promise<Json[]> {
  const runNft = await loadNft()
  const namespace = openNewNamespace()
  try {
    return inNamespace(namespace, () => {
      const scratch = `table ${family} scratch { chain scratch { ${matches} counter; }; }`
      const loaded = runNft(['-f', '-'], `${scratch}\n`)
      if (loaded.failed) throw new NftError(`read the nftables expression "${matches}"`, loaded.message, {})
      const { nftables } = JSON.parse(runNft(['-j', 'list', 'ruleset']).stdout) as {
        nftables: { rule?: RuleSpec }[]
      }
      const expressions = nftables.find(({ rule }) => rule)?.rule?.expr ?? []
      return expressions.slice(0, -1) // the counter only made the rule complete
    })
  } finally {
    close(namespace)
  }
}
