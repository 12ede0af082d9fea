/**
 * A client of a D-Bus bus: connects over its Unix socket, calls methods, one after the other. All that is waited for, and all
 * that is read, has a limit.
 */
import { SystemFailure } from '../failure.ts'
import { type Call, decodeMessage, encodeCall, type Message, type Value } from './codec.ts'

/** A call that failed: the error's name, "org.freedesktop.DBus.Error.NameHasNoOwner", and the words with it. */
export class DbusError extends SystemFailure {
  override name = 'DbusError'
  readonly error: string

  constructor(error: string, message: string, subject?: string) {
    super(message, { operation: 'call a method over D-Bus', subject, said: message })
    this.error = error
  }
}

/** There is no bus to talk to. */
export class NoBusError extends SystemFailure {
  override name = 'NoBusError'
  /** Somebody is there, who does not talk as a bus: what it would have said is not known. */
  readonly isThere: boolean

  constructor(message: string, options: { isThere: boolean }) {
    super(message, { operation: 'talk to the system bus' })
    this.isThere = options.isThere
  }
}

export interface Bus {
  /** Calls a method and answers the values of its reply. Throws DbusError for its error, NoBusError when the bus is lost. */
  call(call: Omit<Call, 'serial'>): Promise<Value[]>
  [Symbol.dispose](): void
}

const DEFAULT_ADDRESS = 'unix:path=/run/dbus/system_bus_socket'
/** The bus itself answers at once. */
const BUS_PATIENCE = 5000
/** As libdbus waits for a reply of others. */
const PATIENCE = 25_000
/** Of lines before messages, and of all that is read over one connection. */
const LONGEST_LINES = 16 * 1024
const MOST_BYTES = 4 * 1024 * 1024
const ANSWER = 2
const ERROR = 3
const BUS = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
}

/**
 * The sockets of an address as DBUS_SYSTEM_BUS_ADDRESS has it, in Bun's words: an abstract one begins with a zero byte. A path
 * that is not absolute would be another one in each working folder.
 */
export function socketsIn(address: string): string[] {
  return address.split(';').flatMap(each => {
    const found = /^unix:(?:.*,)?(path|abstract)=([^,]*)/.exec(each)
    const name = unescaped(found?.[2])
    if (!found || name === undefined || (found[1] === 'path' && !name.startsWith('/'))) return []
    return [found[1] === 'abstract' ? `\0${name}` : name]
  })
}

function unescaped(text = ''): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined // "%" without two digits
  }
}

/** Connects to the system bus and says hello. The address is that of DBUS_SYSTEM_BUS_ADDRESS. Throws NoBusError. */
export async function connectSystemBus(address = DEFAULT_ADDRESS): Promise<Bus> {
  const failures: NoBusError[] = []
  for (const path of socketsIn(address)) {
    try {
      return await greet(path)
    } catch (thrown) {
      if (!(thrown instanceof NoBusError)) throw thrown
      failures.push(thrown)
    }
  }
  const reasons = failures.map(({ message }) => message).join('; ')
  throw new NoBusError(reasons || `${address}: no address of a Unix socket`, {
    isThere: failures.some(({ isThere }) => isThere),
  })
}

/** Who owns a name on the bus; undefined when it is unowned. */
export async function ownerOfName(bus: Bus, name: string): Promise<string | undefined> {
  try {
    const [owner] = await bus.call({ ...BUS, member: 'GetNameOwner', args: [name] })
    return String(owner)
  } catch (thrown) {
    if (thrown instanceof DbusError && thrown.error.endsWith('.NameHasNoOwner')) return undefined
    throw thrown
  }
}

async function greet(path: string): Promise<Bus> {
  const bus = await open(path)
  try {
    await bus.call({ ...BUS, member: 'Hello' })
    return bus
  } catch (thrown) {
    bus[Symbol.dispose]()
    throw thrown
  }
}

/** Who we are, the bus asks the kernel. What follows need not wait for the answer (as sd-bus does it). */
const AUTHENTICATION = '\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n'
const ACCEPTED = 2 // lines: DATA, then OK with the bus's identity

/** A call without its answer yet. */
interface Waiting extends PromiseWithResolvers<Value[]> {
  destination: string
}

async function open(path: string): Promise<Bus> {
  const shown = path.replace(/^\0/, '@')
  const waiting = new Map<number, Waiting>()
  let ended: NoBusError | undefined
  let hangUp = () => {}
  const end = (reason: string) => {
    ended ??= new NoBusError(`${shown}: ${reason}`, { isThere: true })
    for (const { reject } of waiting.values()) reject(ended)
    waiting.clear()
    hangUp()
  }
  const stream = createStream(message => answer(waiting, message))
  let unsent: Uint8Array = Buffer.from(AUTHENTICATION)
  const flush = (socket: Bun.Socket) => {
    unsent = unsent.subarray(unsent.length === 0 ? 0 : Math.max(0, socket.write(unsent)))
  }
  const socket = await Bun.connect({
    unix: path,
    socket: {
      drain: flush,
      data(_, bytes) {
        try {
          if (!ended) stream(bytes)
        } catch (thrown) {
          end(String(thrown))
        }
      },
      close: () => end('the bus hung up'),
      error: (_, error) => end(error.message),
    },
  }).catch(error => {
    const { code = '' } = error as { code?: string }
    throw new NoBusError(`${shown}: ${describe(error)}`, { isThere: !ABSENT.includes(code) })
  })
  hangUp = () => void socket.terminate()
  let left = PATIENCE // for all calls together
  let serial = 0
  return {
    async call(call) {
      if (ended) throw ended
      const { destination, member } = call
      const patience = destination === BUS.destination ? BUS_PATIENCE : PATIENCE
      const began = performance.now()
      const reply = { ...Promise.withResolvers<Value[]>(), destination }
      waiting.set(++serial, reply)
      unsent = Buffer.concat([unsent, encodeCall({ ...call, serial })])
      flush(socket)
      const timer = setTimeout(() => end(`no answer to ${member} in time`), Math.min(patience, left))
      return await reply.promise.finally(() => {
        clearTimeout(timer)
        left -= performance.now() - began
      })
    },
    [Symbol.dispose]: () => void socket.terminate(),
  }
}

/** Takes bytes as they come: lines until the bus has taken us in, messages from then on. */
function createStream(hear: (message: Message) => void): (bytes: Uint8Array) => void {
  let rest: Uint8Array = new Uint8Array(0)
  let lines = 0
  let total = 0
  return bytes => {
    total += bytes.length
    if (total > MOST_BYTES) throw new Error(`the bus says more than ${MOST_BYTES} bytes`)
    rest = Buffer.concat([rest, bytes])
    for (let end = lineEnd(rest); lines < ACCEPTED && end >= 0; end = lineEnd(rest)) {
      const line = Buffer.from(rest.subarray(0, end)).toString()
      if (!line.startsWith(lines === 0 ? 'DATA' : 'OK'))
        throw new Error(`the bus does not take us in: ${line.slice(0, 200)}`)
      lines++
      rest = rest.subarray(end + 2)
    }
    if (lines < ACCEPTED && rest.length > LONGEST_LINES) throw new Error('the bus does not take us in')
    if (lines < ACCEPTED) return
    for (let next = decodeMessage(rest); next; next = decodeMessage(rest)) {
      rest = rest.subarray(next.length)
      hear(next.message)
    }
  }
}

const lineEnd = (bytes: Uint8Array) =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).indexOf('\r\n')

/**
 * Signals, and answers that are not waited for, pass by; so does what another than the one who was asked answers, but for the bus.
 * Of a name that may be anybody's (all but ":1.5"), it is not known who that is.
 */
function answer(
  waiting: Map<number, Waiting>,
  { type, replySerial = 0, errorName = '', sender, values }: Message,
): void {
  const call = waiting.get(replySerial)
  if (!call || (type !== ANSWER && type !== ERROR)) return
  const { destination } = call
  const isOne = destination.startsWith(':') || destination === BUS.destination
  if (isOne && sender !== destination && sender !== BUS.destination) return
  waiting.delete(replySerial)
  if (type === ANSWER) call.resolve(values)
  else call.reject(new DbusError(errorName, `${values[0] ?? errorName}`, destination))
}

/** There is no bus: no socket, or one at which nothing listens. */
const ABSENT = ['ENOENT', 'ECONNREFUSED', 'ENOTDIR']

function describe(error: unknown): string {
  const { code = '', message = '' } = error as { code?: string; message?: string }
  if (code === 'ENOENT') return 'there is no socket (ENOENT)'
  if (code === 'ECONNREFUSED') return 'nothing listens (ECONNREFUSED)'
  return `${message} ${code}`.trim()
}
