/**
 * What runtimes of Kubernetes know of their sandboxes: ListPodSandbox of the service runtime.v1.RuntimeService, which containerd and
 * CRI-O have on a Unix socket (https://github.com/kubernetes/cri-api). One call of gRPC, of which four fields are read: a library for
 * it is a hundred times as long.
 */
import type { ClientHttp2Session } from 'node:http2'
import { status } from '../linux/libc/status.ts'
import { CniError, code, toCniError } from '../protocol/error.ts'
import type { Identity } from './model.ts'
import { fieldsOf, textOf } from './protobuf.ts'

/** Where containerd, k3s and CRI-O listen unless they are told otherwise. */
export const CRI_SOCKETS = [
  '/run/containerd/containerd.sock',
  '/run/k3s/containerd/containerd.sock',
  '/run/crio/crio.sock',
] as const

export interface CriAnswer {
  socket: string
  /** 'silent': it is there, and one cannot know what it knows. 'no CRI': a containerd without that service, such as Docker's. */
  state: 'answers' | 'silent' | 'no CRI'
  /** By the sandbox's ID, which is the container's ID for plugins; ready or not. */
  sandboxes: ReadonlyMap<string, Identity>
  /** Why it is silent. */
  problem?: string
}

const METHOD = '/runtime.v1.RuntimeService/ListPodSandbox'
const PATIENCE = 5000 // milliseconds; a node with some hundred pods answers in a few
const UNIMPLEMENTED = '12' // https://grpc.github.io/grpc/core/md_doc_statuscodes.html
const PREFIX = 5 // bytes before each message: whether it is compressed, and its length

/** Asks each socket that is there; never throws, and takes no longer than the patience in milliseconds. */
export async function askCri(
  sockets: readonly string[] = CRI_SOCKETS,
  patience: number = PATIENCE,
): Promise<CriAnswer[]> {
  const present = sockets.filter(socket => status(socket) !== undefined)
  return Promise.all(present.map(socket => askOne(socket, patience)))
}

async function askOne(socket: string, patience: number): Promise<CriAnswer> {
  const none = { socket, sandboxes: new Map<string, Identity>() }
  try {
    const { grpcStatus, says, body } = await call(socket, patience)
    if (grpcStatus === UNIMPLEMENTED) return { ...none, state: 'no CRI' }
    if (grpcStatus !== '0')
      return { ...none, state: 'silent', problem: `it answers status ${grpcStatus ?? 'none'}: ${says}` }
    return { socket, state: 'answers', sandboxes: sandboxesIn(messageIn(body)) }
  } catch (thrown) {
    return { ...none, state: 'silent', problem: toCniError(thrown).message }
  }
}

interface Reply {
  /** Absent where the stream ended without one: then nothing is known. */
  grpcStatus: string | undefined
  says: string
  body: Buffer
}

async function call(socket: string, patience: number): Promise<Reply> {
  const { promise, resolve, reject } = Promise.withResolvers<Reply>()
  promise.catch(() => {}) // it may fail before anybody waits for it, and again when all is closed
  const timer = setTimeout(
    () => reject(new CniError(code.tryAgainLater, `it does not answer within ${patience / 1000} s`)),
    patience,
  )
  // loaded only where there is a socket
  const [{ connect }, { connect: connectHttp2 }] = [await import('node:net'), await import('node:http2')]
  const connection = connect(socket)
  connection.on('error', reject)
  const session = connectHttp2('http://localhost', { createConnection: () => connection })
  try {
    session.on('error', reject)
    session.on('close', () => reject(new CniError(code.io, 'it closed the connection')))
    request(session, { resolve, reject })
    return await promise
  } finally {
    clearTimeout(timer)
    session.destroy()
    connection.destroy() // one that has never spoken would keep this process
  }
}

function request(
  session: ClientHttp2Session,
  { resolve, reject }: { resolve(reply: Reply): void; reject(reason: Error): void },
): void {
  const stream = session.request({
    ':method': 'POST',
    ':path': METHOD,
    'content-type': 'application/grpc',
    te: 'trailers',
  })
  const chunks: Buffer[] = []
  let headers: Readonly<Record<string, unknown>> = {}
  const note = (more: object) => {
    headers = { ...headers, ...more }
  }
  stream.on('response', note)
  stream.on('trailers', note)
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  stream.on('error', reject)
  const end = () => {
    const grpcStatus = headers['grpc-status']
    resolve({
      grpcStatus: grpcStatus === undefined ? undefined : String(grpcStatus),
      says: String(headers['grpc-message'] ?? `HTTP status ${headers[':status']}`),
      body: Buffer.concat(chunks),
    })
  }
  stream.on('end', end)
  stream.on('close', end) // without a body there may be no end
  stream.end(Buffer.alloc(PREFIX)) // a message without fields: no filter
}

/** Half a message would be a list without those that are missing. */
function messageIn(body: Buffer): Uint8Array {
  const isWhole = body.length >= PREFIX && body[0] === 0 && body.readUInt32BE(1) === body.length - PREFIX
  if (isWhole) return body.subarray(PREFIX)
  throw new CniError(code.decoding, 'its answer is compressed or not whole')
}

/** ListPodSandboxResponse has PodSandbox items (1) with id (1) and metadata (2): name (1), uid (2), namespace (3). */
function sandboxesIn(message: Uint8Array): Map<string, Identity> {
  const items = fieldsOf(message)[1] ?? []
  return new Map(
    items.map(item => {
      const { 1: id, 2: metadata } = fieldsOf(item)
      const { 1: pod, 3: namespace } = fieldsOf(metadata?.at(-1) ?? new Uint8Array())
      const identity = {
        ...(pod ? { pod: textOf(pod) } : {}),
        ...(namespace ? { namespace: textOf(namespace) } : {}),
      }
      if (!id) throw new CniError(code.decoding, 'it knows a sandbox without an ID')
      return [textOf(id), identity]
    }),
  )
}

/** Names for people: whoever does not answer at once is done without. Milliseconds. */
const NAMES_PATIENCE = 1000

export const readIdentities = async () => identitiesOf(await askCri(CRI_SOCKETS, NAMES_PATIENCE))

/** What all of them know, by container ID. */
export const identitiesOf = (answers: readonly CriAnswer[]): Map<string, Identity> =>
  new Map(answers.flatMap(({ sandboxes }) => [...sandboxes]))
