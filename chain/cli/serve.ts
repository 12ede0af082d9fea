/** `catena serve`: the warm service as a verb of the command. */
import { type Command, InvalidArgumentError } from 'commander'
import { CniError, code } from '../protocol/error.ts'
import type { ServiceOptions } from '../service/supervisor.ts'
import type { Served } from '../service/worker.ts'
import type { Output } from './output.ts'

export interface ServeFlags extends Partial<Record<keyof ServiceOptions, number>> {
  status?: boolean
  prometheus?: boolean
  json?: boolean
}

const numbers: Readonly<Record<keyof ServiceOptions, [string, string]>> = {
  workers: ['n', 'processes that wait for calls (4)'],
  most: ['n', 'processes at most, while all are busy (16)'],
  idle: ['seconds', 'end when no call has come for so long (0: never)'],
  calls: ['n', 'calls after which a process makes room for a fresh one (5000)'],
  memory: ['MB', 'memory of its own after which it does (64)'],
  rest: ['seconds', 'without a call, after which a process tidies up, or ends if it is one too many (60)'],
}

/** Adds the verb; `endWith` takes the exit status of the service. */
export function addServeVerb(
  root: Command,
  served: Served,
  { output, endWith }: { output: Output; endWith(status: number): void },
): void {
  const command = root
    .command('serve')
    .description(
      'does the calls of plugins in processes that are warm already, for this executable under all its names',
    )
  for (const [name, [unit, description]] of Object.entries(numbers))
    command.option(`--${name} <${unit}>`, description, parseCount)
  command
    .option('--status', 'tell what the running service does')
    .option('--prometheus', 'the same as Prometheus reads it')
    .option('--json', 'the same as JSON')
    .action(async ({ status, prometheus, json: _json, ...given }: ServeFlags) => {
      if (status || prometheus) return tellStatus(output, { prometheus })
      const { serve } = await import('../service/process.ts')
      const { defaults } = await import('../service/supervisor.ts')
      endWith(await serve({ ...defaults, ...given }, served))
    })
}

function parseCount(text: string): number {
  const value = Number(text)
  if (/^\d+(\.\d+)?$/.test(text) && Number.isFinite(value)) return value
  throw new InvalidArgumentError('It must be a number.')
}

async function tellStatus(
  output: Output,
  { prometheus }: { prometheus: boolean | undefined },
): Promise<void> {
  const { askStatus } = await import('../service/client.ts')
  const { describeStatus, prometheusText } = await import('../service/status.ts')
  const status = askStatus()
  if (status === undefined) {
    throw new CniError(code.pluginNotAvailable, 'no warm service is running', {
      details:
        'plugins run in processes of their own, as they always did; docs/warm.md tells how to switch it on',
    })
  }
  if (prometheus) output.text(prometheusText(status))
  else output.answer(status, () => describeStatus(status, Date.now() / 1000))
}
