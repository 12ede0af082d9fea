/** Asks a running service from this executable: for a call of a plugin, as the loader does, and for its status. */
import type { Answer } from '../invoke/invoke.ts'
import { decodeText, encodeText } from '../linux/bytes.ts'
import { errno, isErrno } from '../linux/libc/errno.ts'
import { close, POLLIN, readAll, rewind, waitFor, waitReadable, writeAll } from '../linux/libc/file.ts'
import { createStandardFiles } from '../linux/libc/memory.ts'
import { kill, setFileMask } from '../linux/libc/process.ts'
import { connectPackets, peerOf, receiveMessage, sendMessage } from '../linux/libc/unix-socket.ts'
import { CniError, code, errorDocument } from '../protocol/error.ts'
import { printError } from '../protocol/result.ts'
import { askForStatus, CALLERS_PATIENCE, GO, SOCKET, TAKEN, writeHello } from './protocol.ts'
import type { StatusDocument } from './status.ts'

/** A connection to a service of root's that lives; undefined where there is none. */
function connected(): number | undefined {
  let connection: number
  try {
    connection = connectPackets(SOCKET)
  } catch (thrown) {
    if (isErrno(thrown, errno.ENOENT, errno.EAGAIN, errno.EACCES, errno.ECONNREFUSED)) return undefined
    throw thrown
  }
  const { process, user } = peerOf(connection)
  // a process 1 is systemd, in the place of a service that begins now
  if (user === 0 && process > 1 && kill(process, 0)) return connection
  close(connection)
  return undefined
}

/** Has the service do a call; undefined where there is none, or it does not take the call. Waits for the answer. */
export function callService(
  name: string,
  environment: Readonly<Record<string, string>>,
  stdin: string,
): Answer | undefined {
  const { CATENA_WARM: setting = '' } = environment
  if (setting !== '' && setting !== 'on') return undefined
  const connection = connected()
  if (connection === undefined) return undefined
  const files = createStandardFiles()
  try {
    writeAll(files[0], encodeText(stdin))
    rewind(files[0])
    const status = converse(connection, writeHello({ name, umask: currentMask(), environment }), files)
    return status === undefined ? undefined : answerOf(status, files)
  } finally {
    for (const file of files) close(file)
    close(connection)
  }
}

function currentMask(): number {
  const mask = setFileMask(0o077)
  setFileMask(mask)
  return mask
}

/** The exit status; 'lost' where the service has ended over the call, undefined where it has not taken it. */
function converse(
  connection: number,
  hello: Uint8Array,
  files: readonly [number, number, number],
): number | 'lost' | undefined {
  const buffer = new Uint8Array(2)
  try {
    sendMessage(connection, hello)
    if (!waitReadable(connection, CALLERS_PATIENCE)) return undefined
    const { length } = receiveMessage(connection, buffer)
    if (length !== 1 || buffer[0] !== TAKEN[0]) return undefined
    sendMessage(connection, GO, files)
  } catch (thrown) {
    if (isErrno(thrown, errno.EPIPE, errno.ECONNRESET, errno.EMSGSIZE)) return undefined
    throw thrown
  }
  waitFor([[connection, POLLIN]], -1)
  try {
    const { length } = receiveMessage(connection, buffer)
    return length === 1 ? (buffer[0] ?? 'lost') : 'lost'
  } catch (thrown) {
    if (isErrno(thrown, errno.ECONNRESET)) return 'lost'
    throw thrown
  }
}

function answerOf(status: number | 'lost', [, output, log]: readonly [number, number, number]): Answer {
  const [stdout, stderr] = [output, log].map(file => {
    rewind(file)
    return decodeText(readAll(file))
  }) as [string, string]
  if (status !== 'lost') return { status, stdout, stderr, by: 'service' }
  const error = new CniError(code.tryAgainLater, 'the service ended before this call did', {
    details: 'the call may be half done, as that of a plugin that was killed: delete, then add again',
  })
  return { status: 1, stdout: printError(errorDocument(error)), stderr, by: 'service' }
}

/** What the running service says of itself; undefined where there is none. */
export function askStatus(milliseconds = 2000): StatusDocument | undefined {
  const connection = connected()
  if (connection === undefined) return undefined
  try {
    sendMessage(connection, askForStatus())
    if (!waitReadable(connection, milliseconds)) return undefined
    const buffer = new Uint8Array(1 << 18)
    const { length } = receiveMessage(connection, buffer)
    return length === 0 ? undefined : (JSON.parse(decodeText(buffer.subarray(0, length))) as StatusDocument)
  } finally {
    close(connection)
  }
}
