/** Plugins' connections to the daemon: greets, reads calls, answers them, each when its answer is there. Knows no DHCP. */
import { toCniError } from '../../../chain/protocol/error.ts'
import { type Asked, createServerSide, type ServerSide } from '../rpc/wire.ts'
import type { Log } from './log.ts'
import type { Registry } from './registry.ts'

interface Connection {
  side: ServerSide
  /** What the socket would not take yet. */
  unsent: Uint8Array
  /** Calls without an answer yet. */
  open: Set<Asked>
  /** Ends a connection on which there is no call. */
  timer?: Timer
}

/** A plugin makes its call as soon as it is connected, and hangs up as soon as it has the answer. */
const IDLE_MILLISECONDS = 5000
/** Plugins make one. */
const MOST_CALLS = 16

type Socket = Bun.Socket<Connection>

export interface Server {
  stop(): void
}

/** Serves on a path, or on a descriptor that listens already. */
export function serve(where: { unix: string } | { fd: number }, registry: Registry, log: Log): Server {
  const listener = Bun.listen<Connection>({
    ...(where as { unix: string }), // a descriptor is taken too; the types know of paths and ports
    socket: {
      open(socket) {
        socket.data = { side: createServerSide(), unsent: new Uint8Array(0), open: new Set() }
        limitIdling(socket)
      },
      data: (socket, bytes) => receive(socket, bytes, { registry, log }),
      drain: socket => write(socket, new Uint8Array(0)),
      // whoever hung up has no use for an address: it would be kept unused
      close({ data }) {
        clearTimeout(data.timer)
        for (const asked of data.open)
          if (asked.method === 'DHCP.Allocate') attemptRelease(registry, asked, log)
      },
      error: (_socket, error) => log('error', { error: String(error) }),
    },
  })
  return { stop: () => listener.stop(true) }
}

/** Whoever says a little now and then is idle all the same. */
function limitIdling(socket: Socket): void {
  const { data } = socket
  clearTimeout(data.timer)
  if (data.open.size === 0) data.timer = setTimeout(() => socket.terminate(), IDLE_MILLISECONDS)
}

function receive(
  socket: Socket,
  bytes: Uint8Array,
  { registry, log }: { registry: Registry; log: Log },
): void {
  const { side, open } = socket.data
  try {
    const { reply: greeting, asked } = side.receive(bytes)
    write(socket, greeting)
    if (open.size + asked.length > MOST_CALLS) throw new Error(`more than ${MOST_CALLS} calls at once`)
    for (const each of asked) {
      open.add(each)
      clearTimeout(socket.data.timer)
      reply(socket, each, { registry, log }).catch(thrown => {
        log('error', { error: `an answer: ${toCniError(thrown).message}` })
        socket.terminate() // what it was about is given back as that of anybody who hung up
      })
    }
  } catch (thrown) {
    log('error', { error: `a connection: ${toCniError(thrown).message}` })
    socket.terminate() // whatever else it says
  }
}

async function reply(
  socket: Socket,
  asked: Asked,
  { registry, log }: { registry: Registry; log: Log },
): Promise<void> {
  const { side, open } = socket.data
  const outcome = await answer(registry, asked)
  if (!open.has(asked)) return
  const { method, call } = asked
  if (outcome instanceof Error)
    log('refused call', { method, container: call.containerId, error: outcome.message })
  const bytes = side.answer(asked, outcome)
  open.delete(asked)
  write(socket, bytes)
  limitIdling(socket)
}

async function answer(registry: Registry, { method, call }: Asked) {
  try {
    if (method === 'DHCP.Allocate') return await registry.allocate(call)
    if (method === 'DHCP.Check') return await registry.check(call)
    if (method !== 'DHCP.Release') return new Error(`rpc: can't find method ${method}`)
    registry.release(call)
    return undefined
  } catch (thrown) {
    const error = toCniError(thrown)
    return error.details ? new Error(`${error.message}: ${error.details}`) : error
  }
}

function attemptRelease(registry: Registry, { call }: Asked, log: Log): void {
  try {
    log('hung up', { container: call.containerId })
    registry.release(call)
  } catch (thrown) {
    log('error', { error: toCniError(thrown).message })
  }
}

function write(socket: Socket, bytes: Uint8Array): void {
  const { data } = socket
  const all = Buffer.concat([data.unsent, bytes])
  const written = all.length === 0 ? 0 : Math.max(0, socket.write(all))
  data.unsent = all.subarray(written)
}
