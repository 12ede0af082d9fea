/**
 * What the kubelet asks containerd for, as little of it as a pod's network takes: runs a pod, prints what the runtime says of it, and
 * stops it (https://github.com/kubernetes/cri-api, runtime.v1; gRPC over HTTP/2 on a Unix socket).
 * usage: cri.ts SOCKET status | run NAME HOST-PORT | ip ID | stop ID
 */
import { connect as connectHttp2, constants } from 'node:http2'
import { connect } from 'node:net'

/** A message of Protocol Buffers, by the numbers of its fields. */
interface Message {
  [number: number]: string | number | Uint8Array | Message
}

function encoded(message: Message): Uint8Array {
  const parts = Object.entries(message).flatMap(([number, value]) => {
    if (typeof value === 'number') return [varint(Number(number) * 8), varint(value)]
    const bytes =
      typeof value === 'string' ? Buffer.from(value) : value instanceof Uint8Array ? value : encoded(value)
    return [varint(Number(number) * 8 + 2), varint(bytes.length), bytes]
  })
  return Buffer.concat(parts)
}

function varint(value: number): Uint8Array {
  const bytes: number[] = []
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    bytes.push((rest % 128) + (rest > 127 ? 128 : 0))
    if (rest < 128) return Uint8Array.from(bytes)
  }
}

/** The fields that have bytes, by number; the last one where there are several. */
function fieldsOf(bytes: Uint8Array): Record<number, Uint8Array> {
  const fields: Record<number, Uint8Array> = {}
  let at = 0
  const number = () => {
    let [value, scale] = [0, 1]
    for (;;) {
      const byte = bytes[at++] ?? 0
      value += (byte & 127) * scale
      scale *= 128
      if (byte < 128) return value
    }
  }
  while (at < bytes.length) {
    const tag = number()
    const length = number()
    if (tag % 8 !== 2) continue
    fields[(tag - 2) / 8] = bytes.subarray(at, at + length)
    at += length
  }
  return fields
}

async function ask(socket: string, method: string, message: Message): Promise<Record<number, Uint8Array>> {
  const session = connectHttp2('http://localhost', { createConnection: () => connect(socket) })
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>()
  session.on('error', reject)
  const stream = session.request({
    [constants.HTTP2_HEADER_METHOD]: 'POST',
    [constants.HTTP2_HEADER_PATH]: `/runtime.v1.RuntimeService/${method}`,
    [constants.HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc',
    te: 'trailers',
  })
  const body = encoded(message)
  const head = Buffer.alloc(5)
  head.writeUInt32BE(body.length, 1)
  const chunks: Buffer[] = []
  const refuse = (headers: Record<string, unknown>) => {
    if ((headers['grpc-status'] ?? '0') !== '0')
      reject(new Error(`${method}: ${decodeURIComponent(String(headers['grpc-message']))}`))
  }
  stream.on('response', refuse)
  stream.on('trailers', refuse)
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  stream.on('end', () => resolve(Buffer.concat(chunks).subarray(5)))
  stream.on('error', reject)
  stream.end(Buffer.concat([head, body]))
  try {
    return fieldsOf(await promise)
  } finally {
    session.close()
  }
}

const textOf = (bytes: Uint8Array | undefined) => new TextDecoder().decode(bytes)

async function main([socket = '', verb, subject = '', port = '0']: string[]): Promise<string> {
  if (verb === 'run') {
    const metadata = { 1: subject, 2: `${subject}-uid`, 3: 'default' }
    const portMapping = { 1: 0, 2: 80, 3: Number(port) } // TCP
    const config = { 1: metadata, 2: subject, 3: '/run/pods', 5: portMapping, 8: {} }
    return textOf((await ask(socket, 'RunPodSandbox', { 1: config }))[1])
  }
  if (verb === 'ip') {
    const status = fieldsOf((await ask(socket, 'PodSandboxStatus', { 1: subject }))[1] ?? new Uint8Array())
    return textOf(fieldsOf(status[5] ?? new Uint8Array())[1])
  }
  if (verb === 'stop') {
    await ask(socket, 'StopPodSandbox', { 1: subject })
    await ask(socket, 'RemovePodSandbox', { 1: subject })
    return ''
  }
  const conditions = await ask(socket, 'Status', {})
  return textOf(conditions[1]).replace(/[^\x20-\x7e]+/g, ' ')
}

main(process.argv.slice(2))
  .then(text => console.log(text))
  .catch(thrown => {
    console.error(thrown instanceof Error ? thrown.message : thrown)
    process.exitCode = 1
  })
