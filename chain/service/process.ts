/** This process, as the service and its workers see it: the only file of the room that touches it. */
import { parseArgs } from 'node:util'
import { encodeText } from '../linux/bytes.ts'
import { writeAll } from '../linux/libc/file.ts'
import { type ServiceOptions, type ServiceProcess, supervise } from './supervisor.ts'
import { type Served, work } from './worker.ts'

/** Runs the service in this process; answers the exit status. */
export function serve(options: ServiceOptions, served: Served): Promise<number> {
  return supervise(options, serviceProcess(), served.names)
}

/** Runs a worker, as the supervisor starts it. */
export function serveAsWorker(words: readonly string[], served: Served): Promise<number> {
  // Ctrl-C reaches all processes of a terminal; whoever started this one tells it when to end
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {})
  const { values } = parseArgs({ args: [...words], options: workerOptions, strict: true })
  const number = (name: keyof typeof workerOptions) => Number(values[name])
  const { slot, workers, calls, memory, rest } = {
    slot: number('slot'),
    workers: number('workers'),
    calls: number('calls'),
    memory: number('memory'),
    rest: number('rest'),
  }
  return work({ slot, workers, calls, memory, rest }, served, log)
}

const workerOptions = {
  slot: { type: 'string' },
  workers: { type: 'string' },
  calls: { type: 'string' },
  memory: { type: 'string' },
  rest: { type: 'string' },
} as const

/** Where systemd keeps the log, a line begins with its importance (sd-daemon(3)). */
function log(line: string): void {
  const text = process.env.JOURNAL_STREAM ? line : line.replace(/^<\d>/, 'catena: ')
  writeAll(2, encodeText(`${text}\n`), 'standard error')
}

function serviceProcess(): ServiceProcess {
  const isCompiled = Bun.main.startsWith('/$bunfs/')
  return {
    env: process.env,
    pid: process.pid,
    // the very file that this process was started from, whatever has its name by now
    command: isCompiled ? ['/proc/self/exe'] : [process.execPath, Bun.main],
    log,
    onEnd(callback) {
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
        process.on(signal, () => callback(signal))
    },
  }
}
