/** Numbers by which one namespace knows another (linux/net_namespace.h): how a link is told where its parent is. */
import { close, O_RDONLY, open } from '../libc/file.ts'
import { after, attributeMap, int32, join, readInt32, uint32 } from './codec.ts'
import { attempt, KernelError, type Request, type Transport } from './socket.ts'

const RTM_NEWNSID = 88
const RTM_GETNSID = 90
const NETNSA_NSID = 1
const NETNSA_FD = 3
const NOT_ASSIGNED = -1 // NETNSA_NSID_NOT_ASSIGNED

function about(operation: string, type: number, ...parts: Uint8Array[]): Request {
  return { operation, type, payload: join(new Uint8Array(4), ...parts) } // struct rtgenmsg, padded
}

/** The number by which a socket's namespace knows this thread's; given to it when it has none. */
export function ownNamespaceId(route: Transport): number {
  const descriptor = open('/proc/thread-self/ns/net', O_RDONLY)
  try {
    return numberNamespace(route, descriptor)
  } finally {
    close(descriptor)
  }
}

/** The number by which a socket's namespace knows another one (a descriptor); given to it when it has none. */
export function numberNamespace(route: Transport, descriptor: number): number {
  const namespace = uint32(NETNSA_FD, descriptor)
  const [, found] = attempt(route, [
    // refused with EEXIST where there is a number already
    about('number a namespace', RTM_NEWNSID, namespace, int32(NETNSA_NSID, NOT_ASSIGNED)),
    about("look up a namespace's number", RTM_GETNSID, namespace),
  ])
  if (found instanceof KernelError) throw found
  const [reply] = found ?? []
  const value = reply && attributeMap(after(reply.payload, 4)).get(NETNSA_NSID)
  return value ? readInt32(value) : NOT_ASSIGNED
}

/** The number by which a socket's namespace knows another one (a descriptor); undefined where it has none for it. Changes nothing. */
export function namespaceNumber(route: Transport, descriptor: number): number | undefined {
  const [found] = attempt(route, [
    about('look up the number of a namespace', RTM_GETNSID, uint32(NETNSA_FD, descriptor)),
  ])
  const [reply] = found instanceof KernelError || !found ? [] : found
  const value = reply && attributeMap(after(reply.payload, 4)).get(NETNSA_NSID)
  const number = value && readInt32(value)
  return number === undefined || number < 0 ? undefined : number
}
