/** host-local: hands out addresses of ranges, kept on this host's disk. */

import { formatAddress, parseCidr } from '../chain/ip/address.ts'
import { SystemError } from '../chain/linux/libc/errno.ts'
import { close } from '../chain/linux/libc/file.ts'
import { configuredRoutes } from '../chain/plugin/configured.ts'
import type { AddRequest, AttachmentRequest, ValidAttachment } from '../chain/plugin/define.ts'
import { definePlugin, readablePrevious } from '../chain/plugin/define.ts'
import { main } from '../chain/plugin/run.ts'
import { CniError, code, toCniError } from '../chain/protocol/error.ts'
import type { IpConfig } from '../chain/protocol/result.ts'
import { type Allocation, type AllocationSpec, allocate } from './host-local/allocate.ts'
import { anyConfiguration, configuration } from './host-local/checks.ts'
import {
  configurationOf,
  dnsOf,
  folderOf,
  type Given,
  rangeSetsOf,
  requestedAddresses,
  requireRangeSets,
} from './host-local/configuration.ts'
import type { Owner } from './host-local/owner-index.ts'
import { assign, type RangeSet, rangeOf, sizeOf } from './host-local/ranges.ts'
import { checkFree } from './host-local/status.ts'
import {
  addressesOf,
  damagedOf,
  keepOnly,
  makeDurable,
  noteGiven,
  openStore,
  openStoreIfPresent,
  release,
} from './host-local/store.ts'

export const hostLocal = definePlugin({
  name: 'host-local',
  ownLock: true,
  config: anyConfiguration,
  strict: configuration,

  async examine(config, cniVersion) {
    requireRangeSets(await configurationOf({ config }), cniVersion)
  },

  async pools(config, cniVersion) {
    const ranges = rangeSetsOf(await configurationOf({ config }), cniVersion).flat()
    return ranges.map(range => ({
      subnet: range.subnet,
      first: range.start,
      last: range.end,
      gateway: range.gateway,
      size: sizeOf([range]),
    }))
  },

  async add(request) {
    const config = await configurationOf(request)
    const sets = requireRangeSets(config, request.cniVersion)
    const requested = assign(sets, requestedAddresses(config, request))
    const dns = dnsOf(config)
    const allocations = inFolder(request, folder => allocateAll(request, { sets, requested, folder }))
    return { interfaces: [], ips: allocations.map(ipOf), routes: configuredRoutes(config.ipam.routes), dns }
  },

  async check(request) {
    const sets = requireRangeSets(await configurationOf(request), request.cniVersion)
    const held = inFolder(request, folder => {
      using store = openStoreIfPresent(folder, request.io.stderr)
      return store ? addressesOf(store, request.attachment) : []
    })
    if (held.length === 0)
      throw notHeld(
        request,
        `host-local: Failed to find address added by container ${request.attachment.containerId}`,
      )
    for (const { address } of readablePrevious(request)?.ips ?? []) {
      const parsed = parseCidr(address)?.address
      if (!parsed || !sets.some(set => rangeOf(set, parsed)) || held.includes(formatAddress(parsed))) continue
      throw notHeld(request, `address ${address} of prevResult is not reserved for this container`)
    }
  },

  del(request) {
    const { attachment, previous, io } = request
    const told = (previous?.ips ?? []).flatMap(({ address }) => parseCidr(address)?.address ?? [])
    inFolder(request, folder => {
      using store = openStoreIfPresent(folder, io.stderr)
      if (!store) return
      const damaged = damagedOf(store, attachment, told.map(formatAddress))
      release(store, attachment, [...damaged, ...addressesOf(store, attachment)])
    })
  },

  async status(request) {
    const sets = rangeSetsOf(await configurationOf(request), request.cniVersion)
    inFolder(request, folder => checkFree(folder, sets))
  },

  gc(request) {
    const isKept = isOwnerAmong(request.valid)
    const refusals = inFolder(request, folder => {
      using store = openStoreIfPresent(folder, request.io.stderr)
      return store ? keepOnly(store, isKept) : []
    })
    if (refusals.length === 0) return
    throw new CniError(
      code.io,
      `${refusals.length} reservations of ${folderOf(request)} could not be freed`,
      {
        details: refusals.map(({ message }) => message).join('; '),
        cause: refusals[0],
      },
    )
  },
})

/** Runs what works on the network's folder. What the system refuses there is code 5, and names the folder. */
function inFolder<T>(request: Given, body: (folder: string) => T): T {
  const folder = folderOf(request)
  try {
    return body(folder)
  } catch (thrown) {
    if (!(thrown instanceof SystemError)) throw thrown
    throw new CniError(code.io, `ipam.dataDir: cannot keep reservations in ${folder}`, {
      details: thrown.message,
      cause: thrown,
    })
  }
}

/** One address of each set, under one lock; durable before it is answered, but that without the lock. */
function allocateAll(
  request: AddRequest<unknown>,
  given: { sets: readonly RangeSet[]; requested: readonly AllocationSpec['requested'][]; folder: string },
): Allocation[] {
  const allocations: Allocation[] = []
  try {
    allocateLocked(request, given, allocations)
    makeDurable(
      given,
      allocations.map(({ reservation }) => reservation),
    )
  } finally {
    for (const { reservation } of allocations) close(reservation.descriptor)
  }
  return allocations
}

function allocateLocked(
  { attachment: owner, io, undo }: AddRequest<unknown>,
  { sets, requested, folder }: Parameters<typeof allocateAll>[1],
  allocations: Allocation[],
): void {
  using store = openStore(folder, io.stderr)
  try {
    for (const [position, set] of sets.entries()) {
      const spec = { store, owner, set, position, requested: requested[position] }
      const allocation = namingRange(position, () => allocate(spec))
      undo(`free ${allocation.name}`, () => {
        using again = openStore(folder, io.stderr)
        release(again, owner, [allocation.name])
      })
      allocations.push(allocation)
    }
  } finally {
    if (allocations.length > 0)
      noteGiven(
        store,
        owner,
        allocations.map(({ name }) => name),
      )
  }
}

function namingRange<T>(position: number, body: () => T): T {
  try {
    return body()
  } catch (thrown) {
    if (!(thrown instanceof CniError)) throw thrown
    const { code: number, message, details } = toCniError(thrown)
    throw new CniError(number, `failed to allocate for range ${position}: ${message}`, {
      details,
      cause: thrown,
    })
  }
}

function ipOf({ name, range }: Allocation): IpConfig {
  return { address: `${name}/${range.subnet.prefixLength}`, gateway: formatAddress(range.gateway) }
}

function notHeld(request: Given & Pick<AttachmentRequest<unknown>, 'attachment'>, message: string): CniError {
  const { containerId, ifname: name } = request.attachment
  return new CniError(code.internal, message, {
    details: `no file in ${folderOf(request)} reserves it for container ${containerId}, interface ${name}`,
  })
}

/** A test for owners that are alive. A reservation in the oldest format belongs to all interfaces of its container. */
function isOwnerAmong(valid: readonly ValidAttachment[]): (owner: Owner) => boolean {
  const containers = new Set(valid.map(({ containerId }) => containerId))
  const attachments = new Set(valid.map(each => `${each.containerId} ${each.ifname}`))
  return ({ containerId, ifname: name }) =>
    name === undefined ? containers.has(containerId) : attachments.has(`${containerId} ${name}`)
}

if (import.meta.main) main(hostLocal)
