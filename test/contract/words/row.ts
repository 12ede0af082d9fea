/** A phrase that people search for, and the call that is refused with it. */
import { afterAll, beforeAll } from 'bun:test'
import { rmSync } from 'node:fs'
import { removeLink } from '../../../chain/linux/netlink/link.ts'
import { hostNamespace, type Namespace } from '../../fixtures/namespace.ts'
import type { Verb } from '../../fixtures/plugin.ts'

export const MASTER = 'words0'
export const BRIDGE = 'words1'
export const FOLDER = '/run/words'
export const ipam = { type: 'host-local', dataDir: FOLDER, ranges: [[{ subnet: '10.63.0.0/24' }]] }
export const withRanges = (...sets: object[][]) => ({ ipam: { ...ipam, ranges: sets } })

export interface Row {
  plugin: string
  says: string
  config?: object
  verb?: Verb
  args?: string
  netns?: string
  /** Makes the container's eth0, with this address where one is given; prevResult tells of it. */
  chained?: true | string
  /** prevResult, from that of a chained interface. */
  previous?(container: Namespace): object
  /** Does something to the container before the call. */
  before?(container: Namespace): void
  /** Why the Go plugin is not asked: it crashes, or says it otherwise. */
  unasked?: 'crashes' | 'prints a pointer' | 'another sentence since' | 'has no such check'
}

export const mac = 'zz:00'
export const noMac = `address ${mac}: invalid MAC address`
export const master = { master: MASTER, ipam }
export const bridge = { bridge: BRIDGE, ipam }
export const addresses = (...list: object[]) => ({ ipam: { addresses: list } })

/** Makes what the calls name on the host, for the tests of a file. */
export function useHost(): void {
  beforeAll(() => {
    using host = hostNamespace()
    host.createLink({ name: MASTER, up: true, kind: { type: 'veth', peer: { name: 'words2' } } })
    host.createLink({ name: BRIDGE, up: true, kind: { type: 'bridge' } }, '10.64.0.9/24')
  })

  afterAll(() => {
    rmSync(FOLDER, { recursive: true, force: true })
    using host = hostNamespace()
    for (const name of [MASTER, BRIDGE]) removeLink(host.route, name)
  })
}
