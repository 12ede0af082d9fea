/** What one plugin call has of the process: environment, input and output. Tests hand in another. */

import type { Builtins } from '../invoke/invoke.ts'
import type { Engine } from '../linux/nftables/nft.ts'
import { CniError, code } from '../protocol/error.ts'

export interface Io {
  env: Readonly<Record<string, string | undefined>>
  stdin(): string
  stdout(text: string): void
  stderr(text: string): void
  /** Plugins that this executable holds, for delegation without a process. */
  builtins?: Builtins | undefined
  /** What the flight recorder is to call it, where that is no verb of the specification. */
  recordedAs?: string
  /** True once whoever called has gone: ADD then stops and undoes what it did. Absent where this process would have gone too. */
  isAbandoned?(): boolean
  /** Runs what is to end when whoever called goes: the signal tells. */
  untilAbandoned?<T>(body: (signal: AbortSignal) => Promise<T>): Promise<T>
  /** Applies rulesets; the engine of linux/engine.ts when absent. */
  engine?: Engine | undefined
}

/** Throws where the call is not waited for any more. */
export function stopIfAbandoned(io: Pick<Io, 'isAbandoned'>): void {
  if (io.isAbandoned?.()) throw new CniError(code.tryAgainLater, 'whoever called has gone')
}

/** Output that is kept as text. */
export function keptOutput(): Pick<Io, 'stdout' | 'stderr'> & { kept: { stdout: string; stderr: string } } {
  const kept = { stdout: '', stderr: '' }
  return {
    kept,
    stdout: text => {
      kept.stdout += text
    },
    stderr: text => {
      kept.stderr += text
    },
  }
}
