/** host-local: hands out addresses of ranges, kept on this host's disk. */
import * as z from 'zod/mini'
import { readFile } from '../chain/linux/files.ts'
import {
  type AddRequest,
  type AttachmentRequest,
  type BaseRequest,
  definePlugin,
} from '../chain/plugin/define.ts'
import { main } from '../chain/plugin/run.ts'
import {
  type Address,
  formatAddress,
  formatCidr,
  parseAddress,
  parseCidr,
} from '../chain/protocol/address.ts'
import { parseArguments } from '../chain/protocol/environment.ts'
import { CniError, code, toCniError } from '../chain/protocol/error.ts'
import { emptyResult, type IpConfig, type Route } from '../chain/protocol/result.ts'
import { compareVersions } from '../chain/protocol/version.ts'
import { type Allocation, allocateNext, allocateRequested, usage } from './host-local/allocate.ts'
import {
  describeSet,
  parseRangeSets,
  type RangeConfiguration,
  type RangeSet,
  rangeOf,
} from './host-local/ranges.ts'
import { parseResolvConf } from './host-local/resolv.ts'
import {
  findAddresses,
  free,
  lockStore,
  type Owner,
  ownerAt,
  releaseOwner,
  reservedAddresses,
  type Store,
  storeOf,
} from './host-local/store.ts'

const rangeKeys = {
  subnet: z.optional(z.string()),
  rangeStart: z.optional(z.string()),
  rangeEnd: z.optional(z.string()),
  gateway: z.optional(z.string()),
}
const rangeSets = z.optional(z.array(z.array(z.object(rangeKeys))))

const route = z.object({
  dst: z.string().check(z.refine(text => parseCidr(text) !== undefined, 'must be a network with prefix')),
  gw: z.optional(
    z.string().check(z.refine(text => text === '' || parseAddress(text) !== undefined, 'must be an address')),
  ),
  mtu: z.optional(z.int()),
  advmss: z.optional(z.int()),
  priority: z.optional(z.int()),
  table: z.optional(z.int()),
  scope: z.optional(z.int()),
})

const ips = z.optional(z.array(z.string()))

const configuration = z.object({
  ipam: z.object({
    ...rangeKeys,
    ranges: rangeSets,
    routes: z.optional(z.array(route)),
    dataDir: z._default(z.string(), '/var/lib/cni/networks'),
    resolvConf: z.optional(z.string()),
  }),
  args: z.optional(z.object({ cni: z.optional(z.object({ ips })) })),
  runtimeConfig: z.optional(z.object({ ips, ipRanges: rangeSets })),
})

type Configuration = z.infer<typeof configuration>
type Request = AttachmentRequest<Configuration>

export const hostLocal = definePlugin({
  name: 'host-local',
  config: configuration,

  add(request) {
    const sets = setsOf(request)
    const requested = requestedAddresses(request)
    const store = storeFor(request)
    const dns = resolvConfOf(request.config)
    using _lock = lockStore(store)
    const allocations = allocateAll(request, { sets, requested, store })
    return { ...emptyResult(), ips: allocations.map(describe), routes: routesOf(request.config), dns }
  },

  check(request) {
    setsOf(request)
    const owner = ownerFor(request)
    if (findAddresses(storeFor(request), owner).length > 0) return
    throw new CniError(code.internal, 'Failed to find address added by container', {
      details: `no file in ${storeFor(request).folder} names container ${owner.containerId}, interface ${owner.interface}`,
    })
  },

  del(request) {
    const store = storeFor(request)
    using _lock = lockStore(store)
    releaseOwner(store, ownerFor(request))
  },

  status(request) {
    const store = storeFor(request)
    const full = setsOf(request)
      .map(set => ({ set, ...usage(store, set) }))
      .filter(({ used, size }) => used >= size)
    if (full.length === 0) return
    const sentences = full.map(({ set, used, size }) => `${describeSet(set)}: ${used} of ${size} in use`)
    throw new CniError(
      code.pluginNotAvailable,
      `no IP addresses available in range set ${sentences.join('; ')}`,
      {
        details: `reservations are the files in ${store.folder}`,
      },
    )
  },

  gc(request) {
    const store = storeFor(request)
    using _lock = lockStore(store)
    for (const address of reservedAddresses(store)) {
      const owner = ownerAt(store, address)
      if (owner === undefined) continue
      const isValid =
        owner !== 'nobody' &&
        request.valid.some(
          one =>
            one.containerId === owner.containerId && one.interface === (owner.interface ?? one.interface),
        )
      if (!isValid) free(store, address)
    }
  },
})

function storeFor({ config, network }: BaseRequest<Configuration>): Store {
  return storeOf(config.ipam.dataDir || '/var/lib/cni/networks', network)
}

function ownerFor({ attachment }: Request): Owner {
  return { containerId: attachment.containerId, interface: attachment.interface }
}

/** All range sets in the order of the result: the runtime's, the single range of old configurations, `ranges`. */
function setsOf({ config, cniVersion }: BaseRequest<Configuration>): RangeSet[] {
  const { subnet, rangeStart, rangeEnd, gateway, ranges = [] } = config.ipam
  const given = config.runtimeConfig?.ipRanges ?? []
  const single: RangeConfiguration[][] =
    subnet === undefined ? [] : [[{ subnet, rangeStart, rangeEnd, gateway }]]
  const sets = parseRangeSets(
    [...given, ...single, ...ranges],
    [
      ...given.map((_, index) => `runtimeConfig.ipRanges[${index}]`),
      ...single.map(() => 'ipam'),
      ...ranges.map((_, index) => `ipam.ranges[${index}]`),
    ],
  )
  for (const family of [4, 6] as const) {
    const count = sets.filter(set => set[0]?.subnet.address.family === family).length
    if (count > 1 && compareVersions(cniVersion, '0.3.0') < 0) {
      throw new CniError(
        code.invalidConfiguration,
        `ipam.ranges: CNI version ${cniVersion} does not support more than 1 address per family`,
      )
    }
  }
  return sets
}

/** Addresses that were asked for in any of the three places; a prefix length is passed over. */
function requestedAddresses({ config, args }: Request): Address[] {
  const { IP } = parseArguments(args, ['IP'])
  const places: [string, readonly string[]][] = [
    ['CNI_ARGS: IP', IP ? [IP] : []],
    ['args.cni.ips', config.args?.cni?.ips ?? []],
    ['runtimeConfig.ips', config.runtimeConfig?.ips ?? []],
  ]
  return places.flatMap(([key, texts]) =>
    texts.map((text, index) => {
      const address = text.includes('/') ? parseCidr(text)?.address : parseAddress(text)
      if (address) return address
      throw new CniError(
        code.invalidConfiguration,
        `${key}[${index}]: must be an address: got ${JSON.stringify(text)}`,
      )
    }),
  )
}

function allocateAll(
  request: AddRequest<Configuration>,
  { sets, requested, store }: { sets: RangeSet[]; requested: Address[]; store: Store },
): Allocation[] {
  const pending = [...requested]
  const taken = (allocations: readonly Allocation[]) => {
    for (const { address } of allocations) free(store, formatAddress(address))
  }
  const allocations: Allocation[] = []
  request.undo('free the addresses', () => taken(allocations)) // only this call's: a live attachment keeps its own
  for (const [index, set] of sets.entries()) {
    const wish = { store, owner: ownerFor(request), set, index, warn: request.world.stderr }
    const position = pending.findIndex(address => rangeOf(set, address) !== undefined)
    const [address] = position < 0 ? [] : pending.splice(position, 1)
    try {
      allocations.push(address ? allocateRequested(wish, address) : allocateNext(wish))
    } catch (thrown) {
      const { code: number, message, details } = toCniError(thrown)
      throw new CniError(number, `failed to allocate for range ${index}: ${message}`, {
        details,
        cause: thrown,
      })
    }
  }
  if (pending.length > 0) {
    const left = pending.map(formatAddress).join(' ')
    throw new CniError(code.internal, `failed to allocate all requested IPs: ${left}`, {
      details: `no range set holds them: ${sets.map(describeSet).join('; ')}`,
    })
  }
  return allocations
}

function describe({ address, range }: Allocation): IpConfig {
  return {
    address: formatCidr({ address, prefixLength: range.subnet.prefixLength }),
    gateway: formatAddress(range.gateway),
  }
}

function routesOf({ ipam }: Configuration): Route[] {
  return (ipam.routes ?? []).map(
    given =>
      Object.fromEntries(
        Object.entries(given).filter(([, value]) => value !== undefined && value !== ''),
      ) as unknown as Route,
  )
}

function resolvConfOf({ ipam: { resolvConf } }: Configuration) {
  if (!resolvConf) return {}
  const text = readFile(resolvConf)
  if (text !== undefined) return parseResolvConf(text)
  throw new CniError(code.invalidConfiguration, `ipam.resolvConf: cannot open ${resolvConf}: no such file`)
}

if (import.meta.main) main(hostLocal)
