/**
 * Host ports that are published through iptables, a file each: rules have no key that the kernel would refuse a second time.
 * A claim counts as long as its owner's container is alive.
 */

import { listOwned } from '../../chain/filter/nftables/read.ts'
import { ensureFolder, listFolder, readState, removeFile, writeInPlace } from '../../chain/linux/files.ts'
import { takeLock } from '../../chain/linux/lock.ts'
import { openNetfilterIfPresent } from '../../chain/linux/nftables/list.ts'
import type { Attachment } from '../../chain/plugin/define.ts'
import { ownerIn, ownerOf } from '../../chain/plugin/owner.ts'
import { RUN_FOLDER } from '../../chain/plugin/state.ts'
import { portMappings } from './configuration.ts'
import { becomeHeir, heirsOf, stopWaiting } from './heirs.ts'
import { decide, forget, type Holder, type Published, recall } from './holders.ts'
import { sweepPorts } from './sweep.ts'
import type { Call, Target } from './target.ts'

const FOLDER = `${RUN_FOLDER}/ports/claimed`

const LOCK = 'lock'

const pathOf = (key: string) => `${FOLDER}/${key}`

const familyOf = ({ address }: Pick<Published, 'address'>) => (address.includes(':') ? 'ip6' : 'ip')

function keyOf(port: Published): string {
  return [familyOf(port), port.protocol, port.hostPort, port.hostAddress ?? 'any'].join('-')
}

/** What an attachment publishes: its mappings, each with the address of its family. */
export function publicationOf({ config }: Call, targets: readonly Target[]): Published[] {
  return targets.flatMap(({ family, address }) =>
    portMappings(config)
      .filter(({ families }) => families.includes(family))
      .map(({ protocol, hostPort, containerPort, hostAddress }) => ({
        protocol,
        hostPort,
        ...(hostAddress === undefined ? {} : { hostAddress }),
        address,
        containerPort,
      })),
  )
}

/** Claims what an attachment publishes. Throws when a live container has one of the ports, through iptables or nftables. */
export async function claim(call: Call, published: readonly Published[]): Promise<void> {
  const { id } = ownerOf(call.attachment)
  await settleElements(call, published)
  ensureFolder(FOLDER)
  using _held = takeLock(`${FOLDER}/${LOCK}`) // of two that take over from the dead, the later one sees the earlier
  const left: Published[] = []
  for (const port of published) {
    if ((await settleClaim(call, port)) === 'leave') left.push(port)
    else writeInPlace(pathOf(keyOf(port)), id)
  }
  if (left.length > 0) becomeHeir(call, { claims: left })
}

/** Takes over what the dead have claimed, with all that they have; throws when one is alive and of another container. */
export async function settleClaims(call: Call, published: readonly Published[]): Promise<void> {
  if (listFolder(FOLDER, 1) === undefined) return
  for (const port of published) await settleClaim(call, port)
}

/** A claim whose owner has no record is what a kill has left. */
async function settleClaim(call: Call, port: Published): Promise<'take' | 'leave'> {
  const owner = readState(pathOf(keyOf(port)))
  if (owner === undefined || owner === ownerOf(call.attachment).id) return 'take'
  return await settleWith(call, port, recall(owner))
}

async function settleWith(
  { attachment, engine }: Call,
  { hostPort, protocol }: Published,
  holder: Holder | undefined,
): Promise<'take' | 'leave'> {
  const decision = decide(holder, { attachment, port: `${hostPort}/${protocol}` })
  if (holder && decision === 'take') {
    await sweepPorts(engine, holder)
    forgetHolder(ownerOf(holder).id)
  }
  return decision
}

/** The same for ports that others hold in our nftables tables. */
async function settleElements(call: Call, published: readonly Published[]): Promise<void> {
  using netfilter = openNetfilterIfPresent()
  if (!netfilter) return
  const own = ownerOf(call.attachment).id
  const held = new Map(
    listOwned(netfilter, ['ip', 'ip6'])
      .filter(({ collection, owner }) => /^(port|hostip)_address$/.test(collection) && owner !== own)
      .map(({ family, key, owner }) => [JSON.stringify([family, ...key]), owner]),
  )
  for (const port of published) {
    const address = port.hostAddress === undefined ? [] : [port.hostAddress]
    const owner = held.get(JSON.stringify([familyOf(port), ...address, port.protocol, port.hostPort]))
    if (owner !== undefined) await settleWith(call, port, recall(owner))
  }
}

/**
 * Forgets an owner, with what it has claimed: that is an heir's from now on, or nobody's. Whose attachment it is the record
 * says, if it is whole.
 */
export function forgetHolder(owner: string, attachment?: Attachment): void {
  const holder = recall(owner)
  if (holder) passOn(owner, holder)
  else removeClaims(owner)
  const waiting = holder ?? attachment
  if (waiting) stopWaiting(waiting)
  forget(owner)
}

function passOn(owner: string, holder: Holder): void {
  const heirs = heirsOf(holder)
  for (const port of holder.published ?? []) {
    const path = pathOf(keyOf(port))
    const claimant = readState(path)
    if (claimant === undefined || (claimant !== owner && ownerIn(claimant) === claimant)) continue
    const heir = heirs.find(({ claims = [] }) => claims.some(claim => keyOf(claim) === keyOf(port)))
    if (heir) writeInPlace(path, heir.id)
    else removeFile(path)
  }
}

/** Where an owner's record is torn or gone, its claims alone say what they are. Those that are torn as well are nobody's. */
function removeClaims(owner: string): void {
  if (listFolder(FOLDER, 1) === undefined) return
  using _held = takeLock(`${FOLDER}/${LOCK}`) // nobody is about to write one
  for (const name of listFolder(FOLDER) ?? []) {
    const claimant = name === LOCK ? undefined : readState(`${FOLDER}/${name}`)
    if (claimant === owner || (claimant !== undefined && ownerIn(claimant) !== claimant))
      removeFile(`${FOLDER}/${name}`)
  }
}
