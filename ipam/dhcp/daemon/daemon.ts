/** `dhcp daemon`: the process that keeps leases for as long as containers live. Command line, socket, pid file, log and end. */
import { ensureFolder, folderOf, removeFile, writeAtomically } from '../../../chain/linux/files.ts'
import { errno, isErrno } from '../../../chain/linux/libc/errno.ts'
import { close } from '../../../chain/linux/libc/file.ts'
import { setFileMask } from '../../../chain/linux/libc/process.ts'
import { connect, SOCK_NONBLOCK, SOCK_STREAM, socket } from '../../../chain/linux/libc/socket.ts'
import { status } from '../../../chain/linux/libc/status.ts'
import { type HeldLock, takeLock } from '../../../chain/linux/lock.ts'
import { CniError, code, toCniError } from '../../../chain/protocol/error.ts'
import { type Options, parseFlags, UsageError, usage } from './flags.ts'
import type { Log } from './log.ts'
import { createRegistry } from './registry.ts'
import { type Server, serve } from './server.ts'
import { stateFolder } from './state.ts'

/** The process as one that stays sees it. */
export interface Service {
  env: Readonly<Record<string, string | undefined>>
  pid: number
  stderr(text: string): void
  /** Calls back with the name of the signal that asks the process to end. */
  onEnd(callback: (signal: string) => void): void
}

/** Runs until it is told to end; answers the exit status. `args` are what stands after `daemon`. */
export async function runDaemon(args: readonly string[], service: Service): Promise<number> {
  const log: Log = (event, facts) =>
    service.stderr(`${JSON.stringify({ time: new Date().toISOString(), event, ...facts })}\n`)
  try {
    await keepLeases(parseFlags(args), service, log)
    return 0
  } catch (thrown) {
    if (thrown instanceof UsageError) {
      service.stderr(`${thrown.message}\n${usage()}`)
      return 2
    }
    const { message, details } = toCniError(thrown)
    log('failed to start', { error: message, details })
    return 1
  }
}

async function keepLeases(options: Options, service: Service, log: Log): Promise<void> {
  using _lock = ownLeases(options)
  const stopped = Promise.withResolvers<string>()
  service.onEnd(stopped.resolve)
  const registry = createRegistry(options, log)
  const path = options.hostPrefix + options.socketPath
  const given = descriptorFrom(service)
  const server =
    given === undefined ? bindTo(path, at => serve(at, registry, log)) : serve({ fd: given }, registry, log)
  // only now: a DEL that found no daemon has left its note by the time that there is a socket, and is heard after this
  registry.resume()
  if (options.pidFile) writeAtomically(options.pidFile, String(service.pid), { mode: 0o644, durable: false })
  log('started', { socket: given === undefined ? path : `descriptor ${given}`, pid: service.pid })
  const signal = await stopped.promise
  server.stop()
  registry.close()
  if (given === undefined) removeFile(path)
  if (options.pidFile) removeFile(options.pidFile)
  log('ended', { signal })
}

/** Two daemons on one socket's leases would renew and release them against each other. */
function ownLeases({ hostPrefix, socketPath }: Options): HeldLock {
  const folder = hostPrefix + stateFolder(socketPath)
  ensureFolder(folder, 0o700)
  const lock = takeLock(`${folder}/lock`, { tryOnly: true })
  if (lock) return lock
  throw new CniError(code.internal, `another daemon keeps the leases of ${socketPath}`, {
    details: `it holds ${folder}/lock`,
  })
}

const FIRST_DESCRIPTOR = 3 // sd_listen_fds(3), SD_LISTEN_FDS_START

/** The listening socket that systemd hands over; more than one is a mistake in a unit file. */
function descriptorFrom({ env, pid }: Service): number | undefined {
  const count = Number(env.LISTEN_FDS ?? 0)
  if (env.LISTEN_PID !== String(pid) || count === 0) return undefined
  if (count === 1) return FIRST_DESCRIPTOR
  throw new CniError(code.internal, `LISTEN_FDS: one socket is expected: got ${env.LISTEN_FDS}`)
}

/** Binds where no daemon answers; what a killed daemon left there is replaced. As in the unit file, root alone may call. */
function bindTo(path: string, listen: (where: { unix: string }) => Server): Server {
  ensureFolder(folderOf(path), 0o700)
  if (answers(path)) throw new CniError(code.internal, `somebody answers at ${path} already`)
  removeFile(path)
  const before = setFileMask(0o117) // not afterwards: until then, anybody might call
  try {
    return listen({ unix: path })
  } finally {
    setFileMask(before)
  }
}

function answers(path: string): boolean {
  if (status(path) === undefined) return false
  const AF_UNIX = 1
  const descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0)
  try {
    connect(descriptor, Buffer.concat([Uint8Array.of(AF_UNIX, 0), Buffer.from(`${path}\0`)]), path)
    return true
  } catch (thrown) {
    if (isErrno(thrown, errno.ENOENT, ECONNREFUSED)) return false
    if (isErrno(thrown, errno.EAGAIN)) return true // somebody who does not come to taking more connections
    throw thrown
  } finally {
    close(descriptor)
  }
}

const ECONNREFUSED = 111
