/** The plugin's way to the daemon: one connection, one call, every wait bounded. */
import { CniError, code } from '../../../chain/protocol/error.ts'
import type { Result } from '../../../chain/protocol/result.ts'
import { type Call, CONNECT, createClientSide, encodeCall } from './wire.ts'

export type Method = 'DHCP.Allocate' | 'DHCP.Check' | 'DHCP.Release'

/** No daemon answers at the socket. */
export class NoDaemonError extends Error {
  /** Somebody takes connections there: what he keeps is not known. */
  readonly isThere: boolean

  constructor(message: string, options: { isThere: boolean }) {
    super(message)
    this.name = 'NoDaemonError'
    this.isThere = options.isThere
  }
}

/** The daemon's answer was no. */
export class RefusedError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'RefusedError'
  }
}

/** The daemon was asked, and what came of it is not known. */
export class UnansweredError extends RefusedError {}

/** A daemon greets at once, but systemd may have to start it first. */
const GREETING_MILLISECONDS = 5000
/** The daemon's own limit for an acquisition is 208 s unless its flags say otherwise. */
const ANSWER_MILLISECONDS = 240_000

/** Makes a call. Throws NoDaemonError, RefusedError and UnansweredError. */
export function callDaemon(path: string, method: Method, call: Call): Promise<Result> {
  return converse(path, encodeCall(method, call)) as Promise<Result>
}

/** Finds out whether a daemon answers. Throws NoDaemonError. */
export async function greetDaemon(path: string): Promise<void> {
  await converse(path, undefined)
}

async function converse(path: string, request: Uint8Array | undefined): Promise<Result | undefined> {
  const side = createClientSide()
  const { promise, resolve, reject } = Promise.withResolvers<Result | undefined>()
  let greeted = false
  let unsent: Uint8Array = new Uint8Array(0)
  const write = (socket: Bun.Socket, bytes: Uint8Array) => {
    unsent = bytes.subarray(bytes.length === 0 ? 0 : Math.max(0, socket.write(bytes)))
  }
  const late = () =>
    reject(
      greeted
        ? new UnansweredError(`the DHCP daemon at ${path} gave no answer in ${ANSWER_MILLISECONDS / 1000} s`)
        : new NoDaemonError(
            `${path}: it accepts connections, but has not greeted in ${GREETING_MILLISECONDS / 1000} s`,
            { isThere: true },
          ),
    )
  let timer = setTimeout(late, GREETING_MILLISECONDS)
  const receive = (socket: Bun.Socket, bytes: Uint8Array) => {
    const { greeted: now, answer } = side.receive(bytes)
    if (now && !greeted) {
      greeted = true
      clearTimeout(timer)
      timer = setTimeout(late, ANSWER_MILLISECONDS)
      if (request) write(socket, request)
      else resolve(undefined)
    }
    if (answer) 'result' in answer ? resolve(answer.result) : reject(new RefusedError(answer.error))
  }
  try {
    const socket = await Bun.connect({
      unix: path,
      socket: {
        open: opened => void opened.write(CONNECT),
        drain: opened => write(opened, unsent),
        data(opened, bytes) {
          try {
            receive(opened, bytes)
          } catch (thrown) {
            reject(
              new UnansweredError(`what the DHCP daemon at ${path} says cannot be understood: ${thrown}`),
            )
          }
        },
        close: () =>
          reject(
            greeted
              ? new UnansweredError('the DHCP daemon hung up')
              : new NoDaemonError(`${path}: it hung up`, { isThere: true }),
          ),
        error: (_socket, error) => reject(error),
      },
    }).catch(error => {
      throw new NoDaemonError(`dial unix ${path}: ${describe(error)}`, { isThere: !isAbsent(error) })
    })
    return await promise.finally(() => socket.terminate())
  } finally {
    clearTimeout(timer)
  }
}

function isAbsent({ code: name = '' }: { code?: string }): boolean {
  return ['ENOENT', 'ENOTDIR', 'ECONNREFUSED'].includes(name)
}

function describe(error: unknown): string {
  const { code: name = '', message = '' } = error as { code?: string; message?: string }
  if (name === 'ENOENT') return 'connect: no such file or directory'
  if (name === 'ECONNREFUSED') return 'connect: connection refused'
  return `${message} ${name}`.trim()
}

/** The failure of a call as the error of a plugin. */
export function asCniError(thrown: unknown, method: Method): unknown {
  if (thrown instanceof NoDaemonError) {
    return new CniError(code.tryAgainLater, `error dialing DHCP daemon: ${thrown.message}`, {
      details:
        'is `dhcp daemon` running, or cni-dhcp.socket enabled? ipam.daemonSocketPath says where it is looked for',
      cause: thrown,
    })
  }
  if (thrown instanceof RefusedError) {
    return new CniError(code.internal, `error calling ${method}: ${thrown.message}`, { cause: thrown })
  }
  return thrown
}
