/**
 * The calls between plugin and daemon, as the Go plugin and daemon make them: net/rpc over HTTP's CONNECT, with types of
 * CNI's Go library. Bytes in, bytes out; knows no socket.
 */

import { addressBytes, addressText } from '../../../chain/ip/bytes.ts'
import { isIpv6 } from '../../../chain/ip/family.ts'
import { canonicalCidr } from '../../../chain/ip/text.ts'
import { emptyResult, type Result, type Route } from '../../../chain/protocol/result.ts'
import {
  createDecoder,
  createEncoder,
  GobError,
  nextMessage,
  type Schema,
  type Structure,
  type StructureSchema,
  type Value,
} from './gob.ts'

/** rpc.DefaultRPCPath in net/rpc. */
export const CONNECT = 'CONNECT /_goRPC_ HTTP/1.0\n\n'
export const CONNECTED = 'HTTP/1.0 200 Connected to Go RPC\n\n'
const LONGEST_GREETING = 8192
/** Of all that one side says: a connection is for one call. */
const MOST_BYTES = 16 * 1024 * 1024

/** skel.CmdArgs: a plugin call. */
export interface Call {
  containerId: string
  netns: string
  ifname: string
  /** CNI_ARGS. */
  args: string
  path: string
  /** The network configuration as it came. */
  stdin: string
}

const structure = (name: string, fields: Readonly<Record<string, Schema>>): StructureSchema => ({
  kind: 'structure',
  name,
  fields,
})
const list = (of: Schema): Schema => ({ kind: 'list', of })

const requestSchema = structure('Request', { ServiceMethod: 'string', Seq: 'uint' })
const responseSchema = structure('Response', { ServiceMethod: 'string', Seq: 'uint', Error: 'string' })
const argumentsSchema = structure('CmdArgs', {
  ContainerID: 'string',
  Netns: 'string',
  IfName: 'string',
  Args: 'string',
  Path: 'string',
  NetnsOverride: 'string',
  StdinData: 'bytes',
})
const emptySchema = structure('', {})
const networkSchema = structure('IPNet', { IP: 'bytes', Mask: 'bytes' })
/** types100.Result, without what a lease never has. */
const resultSchema = structure('Result', {
  CNIVersion: 'string',
  IPs: list(structure('IPConfig', { Address: networkSchema, Gateway: 'bytes' })),
  Routes: list(
    structure('Route', { Dst: networkSchema, GW: 'bytes', MTU: 'int', Priority: 'int', Scope: 'int' }),
  ),
  DNS: structure('DNS', { Nameservers: list('string'), Domain: 'string', Search: list('string') }),
})

/** The version whose types travel. */
const WIRE_VERSION = '1.1.0'

function networkStructure(text: string): Structure {
  const [address = '', length = '0'] = text.split('/')
  const bytes = addressBytes(address)
  const mask = bytes.map((_, index) => 0xff00 >> Math.min(8, Math.max(0, Number(length) - index * 8)))
  return { IP: bytes, Mask: mask }
}

function resultStructure({ ips, routes, dns }: Result): Structure {
  return {
    CNIVersion: WIRE_VERSION,
    IPs: ips.map(({ address, gateway }) => ({
      Address: networkStructure(address),
      ...(gateway === undefined ? {} : { Gateway: addressBytes(gateway) }),
    })),
    Routes: routes.map(({ dst, gw, mtu, priority, scope }) => ({
      Dst: networkStructure(dst),
      ...(gw === undefined ? {} : { GW: addressBytes(gw) }),
      ...(mtu ? { MTU: mtu } : {}),
      ...(priority ? { Priority: priority } : {}),
      ...(scope === undefined ? {} : { Scope: scope }),
    })),
    DNS: {
      Nameservers: dns.nameservers ?? [],
      Search: dns.search ?? [],
      ...(dns.domain === undefined ? {} : { Domain: dns.domain }),
    },
  }
}

/** What is read is as little to be trusted as any input: fields of another type count as absent. */
const textOf = (value: Value | undefined) => (typeof value === 'string' ? value : '')
const bytesOf = (value: Value | undefined) => (value instanceof Uint8Array ? value : new Uint8Array(0))
const numberOf = (value: Value | undefined) => (typeof value === 'number' ? value : undefined)
const isStructure = (value: Value | undefined): value is Structure =>
  typeof value === 'object' && !Array.isArray(value) && !(value instanceof Uint8Array)
const structureIn = (value: Value | undefined): Structure => (isStructure(value) ? value : {})
const listOf = (value: Value | undefined) => (Array.isArray(value) ? value : [])

function addressOf(value: Value | undefined): string | undefined {
  const bytes = bytesOf(value)
  if (bytes.length === 0) return undefined
  const mapped =
    bytes.length === 16 && bytes.subarray(0, 12).every((byte, at) => byte === (at < 10 ? 0 : 0xff))
  if (mapped) return addressText(bytes.subarray(12)) // Go keeps IPv4 in 16 bytes too
  if (bytes.length !== 4 && bytes.length !== 16) throw new GobError(`an address of ${bytes.length} bytes`)
  return addressText(bytes)
}

function networkOf(value: Value | undefined): string {
  const { IP, Mask } = structureIn(value)
  const address = addressOf(IP)
  if (address === undefined) throw new GobError('a network without address')
  const mask = bytesOf(Mask)
  const significant = isIpv6(address) || mask.length === 4 ? mask : mask.subarray(-4)
  const bits = Array.from(significant, byte => byte.toString(2).padStart(8, '0')).join('')
  const text = `${address}/${bits.replace(/0+$/, '').length}`
  if (bits.replace(/0+$/, '').includes('0') || !canonicalCidr(text))
    throw new GobError(`a mask of bits ${bits}`)
  return text
}

function routeOf(value: Value): Route {
  const { Dst, GW, MTU, AdvMSS, Priority, Table, Scope } = structureIn(value)
  const fields = {
    gw: addressOf(GW),
    mtu: numberOf(MTU) || undefined,
    advmss: numberOf(AdvMSS) || undefined,
    priority: numberOf(Priority) || undefined,
    table: numberOf(Table),
    scope: numberOf(Scope),
  }
  const given = Object.entries(fields).filter(([, field]) => field !== undefined)
  return { dst: networkOf(Dst), ...Object.fromEntries(given) }
}

function resultOf(value: Value): Result {
  const { IPs, Routes, DNS } = structureIn(value)
  const { Nameservers, Domain, Search, Options } = structureIn(DNS)
  const texts = (field: Value | undefined) => listOf(field).map(textOf).filter(Boolean)
  const dns = { nameservers: texts(Nameservers), search: texts(Search), options: texts(Options) }
  return {
    ...emptyResult(),
    ips: listOf(IPs).map(each => {
      const { Address, Gateway } = structureIn(each)
      const gateway = addressOf(Gateway)
      return { address: networkOf(Address), ...(gateway === undefined ? {} : { gateway }) }
    }),
    routes: listOf(Routes).map(routeOf),
    dns: {
      ...Object.fromEntries(Object.entries(dns).filter(([, names]) => names.length > 0)),
      ...(textOf(Domain) === '' ? {} : { domain: textOf(Domain) }),
    },
  }
}

/** What one side has received: the greeting, then messages. Answers the values of whole messages, with types remembered. */
interface Stream {
  greeting: string | undefined
  values: Value[]
}

function createStream(): (chunk: Uint8Array) => Stream {
  let bytes: Uint8Array = new Uint8Array(0)
  let total = 0
  let greeting: string | undefined
  const decode = createDecoder()
  return chunk => {
    total += chunk.length
    if (total > MOST_BYTES) throw new GobError(`more than ${MOST_BYTES} bytes`)
    bytes = Buffer.concat([bytes, chunk])
    if (greeting === undefined) {
      const { length, text } = greetingIn(bytes)
      if (text === undefined) return { greeting, values: [] }
      greeting = text
      bytes = bytes.subarray(length)
    }
    const values: Value[] = []
    for (let next = nextMessage(bytes); next; next = nextMessage(bytes)) {
      bytes = next.rest
      const value = decode(next.message)
      if (value !== undefined) values.push(value)
    }
    return { greeting, values }
  }
}

/** HTTP's head ends with an empty line, of either kind. */
function greetingIn(bytes: Uint8Array): { length: number; text?: string } {
  const text = Buffer.from(bytes.subarray(0, LONGEST_GREETING)).toString('latin1')
  const end = /\r?\n\r?\n/.exec(text)
  if (end) return { length: end.index + end[0].length, text: text.slice(0, end.index) }
  if (bytes.length >= LONGEST_GREETING) throw new GobError('no end of the HTTP head')
  return { length: 0 }
}

/** A call that a client made, as the server sees it. */
export interface Asked {
  method: string
  sequence: number
  call: Call
}

export interface ServerSide {
  /** Takes what came; answers bytes to be sent at once, and calls. Throws GobError for what is no such stream. */
  receive(chunk: Uint8Array): { reply: Uint8Array; asked: Asked[] }
  /** A result for DHCP.Allocate, undefined for DHCP.Release, or what went wrong. */
  answer(asked: Asked, outcome: Result | Error | undefined): Uint8Array
}

/** The daemon's end of a connection. */
export function createServerSide(): ServerSide {
  const stream = createStream()
  const encode = createEncoder()
  let greeted = false
  let head: Structure | undefined
  return {
    receive(chunk) {
      const { greeting, values } = stream(chunk)
      if (greeting !== undefined && !greeting.startsWith('CONNECT '))
        throw new GobError('not a CONNECT request')
      const reply = Buffer.from(greeting !== undefined && !greeted ? CONNECTED : '')
      greeted ||= greeting !== undefined
      const asked: Asked[] = []
      for (const value of values) {
        if (head) asked.push(askedOf(head, structureIn(value)))
        head = head ? undefined : structureIn(value)
      }
      return { reply, asked }
    },
    answer({ method, sequence }, outcome) {
      const failed = outcome instanceof Error
      const response = encode(responseSchema, {
        ServiceMethod: method,
        ...(sequence === 0 ? {} : { Seq: sequence }),
        ...(failed ? { Error: outcome.message } : {}),
      })
      const body =
        outcome === undefined || failed
          ? encode(emptySchema, {})
          : encode(resultSchema, resultStructure(outcome))
      return Buffer.concat([response, body])
    },
  }
}

function askedOf(head: Structure, body: Structure): Asked {
  return {
    method: textOf(head.ServiceMethod),
    sequence: numberOf(head.Seq) ?? 0,
    call: {
      containerId: textOf(body.ContainerID),
      netns: textOf(body.Netns),
      ifname: textOf(body.IfName),
      args: textOf(body.Args),
      path: textOf(body.Path),
      stdin: Buffer.from(bytesOf(body.StdinData)).toString(),
    },
  }
}

/** What the daemon answered. */
export type Answer = { result: Result } | { error: string }

/** The bytes of a call, to be sent once the daemon has greeted. */
export function encodeCall(method: string, call: Call): Uint8Array {
  const encode = createEncoder()
  return Buffer.concat([
    encode(requestSchema, { ServiceMethod: method }),
    encode(argumentsSchema, {
      ContainerID: call.containerId,
      Netns: call.netns,
      IfName: call.ifname,
      Args: call.args,
      Path: call.path,
      StdinData: Buffer.from(call.stdin),
    }),
  ])
}

export interface ClientSide {
  /** Takes what came; tells whether the daemon has greeted, and its answer once that is whole. */
  receive(chunk: Uint8Array): { greeted: boolean; answer?: Answer }
}

/** The plugin's end of a connection for one call. */
export function createClientSide(): ClientSide {
  const stream = createStream()
  const received: Value[] = []
  return {
    receive(chunk) {
      const { greeting, values } = stream(chunk)
      if (greeting !== undefined && !greeting.startsWith('HTTP/1.0 200')) {
        throw new GobError(`the greeting is ${JSON.stringify(greeting.slice(0, 100))}`)
      }
      received.push(...values)
      const [head, body] = received
      if (head === undefined || body === undefined) return { greeted: greeting !== undefined }
      const error = textOf(structureIn(head).Error)
      return { greeted: true, answer: error === '' ? { result: resultOf(body) } : { error } }
    },
  }
}
