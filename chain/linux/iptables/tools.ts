/** Finds the iptables tools, tells which variant they are without starting one, and runs them. */

import { helperEnvironment, helperPath, runnerForCaller } from '../child-environment.ts'
import { errno, isErrno } from '../libc/errno.ts'
import { close, O_CLOEXEC, O_RDONLY, open } from '../libc/file.ts'
import { readLink } from '../libc/folder.ts'
import { BusyError, patience } from '../lock.ts'
import { describeHolders } from '../lock-holder.ts'
import { now, observer } from '../observer.ts'

export type Family = 'ip' | 'ip6'

/** Where rules end up: in nf_tables, or in the kernel's older ip_tables. Each sees its own rules only. */
export type Variant = 'nf_tables' | 'legacy'

export interface Tools {
  family: Family
  variant: Variant
  /** Paths of iptables, iptables-restore and iptables-save. */
  command: string
  restore: string
  save: string
}

const prefixes = { ip: 'iptables', ip6: 'ip6tables' } as const

/** The tools of a family, of the machine's choice or of one variant; undefined where they are not installed. */
export function findTools(family: Family, variant?: Variant): Tools | undefined {
  const suffix = variant === undefined ? '' : variant === 'legacy' ? '-legacy' : '-nft'
  const prefix = `${prefixes[family]}${suffix}`
  const command = find(prefix)
  const restore = command && find(`${prefix}-restore`)
  const save = restore && find(`${prefix}-save`)
  if (!save) return undefined
  return { family, variant: variant ?? variantOf(restore), command, restore, save }
}

/** The tools of a variant: those of the machine's choice if they are of it, else those that have it in their names. */
export function findVariant(family: Family, variant: Variant): Tools | undefined {
  const usual = findTools(family)
  return usual?.variant === variant ? usual : findTools(family, variant)
}

function find(name: string): string | undefined {
  return Bun.which(name, { PATH: helperPath() }) ?? undefined
}

/** All of the tools' names lead to one binary of either variant; what leads elsewhere is older than nf_tables. */
function variantOf(path: string): Variant {
  return realPath(path).includes('nft') ? 'nf_tables' : 'legacy'
}

function realPath(path: string): string {
  try {
    const descriptor = open(path, O_RDONLY | O_CLOEXEC)
    try {
      return readLink(`/proc/self/fd/${descriptor}`)
    } finally {
      close(descriptor)
    }
  } catch (thrown) {
    if (isErrno(thrown, errno.ENOENT, errno.EACCES)) return path
    throw thrown
  }
}

export interface Outcome {
  /** Exit status; 0 is success, 2 a line that is not understood, 4 that the kernel or another process is in the way. */
  status: number
  stdout: string
  /** What the tool said. */
  stderr: string
}

const HELD = 'Another app is currently holding the xtables lock'

/** Has a tool wait for the lock that the older variant takes, as long as anybody waits for a lock. */
export const waitOption = () => `--wait=${Math.ceil(Math.max(patience.milliseconds, 1) / 1000)}`

/**
 * Runs one of the tools to its end; throws BusyError where another process did not let go of the tools' own lock. It inherits the descriptor of a lock: should this process be killed, the lock is held
 * until the tool has ended.
 */
export function run(args: readonly string[], options: { input?: string; lock?: number } = {}): Outcome {
  const { input = '' } = options
  const began = now()
  const outcome = runToEnd(args, options)
  observer?.({
    of: 'program',
    operations: () => [args.join(' '), ...input.split('\n').filter(line => /^-[A-Z] /.test(line))],
    changes: input !== '',
    began,
    ended: performance.now(),
    refusal: outcome.status === 0 ? undefined : outcome.stderr,
  })
  if (outcome.status !== 0 && outcome.stderr.includes(HELD)) {
    const path = helperEnvironment().XTABLES_LOCKFILE ?? '/run/xtables.lock'
    throw new BusyError(path, describeHolders(path), patience.milliseconds)
  }
  return outcome
}

function runToEnd(args: readonly string[], { input = '', lock }: { input?: string; lock?: number }): Outcome {
  const env = { ...helperEnvironment(), PATH: helperPath(), LC_ALL: 'C' } // XTABLES_LOCKFILE, XTABLES_LIBDIR
  const runFor = runnerForCaller()
  if (runFor) {
    const { signal, ...ended } = runFor({ args, env, input, inherited: lock })
    const words = signal === undefined ? '' : `${args[0]} was ended by signal ${signal}\n`
    return { ...ended, stderr: `${words}${ended.stderr}` }
  }
  const { exitCode, signalCode, stdout, stderr } = Bun.spawnSync([...args], {
    env,
    stdio: [Buffer.from(input), 'pipe', 'pipe', ...(lock === undefined ? [] : [lock])],
  })
  const ended = signalCode ? `${args[0]} was ended by ${signalCode}\n` : ''
  return { status: exitCode ?? 128, stdout: stdout.toString(), stderr: `${ended}${stderr}` }
}
