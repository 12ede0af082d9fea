/** Which options a client sends and asks for, as `ipam.provide` and `ipam.request` say. Pure. */
import { CniError, code } from '../../chain/protocol/error.ts'
import type { Configuration, Mode } from './schema.ts'
import { option } from './v4/packet.ts'

/** Which families of addresses are asked for, and how those of IPv6 come to be. */
export interface FamilySpec {
  ipv4: boolean
  ipv6: Mode | undefined
}

/** Reads the families asked for; none is refused. */
export function familySpec({ ipam }: Pick<Configuration, 'ipam'>): FamilySpec {
  const families = { ipv4: ipam.ipv4 ?? true, ipv6: ipam.ipv6 || undefined }
  if (families.ipv4 || families.ipv6) return families
  throw new CniError(
    code.invalidConfiguration,
    'ipam.ipv4: is false, and ipam.ipv6 asks for no address either',
  )
}

/** What a client says in each message beyond the protocol's own options. */
export interface ClientOptions {
  provided: Map<number, Uint8Array>
  /** The parameter request list, in this order. */
  requested: number[]
}

/** Names that the Go plugin takes, and those of further options that end up in results. */
const names: Readonly<Record<string, number>> = {
  'dhcp-client-identifier': option.clientIdentifier,
  'subnet-mask': option.subnetMask,
  routers: option.routers,
  'host-name': 12,
  'user-class': 77,
  'vendor-class-identifier': 60,
  'domain-name-servers': option.nameServers,
  'domain-name': option.domainName,
  'domain-search': option.domainSearch,
  'interface-mtu': option.interfaceMtu,
  'classless-static-routes': option.classlessRoutes,
}

/** The code of an option, from its name or its number. */
function optionCode(name: string, path: string): number {
  const number = names[name] ?? (/^\d{1,3}$/.test(name) ? Number(name) : undefined)
  if (number !== undefined && number < 256) return number
  throw new CniError(code.invalidConfiguration, `${path}: Can not parse option ${JSON.stringify(name)}`, {
    details: `a number from 0 to 255, or one of ${Object.keys(names).join(', ')}`,
  })
}

const DEFAULT_REQUEST = [option.routers, option.subnetMask]
/** What the Go plugin's library asks for when the list would be empty. */
const REQUEST_OF_NOTHING = [option.subnetMask, option.routers, option.domainName, option.nameServers]
const LONGEST_VALUE = 255

/** Options to send and to ask for. Of values for one option the last counts, and one from CNI_ARGS beats a literal one. */
export function clientOptions({ ipam }: Configuration, args: string): ClientOptions {
  const given = readArguments(args)
  const provided = new Map<number, Uint8Array>()
  for (const [index, entry] of (ipam.provide ?? []).entries()) {
    const path = `ipam.provide[${index}]`
    const number = optionCode(entry.option, `${path}.option`)
    for (const value of [entry.value, entry.fromArg && given.get(entry.fromArg)]) {
      if (value) provided.set(number, valueBytes(value, { option: entry.option, path }))
    }
  }
  return { provided, requested: requestList(ipam.request ?? []) }
}

function valueBytes(value: string, { option: name, path }: { option: string; path: string }): Uint8Array {
  const bytes = Buffer.from(value)
  if (bytes.length <= LONGEST_VALUE) return bytes
  throw new CniError(
    code.invalidConfiguration,
    `${path}.value: value too long for option ${JSON.stringify(name)}: must be at most ${LONGEST_VALUE} bytes: got ${bytes.length}`,
  )
}

function requestList(request: NonNullable<Configuration['ipam']['request']>): number[] {
  const listed = request.flatMap(({ option: name }, index) =>
    name ? [optionCode(name, `ipam.request[${index}].option`)] : [],
  )
  const all = request.some(({ skipDefault }) => skipDefault) ? listed : [...listed, ...DEFAULT_REQUEST]
  return all.length > 0 ? all : REQUEST_OF_NOTHING
}

/** CNI_ARGS as the Go plugin's dhcp reads it: without complaint about keys, and values may hold "=". */
function readArguments(args: string): Map<string, string> {
  const pairs = args.split(';').filter(pair => pair.includes('='))
  return new Map(
    pairs.map(pair => {
      const middle = pair.indexOf('=')
      return [pair.slice(0, middle), pair.slice(middle + 1)]
    }),
  )
}

const LONGEST_IDENTIFIER = 254

/** The identity under which a server knows an attachment; stable over restarts of the container under the same ID. */
export function clientIdentifier(containerId: string, network: string, ifname: string): string {
  return Buffer.from(`${containerId}/${network}/${ifname}`).subarray(0, LONGEST_IDENTIFIER).toString()
}
