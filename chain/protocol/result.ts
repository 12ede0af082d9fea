/** Results of an ADD: the newest version's shape is what plugins see; older ones are conversions. Pure. */

import { familyOf } from '../ip/family.ts'
import { canonicalAddress, canonicalCidr } from '../ip/text.ts'
import { lookup } from './configuration.ts'
import { CniError, code, type ErrorDocument } from './error.ts'

/** The shape of version 1.1.0, with its lists always present. */
export interface Result {
  interfaces: Interface[]
  ips: IpConfig[]
  routes: Route[]
  dns: Dns
}

export interface Interface {
  name: string
  mac?: string
  mtu?: number
  /** Path of the namespace; absent or empty for an interface on the host. */
  sandbox?: string
  socketPath?: string
  pciID?: string
}

export interface IpConfig {
  /** Address with prefix length: "10.1.0.5/16". */
  address: string
  gateway?: string
  /** Index into `interfaces`. */
  interface?: number
}

export interface Route {
  dst: string
  gw?: string
  mtu?: number
  advmss?: number
  priority?: number
  table?: number
  scope?: number
}

export interface Dns {
  nameservers?: string[]
  domain?: string
  search?: string[]
  options?: string[]
}

/** A result with nothing in it. */
export function emptyResult(): Result {
  return { interfaces: [], ips: [], routes: [], dns: {} }
}

type Json = { [key: string]: unknown }

const families: readonly (readonly string[])[] = [
  ['', '0.1.0', '0.2.0'],
  ['0.3.0', '0.3.1', '0.4.0'],
  ['1.0.0', '1.1.0'],
]

function formatsOf(version: string): readonly string[] {
  for (const family of families) if (family.includes(version)) return family
  throw new CniError(code.incompatibleVersion, `unsupported CNI result version "${version}"`)
}

/**
 * Reads a result (of a delegate, or prevResult) of the configuration's version family into the newest shape. A result that
 * names a version of another family is refused; one that names none is of the configuration's. `what` names it in refusals.
 */
export function parseResult(json: unknown, cniVersion: string, what = 'prevResult'): Result {
  try {
    return readResult(json, formatsOf(cniVersion))
  } catch (thrown) {
    if (!(thrown instanceof CniError)) throw thrown
    throw new CniError(thrown.code, `could not parse ${what}: ${thrown.message}`, { cause: thrown })
  }
}

function readResult(json: unknown, family: readonly string[]): Result {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new CniError(code.decoding, `it is not an object: ${JSON.stringify(json)}`)
  }
  const result = json as Json
  const named = lookup(result, 'cniVersion')
  if (named !== undefined && !family.includes(String(named))) {
    throw new CniError(
      code.internal,
      `result type supports [${family.filter(Boolean).join(' ')}] but unmarshalled CNIVersion is "${named}"`,
    )
  }
  return family.includes('0.1.0') ? readOldest(result) : readCurrent(result)
}

function list(value: unknown, what: string): Json[] {
  if (value === undefined) return []
  if (isListOfObjects(value)) return value
  throw new CniError(code.decoding, `${what}: must be a list of objects`)
}

function isListOfObjects(value: unknown): value is Json[] {
  if (!Array.isArray(value)) return false
  for (const item of value) if (typeof item !== 'object' || item === null) return false
  return true
}

/** Copies the named keys whose values are there and of the right type. */
function pick(from: Json, keys: Readonly<Record<string, 'string' | 'number'>>, what: string): Json {
  const picked: Json = {}
  for (const [key, type] of Object.entries(keys)) {
    const value = lookup(from, key)
    if (value === undefined || value === '') continue
    if (type === 'number' ? !Number.isInteger(value) : typeof value !== type) {
      throw new CniError(
        code.decoding,
        `${what}.${key}: must be ${type === 'number' ? 'an integer' : 'a string'}: got ${JSON.stringify(value)}`,
      )
    }
    picked[key] = value
  }
  return picked
}

const interfaceKeys = {
  name: 'string',
  mac: 'string',
  mtu: 'number',
  sandbox: 'string',
  socketPath: 'string',
  pciID: 'string',
} as const
const ipKeys = { address: 'string', gateway: 'string', interface: 'number' } as const
const routeKeys = {
  dst: 'string',
  gw: 'string',
  mtu: 'number',
  advmss: 'number',
  priority: 'number',
  table: 'number',
  scope: 'number',
} as const

function readCurrent(result: Json): Result {
  const ips = list(lookup(result, 'ips'), 'ips').map(ip => pick(ip, ipKeys, 'ips') as unknown as IpConfig)
  return {
    interfaces: list(lookup(result, 'interfaces'), 'interfaces').map(one => ({
      name: '',
      ...pick(one, interfaceKeys, 'interfaces'),
    })),
    ips: ips.map(canonicalIp),
    routes: readRoutes(lookup(result, 'routes')),
    dns: readDns(lookup(result, 'dns')),
  }
}

/** An address with prefix length in its canonical text; host bits stay. */
function requireCidr(address: unknown, what: string): string {
  const canonical = typeof address === 'string' ? canonicalCidr(address) : undefined
  if (canonical) return canonical
  throw new CniError(
    code.decoding,
    `${what}: invalid CIDR address: ${address ?? ''}: must be an address with prefix: got ${JSON.stringify(address)}`,
  )
}

function canonicalIp(ip: IpConfig): IpConfig {
  return {
    ...ip,
    address: requireCidr(ip.address, 'ips.address'),
    ...(ip.gateway === undefined ? {} : { gateway: requireAddress(ip.gateway, 'ips.gateway') }),
  }
}

/** An address in its canonical text. */
function requireAddress(text: string, what: string): string {
  const address = canonicalAddress(text)
  if (address) return address
  throw new CniError(code.decoding, `${what}: invalid IP address: ${text}`)
}

function readRoutes(value: unknown): Route[] {
  return list(value, 'routes').map(one => {
    const route = pick(one, routeKeys, 'routes') as unknown as Route
    const dst = requireCidr(route.dst, 'routes.dst')
    const gw = route.gw === undefined ? {} : { gw: requireAddress(route.gw, 'routes.gw') }
    return { ...route, dst, ...gw }
  })
}

function readDns(value: unknown): Dns {
  if (typeof value !== 'object' || value === null) return {}
  const dns: Dns = {}
  const domain = lookup(value as Json, 'domain')
  if (typeof domain === 'string' && domain !== '') dns.domain = domain
  for (const key of ['nameservers', 'search', 'options'] as const) {
    const entries = lookup(value as Json, key)
    if (Array.isArray(entries) && entries.length > 0) dns[key] = entries.map(String)
  }
  return dns
}

/** 0.1.0 and 0.2.0: one address per family, each with routes of its own. */
function readOldest(result: Json): Result {
  const parts = ['ip4', 'ip6'].map(key => lookup(result, key)).filter(part => part !== undefined) as Json[]
  return {
    interfaces: [],
    ips: parts.map(part => {
      const address = requireCidr(lookup(part, 'ip'), 'ip')
      const gateway = lookup(part, 'gateway')
      return canonicalIp({ address, ...(gateway ? { gateway: String(gateway) } : {}) })
    }),
    routes: parts.flatMap(part => readRoutes(lookup(part, 'routes'))),
    dns: readDns(lookup(result, 'dns')),
  }
}

/**
 * A result in the shape of the configuration's version, as the Go plugin prints it: four blanks of indentation, no newline,
 * the same order of keys, empty values left out. Throws where 0.1.0 and 0.2.0 cannot say it: they need an address.
 */
export function printResult(result: Result, cniVersion: string): string {
  return printJson(resultDocument(result, cniVersion))
}

/** The result as a document of the configuration's version. */
export function resultDocument(result: Result, cniVersion: string): Json {
  const family = formatsOf(cniVersion)
  if (family.includes('1.1.0')) return currentDocument(result, cniVersion)
  return family.includes('0.4.0') ? middleDocument(result, cniVersion) : oldestDocument(result, cniVersion)
}

function isEmpty(value: unknown): boolean {
  return value === undefined || value === '' || (Array.isArray(value) && value.length === 0)
}

/** Leaves out what Go's omitempty leaves out; zero too where the field is no pointer. */
function compact(entries: Json, zeroIsEmpty: readonly string[] = []): Json {
  const kept: Json = {}
  for (const [key, value] of Object.entries(entries))
    if (!isEmpty(value) && !(value === 0 && zeroIsEmpty.includes(key))) kept[key] = value
  return kept
}

function dnsDocument({ nameservers, domain, search, options }: Dns): Json {
  return compact({ nameservers, domain, search, options })
}

function routeDocument({ dst, gw, mtu, advmss, priority, table, scope }: Route): Json {
  const canonical = {
    dst: canonicalCidr(dst) ?? dst,
    gw: gw === undefined ? undefined : (canonicalAddress(gw) ?? gw),
  }
  return compact({ ...canonical, mtu, advmss, priority, table, scope }, ['mtu', 'advmss', 'priority'])
}

/** 1.0.0 and later: keys in alphabetical order at every level, as a map of Go prints. */
function currentDocument({ interfaces, ips, routes, dns }: Result, cniVersion: string): Json {
  const dnsPart = dnsDocument(dns)
  return sortKeys({
    cniVersion,
    ...(Object.keys(dnsPart).length > 0 ? { dns: dnsPart } : {}),
    ...compact({
      interfaces: interfaces.map(currentInterface),
      ips: ips.map(({ address, gateway, interface: index }) =>
        compact({ address, gateway, interface: index }),
      ),
      routes: routes.map(routeDocument),
    }),
  }) as Json
}

function currentInterface({ name, mac, mtu, sandbox, socketPath, pciID }: Interface): Json {
  return { name, ...compact({ mac, mtu, sandbox, socketPath, pciID }, ['mtu']) }
}

/** A document with its keys in alphabetical order at every level, as Go prints a map. */
export function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys)
  if (typeof value !== 'object' || value === null) return value
  const sorted: Json = {}
  for (const key of Object.keys(value).sort()) sorted[key] = sortKeys((value as Json)[key])
  return sorted
}

/** 0.3.0 – 0.4.0: fixed order, each address with its family, `dns` always. */
function middleDocument({ interfaces, ips, routes, dns }: Result, cniVersion: string): Json {
  return {
    cniVersion,
    ...compact({
      interfaces: interfaces.map(({ name, mac, sandbox }) => ({ name, ...compact({ mac, sandbox }) })),
      ips: ips.map(({ address, gateway, interface: index }) =>
        compact({ version: `${familyOf(address)}`, interface: index, address, gateway }),
      ),
      routes: routes.map(routeDocument),
    }),
    dns: dnsDocument(dns),
  }
}

function oldestDocument({ ips, routes, dns }: Result, cniVersion: string): Json {
  const part = (family: 4 | 6) => {
    const ip = ips.find(({ address }) => familyOf(address) === family)
    if (!ip) return undefined
    const own = routes
      .filter(({ dst }) => familyOf(dst) === family)
      .map(({ dst, gw }) => routeDocument({ dst, ...(gw === undefined ? {} : { gw }) }))
    return { ip: ip.address, ...compact({ gateway: ip.gateway, routes: own }) }
  }
  const document = compact({ ip4: part(4), ip6: part(6) })
  if (Object.keys(document).length === 0) {
    throw new CniError(
      code.internal,
      `cannot convert: no valid IP addresses; results of version ${cniVersion} need one`,
    )
  }
  return { cniVersion, ...document, dns: dnsDocument(dns) }
}

const escapes = [
  ['<', '\\u003c'],
  ['>', '\\u003e'],
  ['&', '\\u0026'],
  ['\u2028', '\\u2028'],
  ['\u2029', '\\u2029'],
] as const

/** JSON as Go prints it: four blanks (or compact, with none), and `<`, `>`, `&` and the line separators escaped. */
export function printJson(document: unknown, indentation = 4): string {
  let text = JSON.stringify(document, null, indentation)
  for (const [character, escaped] of escapes)
    if (text.includes(character)) text = text.replaceAll(character, escaped)
  return text
}

export function printError(document: ErrorDocument): string {
  return printJson(document)
}
