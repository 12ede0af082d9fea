/** Rates and bursts of a configuration as token buckets, with the Go plugin's arithmetic, so that its CHECK agrees with ours. Pure. */

import { splitNetwork } from '../../chain/ip/text.ts'
import type { Bucket } from '../../chain/linux/netlink/qdisc.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import type { Entry } from './schema.ts'

const MAXIMUM = 0xffffffff

export interface Prefix {
  address: string
  prefixLength: number
}

/** Which traffic a limit is for: all but these, or these only. */
export interface Scope {
  only: boolean
  subnets: Prefix[]
}

export interface Limits {
  ingress: Bucket | undefined
  egress: Bucket | undefined
  scope: Scope
}

/** The limits that a configuration means. Rates of the configuration itself make the runtime's count for nothing. */
export function limitsOf(
  config: Entry & { runtimeConfig?: { bandwidth?: Entry | undefined } | undefined },
): Limits {
  const runtime = config.runtimeConfig?.bandwidth ?? {}
  const place = 'runtimeConfig.bandwidth.'
  const rates = hasRates(config) ? { from: config, place: '' } : { from: runtime, place }
  return {
    ingress: bucketOf(rates, 'ingress'),
    egress: bucketOf(rates, 'egress'),
    scope: scopeOf(hasSubnets(config) ? { from: config, place: '' } : { from: runtime, place }),
  }
}

function hasRates({ ingressRate, ingressBurst, egressRate, egressBurst }: Entry): boolean {
  return [ingressRate, ingressBurst, egressRate, egressBurst].some(value => value !== undefined)
}

function hasSubnets({ shapedSubnets, unshapedSubnets }: Entry): boolean {
  return (shapedSubnets ?? []).length > 0 || (unshapedSubnets ?? []).length > 0
}

interface Source {
  from: Entry
  place: string
}

function refuse(key: string, reason: string): never {
  throw new CniError(code.invalidConfiguration, `${key}: ${reason}`)
}

const MICROSECOND_TICKS = 15.625 // of 64 ns each (PSCHED_SHIFT)
const LATENCY = 0.025 // seconds that a packet may wait, as the Go plugin has it
function bucketOf({ from, place }: Source, direction: 'ingress' | 'egress'): Bucket | undefined {
  const rate = from[`${direction}Rate`] ?? 0
  const burst = from[`${direction}Burst`] ?? 0
  const rateKey = `${place}${direction}Rate`
  const burstKey = `${place}${direction}Burst`
  if (rate === 0 && burst === 0) return undefined
  if (rate === 0) refuse(rateKey, `if burst is set, rate must also be set: ${burstKey} is`)
  if (burst === 0) refuse(burstKey, `if rate is set, burst must also be set: ${rateKey} is`)
  const bytes = { rate: Math.floor(rate / 8), burst: Math.floor(burst / 8) }
  if (bytes.burst > MAXIMUM)
    refuse(burstKey, `burst cannot be more than 4GB: must be at most ${8 * MAXIMUM + 7} (bits): got ${burst}`)
  if (bytes.rate === 0) refuse(rateKey, `must be at least 8 (bits per second): got ${rate}`)
  if (bytes.burst === 0) refuse(burstKey, `must be at least 8 (bits): got ${burst}`)
  const ticks = Math.floor(Math.floor((bytes.burst * 1e6) / bytes.rate) * MICROSECOND_TICKS)
  if (ticks === 0) {
    refuse(
      burstKey,
      `must be more, because at ${rateKey} ${rate} it is gone in less than a microsecond: got ${burst}`,
    )
  }
  const limit = Math.min(Math.floor(bytes.rate * LATENCY) + bytes.burst, MAXIMUM)
  return { rate: BigInt(bytes.rate), burst: bytes.burst, ticks, limit }
}

function scopeOf({ from, place }: Source): Scope {
  const { shapedSubnets = [], unshapedSubnets = [] } = from
  if (shapedSubnets.length > 0 && unshapedSubnets.length > 0) {
    refuse(
      `${place}shapedSubnets`,
      `cannot be set together with ${place}unshapedSubnets: one of them says it all`,
    )
  }
  const only = shapedSubnets.length > 0
  return { only, subnets: (only ? shapedSubnets : unshapedSubnets).flatMap(prefixOf) }
}

function prefixOf(text: string): Prefix[] {
  const network = splitNetwork(text)
  return network ? [network] : []
}
