/** `dhcp daemon` as a process: an entry file, which alone of this plugin's folder touches the process. */
import { encodeText } from '../../../chain/linux/bytes.ts'
import { writeAll } from '../../../chain/linux/libc/file.ts'
import { runDaemon, type Service } from './daemon.ts'

/** Keeps leases until a signal asks the process to end; answers the exit status. `args` are what stands after `daemon`. */
export function startDaemon(args: readonly string[]): Promise<number> {
  return runDaemon(args, processService())
}

/** This process, as a daemon sees it. */
export function processService(): Service {
  const { env, pid } = process
  return {
    env,
    pid,
    stderr: text => writeAll(2, encodeText(text), 'standard error'),
    onEnd(callback) {
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => callback(signal))
    },
  }
}
