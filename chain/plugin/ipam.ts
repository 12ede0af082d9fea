/** The plugin that gives addresses, as the one that makes the interface sees it: nothing happens where the configuration names none. */
import { CniError, code } from '../protocol/error.ts'
import { emptyResult, type Result } from '../protocol/result.ts'
import type { Delegate } from './delegate.ts'
import type { Undo } from './undo.ts'

/** Whether a plugin needs another one that gives addresses. */
export type IpamNeed = 'required' | 'optional' | 'none'

/** What is said to the IPAM plugin of a configuration, with this request's environment and standard input. */
export interface Ipam {
  /** `ipam.type`; undefined where there is none. */
  type: string | undefined
  /** Takes addresses, which are given back when ADD fails; an empty result where there is no plugin, never one without addresses else. */
  add(undo: Undo): Promise<Result>
  check(): Promise<void>
  remove(): Promise<void>
  status(): Promise<void>
  gc(): Promise<void>
}

const nothing = async () => {}

/** Of a plugin that has nothing to do with addresses, or of a configuration that asks for none. */
export const noIpam: Ipam = {
  type: undefined,
  add: async () => emptyResult(),
  check: nothing,
  remove: nothing,
  status: nothing,
  gc: nothing,
}

/** The IPAM plugin of a configuration. */
export function ipamOf(config: unknown, delegate: Delegate): Ipam {
  const type = (config as { ipam?: { type?: string | undefined } } | undefined)?.ipam?.type
  if (!type) return noIpam
  return {
    type,
    add: undo => takeAddresses(type, delegate, undo),
    check: () => delegate.check(type),
    remove: () => delegate.del(type),
    status: () => delegate.status(type),
    gc: () => delegate.gc(type),
  }
}

async function takeAddresses(type: string, delegate: Delegate, undo: Undo): Promise<Result> {
  // all or nothing itself: an ADD that says that it failed has nothing to release
  const result = await delegate.add(type, undefined, () =>
    undo('release the addresses', () => delegate.del(type)),
  )
  if (result.ips.length > 0) return result
  throw new CniError(code.internal, 'IPAM plugin returned missing IP config', {
    details: `ipam.type: ${type}`,
  })
}

/** For who cannot do without addresses. */
export function missingIpam(plugin: string): CniError {
  return new CniError(
    code.invalidConfiguration,
    `ipam.type: no plugin name provided: ${plugin} interface requires an IPAM configuration`,
    { details: 'name the plugin that gives addresses: without them the interface would be of no use' },
  )
}
