/**
 * Host ports that are published through iptables, a file each: rules have no key that the kernel would refuse a second time.
 * A reservation counts as long as its owner's container is alive.
 */

import { tableFamilyOf } from '../../chain/ip/family.ts'
import { ensureFolder, listFolder, readState, removeFile, writeInPlace } from '../../chain/linux/files.ts'
import { takeLock } from '../../chain/linux/lock.ts'
import { openNetfilterIfPresent } from '../../chain/linux/nftables/netfilter.ts'
import type { Attachment } from '../../chain/plugin/define.ts'
import { ownerIn, ownerOf } from '../../chain/plugin/owner.ts'
import { RUN_FOLDER } from '../../chain/plugin/state.ts'
import type { Undo } from '../../chain/plugin/undo.ts'
import { listPublished } from './elements.ts'
import { closeOwnLocalnet } from './localnet.ts'
import type { Call, Target } from './publication.ts'
import {
  forget,
  type Published,
  type Publisher,
  recall,
  remember,
  resolveConflict,
  standbysOf,
  stopWaiting,
  waitForPort,
} from './publishers.ts'
import { sweepPorts } from './sweep.ts'

const FOLDER = `${RUN_FOLDER}/ports/claimed` // the first version's name: a node may go from one to the other and back

const LOCK = 'lock'

const pathOf = (key: string) => `${FOLDER}/${key}`

function keyOf(port: Published): string {
  return [tableFamilyOf(port.address), port.protocol, port.hostPort, port.hostAddress ?? 'any'].join('-')
}

/** Before any rule of a publisher is there: notes whose ports they are, with what undoes it and the rules that follow. */
export async function registerPublisher(
  { attachment, netns, engine }: Call,
  publication: { targets: readonly Target[]; published: readonly Published[]; undo: Undo },
): Promise<void> {
  const { targets, published, undo } = publication
  const { id } = ownerOf(attachment)
  const earlier = recall(id) // of an ADD that was killed, perhaps by the other backend: that does not replace it
  if (earlier && Boolean(earlier.published?.length) !== published.length > 0)
    await sweepPorts(engine, attachment)
  if (earlier) forgetPublisher(id)
  undo('forget the publisher', () => forgetPublisher(id))
  const addresses = targets.map(({ address }) => address)
  remember({ ...attachment, netns, addresses, published })
  undo('delete the rules', () => sweepPorts(engine, attachment))
  undo('close the way from 127.0.0.1', () => closeOwnLocalnet(id))
}

/** Reserves what an attachment publishes. Throws when a live container has one of the ports, through iptables or nftables. */
export async function reserve(call: Call, published: readonly Published[]): Promise<void> {
  const { id } = ownerOf(call.attachment)
  await resolveElements(call, published)
  ensureFolder(FOLDER)
  using _held = takeLock(`${FOLDER}/${LOCK}`) // of two that take over from the dead, the later one sees the earlier
  const left: Published[] = []
  for (const port of published) {
    if ((await resolveReservation(call, port)) === 'leave') left.push(port)
    else writeInPlace(pathOf(keyOf(port)), id)
  }
  if (left.length > 0) waitForPort(call, { ports: left })
}

/** Takes over what the dead have reserved, with all that they have; throws when one is alive and of another container. */
export async function resolveReservations(call: Call, published: readonly Published[]): Promise<void> {
  if (listFolder(FOLDER, 1) === undefined) return
  for (const port of published) await resolveReservation(call, port)
}

/** A reservation whose owner has no record is what a kill has left. */
async function resolveReservation(call: Call, port: Published): Promise<'take' | 'leave'> {
  const owner = readState(pathOf(keyOf(port)))
  if (owner === undefined || owner === ownerOf(call.attachment).id) return 'take'
  return await resolveWith(call, port, recall(owner))
}

async function resolveWith(
  { attachment, engine }: Call,
  { hostPort, protocol }: Published,
  publisher: Publisher | undefined,
): Promise<'take' | 'leave'> {
  const decision = resolveConflict(publisher, { attachment, port: `${hostPort}/${protocol}` })
  if (publisher && decision === 'take') {
    await sweepPorts(engine, publisher)
    forgetPublisher(ownerOf(publisher).id)
  }
  return decision
}

/** The same for ports that others hold in our nftables tables. */
async function resolveElements(call: Call, published: readonly Published[]): Promise<void> {
  using netfilter = openNetfilterIfPresent()
  if (!netfilter) return
  const own = ownerOf(call.attachment).id
  const held = new Map(
    listPublished(netfilter).flatMap(port =>
      port.owner === own ? [] : [[keyOf(port), port.owner] as const],
    ),
  )
  for (const port of published) {
    const owner = held.get(keyOf(port))
    if (owner !== undefined) await resolveWith(call, port, recall(owner))
  }
}

/**
 * Forgets an owner, with what it has reserved: that is a standby's from now on, or unowned. Whose attachment it is the record
 * says, if it is whole.
 */
export function forgetPublisher(owner: string, attachment?: Attachment): void {
  const publisher = recall(owner)
  if (publisher) passReservationsOn(owner, publisher)
  else removeReservations(owner)
  const waiting = publisher ?? attachment
  if (waiting) stopWaiting(waiting)
  forget(owner)
}

/** What an owner has reserved is a standby's from now on, or unowned. */
export function passReservationsOn(owner: string, publisher: Publisher): void {
  const standbys = standbysOf(publisher)
  for (const port of publisher.published ?? []) {
    const path = pathOf(keyOf(port))
    const reserver = readState(path)
    if (reserver === undefined || (reserver !== owner && ownerIn(reserver) === reserver)) continue
    const standby = standbys.find(({ ports = [] }) => ports.some(one => keyOf(one) === keyOf(port)))
    if (standby) writeInPlace(path, standby.id)
    else removeFile(path)
  }
}

/** Where an owner's record is torn or gone, its reservations alone say what they are. Those that are torn as well are unowned. */
function removeReservations(owner: string): void {
  if (listFolder(FOLDER, 1) === undefined) return
  using _held = takeLock(`${FOLDER}/${LOCK}`) // no other is about to write one
  for (const name of listFolder(FOLDER) ?? []) {
    const reserver = name === LOCK ? undefined : readState(`${FOLDER}/${name}`)
    if (reserver === owner || (reserver !== undefined && ownerIn(reserver) !== reserver))
      removeFile(`${FOLDER}/${name}`)
  }
}
