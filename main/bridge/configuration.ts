/** What bridge's configuration may hold beyond the types of its keys. */
import type { z } from 'zod/mini'

export const HIGHEST_VLAN = 4094 // 802.1Q: 4095 is reserved

export const isVlan = (id: number) => id >= 0 && id <= HIGHEST_VLAN

/** A name that the kernel takes for a bridge. */
export const hasLinkName = ({ bridge }: { bridge: string }) =>
  /^[^/:\s]{1,15}$/.test(bridge) && bridge !== '.' && bridge !== '..'

/** One of them at most. */
export const hasHairpinOrPromiscuity = (config: { hairpinMode: boolean; promiscMode: boolean }) =>
  !(config.hairpinMode && config.promiscMode)

/** An interface that stays down gets no addresses. */
export const makesUseOfAddresses = (config: {
  disableContainerInterface: boolean
  ipam?: { type?: string | undefined } | undefined
}) => !(config.disableContainerInterface && config.ipam?.type)

interface TrunkEntry {
  minID?: number | undefined
  maxID?: number | undefined
  id?: number | undefined
}

/** Tells each faulty entry of a trunk. */
export function inspectTrunk({
  value: { vlanTrunk = [] },
  issues,
}: z.core.ParsePayload<{ vlanTrunk?: readonly TrunkEntry[] | undefined }>): void {
  for (const [index, entry] of vlanTrunk.entries()) {
    const fault = faultOf(entry)
    if (fault) issues.push({ code: 'custom', path: ['vlanTrunk', index], message: fault, input: entry })
  }
}

/** What is wrong with an entry of a trunk, in the Go plugin's words. One that names nothing is fine. */
function faultOf({ minID, maxID, id }: TrunkEntry): string | undefined {
  const isId = (number: number) => number >= 1 && number <= HIGHEST_VLAN
  const together = 'minID and maxID should be configured simultaneously'
  if (minID === undefined && maxID !== undefined) return `${together}, minID is missing`
  if (minID !== undefined && maxID === undefined) return `${together}, maxID is missing`
  const bounds = `parameter, must be between 1 and ${HIGHEST_VLAN}`
  if (minID !== undefined && !isId(minID)) return `incorrect trunk minID ${bounds}`
  if (maxID !== undefined && !isId(maxID)) return `incorrect trunk maxID ${bounds}`
  if (minID !== undefined && maxID !== undefined && minID > maxID)
    return 'minID is greater than maxID in trunk parameter'
  return id === undefined || isId(id) ? undefined : `incorrect trunk id ${bounds}`
}
