/** The service's socket: from systemd, or made here. One service at a time; what is wrong is said in words. */
import { ensureFolder, folderOf, removeFile } from '../linux/files.ts'
import { errno, isErrno, SystemError } from '../linux/libc/errno.ts'
import { close } from '../linux/libc/file.ts'
import { kill, setFileMask } from '../linux/libc/process.ts'
import { status } from '../linux/libc/status.ts'
import { bindPackets, connectPackets, isListening, listen, peerOf } from '../linux/libc/unix-socket.ts'
import { takeLock } from '../linux/lock.ts'
import { describeHolders } from '../linux/lock-holder.ts'
import { CniError, code } from '../protocol/error.ts'
import { SOCKET } from './protocol.ts'

const LOCK = '/run/catena/warm.lock'

export interface Listener {
  descriptor: number
  /** Where it came from, for the log. */
  origin: string
  /** No new caller finds the service any more. */
  hide(): void
}

interface ServiceProcess {
  env: Readonly<Record<string, string | undefined>>
  pid: number
}

/**
 * Opens the socket; `queue` callers may wait, and more are refused at once. Throws CniError where there is another service already,
 * or no socket can be had.
 */
export function openListener(service: ServiceProcess, queue: number): Listener {
  const given = descriptorFrom(service)
  keepAlone(given)
  const listener = given ?? bound()
  listen(listener.descriptor, queue) // again where systemd did already: callers look who listens, and whether he lives
  return listener
}

/** Held to the process's end. */
function keepAlone(given: Listener | undefined): void {
  try {
    if (takeLock(LOCK, { tryOnly: true })) return
  } catch (thrown) {
    if (given && isErrno(thrown, errno.EROFS, errno.EACCES, errno.ENOSPC)) return // systemd starts one, and none could bind
    throw unusable(LOCK, thrown)
  }
  throw new CniError(code.internal, `another service is running: ${describeHolders(LOCK)}`, {
    details: `it holds ${LOCK}; \`catena serve --status\` tells what it does`,
  })
}

const FIRST_DESCRIPTOR = 3 // sd_listen_fds(3), SD_LISTEN_FDS_START

function descriptorFrom({ env, pid }: ServiceProcess): Listener | undefined {
  const count = Number(env.LISTEN_FDS ?? 0)
  if (env.LISTEN_PID !== String(pid) || count === 0) return undefined
  if (count !== 1)
    throw new CniError(code.internal, `LISTEN_FDS: one socket is expected: got ${env.LISTEN_FDS}`)
  if (!isListening(FIRST_DESCRIPTOR)) {
    throw new CniError(code.internal, 'LISTEN_FDS: descriptor 3 is no socket that callers can come to', {
      details: `catena-warm.socket needs ListenSequentialPacket=${SOCKET}`,
    })
  }
  return { descriptor: FIRST_DESCRIPTOR, origin: 'the socket that systemd holds', hide: () => {} }
}

/** Binds where no service answers; what a killed service left there is replaced. Root alone may call, from the first moment on. */
function bound(): Listener {
  const isStale = removeStale()
  const before = setFileMask(0o177)
  try {
    const descriptor = bindPackets(SOCKET)
    const origin = isStale ? `${SOCKET}, in the place of one at which nothing listened` : SOCKET
    return { descriptor, origin, hide: () => void removeFile(SOCKET) }
  } catch (thrown) {
    throw unusable(SOCKET, thrown)
  } finally {
    setFileMask(before)
  }
}

function unusable(path: string, thrown: unknown): unknown {
  if (!(thrown instanceof SystemError)) return thrown
  return new CniError(code.io, `cannot make ${path}: ${thrown.message}`, {
    details: 'is /run full, or mounted read-only? plugins run without the service as they always did',
    cause: thrown,
  })
}

const IF_SOCKET = 0o140000

/** Answers whether there was a socket at which nothing listened. */
function removeStale(): boolean {
  try {
    ensureFolder(folderOf(SOCKET))
    const found = status(SOCKET, { follow: false })
    if (found === undefined) return false
    if ((found.mode & 0o170000) !== IF_SOCKET)
      throw new CniError(code.io, `${SOCKET} is there, and is no socket`, { details: 'remove it' })
    refuseListener()
    removeFile(SOCKET)
    return true
  } catch (thrown) {
    throw unusable(SOCKET, thrown)
  }
}

function refuseListener(): void {
  let descriptor: number
  try {
    descriptor = connectPackets(SOCKET)
  } catch (thrown) {
    if (isErrno(thrown, errno.ENOENT, errno.ECONNREFUSED)) return
    if (isErrno(thrown, errno.EAGAIN, errno.EPROTOTYPE)) throw somebodyListens('somebody')
    throw thrown
  }
  try {
    const { process } = peerOf(descriptor)
    if (!kill(process, 0)) return // of a service that was killed: its workers come to the end of their calls, and get no more
    throw somebodyListens(process === 1 ? 'systemd' : `process ${process}`)
  } finally {
    close(descriptor)
  }
}

function somebodyListens(who: string): CniError {
  return new CniError(code.internal, `${who} listens at ${SOCKET} already`, {
    details:
      who === 'systemd'
        ? 'it starts the service when somebody calls: systemctl status catena-warm.socket'
        : 'a service of this executable would hold a lock beside it',
  })
}
