/**
 * Whether somebody still needs what a plugin has left in files and packet filters. An orphan has two signs against it that do not
 * depend on one another: no runtime knows its container any more, and the kernel has no trace of it.
 */
import { chainName, MASQUERADE_PREFIX, PORTS_PREFIX } from '../filter/iptables/chains.ts'
import { attachmentHash, hostEndOf, ownerIn, ownerOf } from '../plugin/owner.ts'
import { bare, type Ground } from './attachments.ts'
import type { Reservation, StateRecord } from './files.ts'
import type { FilterObject, Ownership } from './filters.ts'
import type { Attachment, Label, Labelled } from './model.ts'

/** What is judged by. */
export interface Judge {
  ground: Ground
  attachments: readonly Attachment[]
  reservations: readonly Reservation[]
  grace: number
  now: number
}

/** What an attachment is known by in rules and records: hashes, of which a node with a hundred containers would make thousands. */
interface Names {
  owner: string
  hash: string
  chains: readonly string[]
}

const known = new WeakMap<Attachment, Names>()

function namesOf(attachment: Attachment): Names {
  const found = known.get(attachment)
  if (found) return found
  const chains = [MASQUERADE_PREFIX, PORTS_PREFIX].map(prefix => chainName(prefix, attachment))
  const names = { owner: ownerOf(attachment).id, hash: attachmentHash(attachment), chains }
  known.set(attachment, names)
  return names
}

/** The attachments that may own something. */
export function ownersOf(
  { owner, containerId, network, ifname }: Ownership,
  { attachments }: Judge,
): Attachment[] {
  return attachments.filter(attachment => {
    if (attachment.containerId === '') return false
    if (owner !== undefined) return namesOf(attachment).owner === owner
    if (containerId === undefined || attachment.containerId !== containerId) return false
    return (
      (network === undefined || attachment.network === network) &&
      (ifname === undefined || attachment.ifname === ifname)
    )
  })
}

/** The best that can be said of several. */
function bestOf(attachments: readonly Attachment[]): Attachment | undefined {
  const order: Label[] = ['live', 'unknown', 'foreign', 'orphan']
  return order.flatMap(label => attachments.filter(each => each.label === label))[0]
}

export function labelReservations(judge: Judge): (Reservation & Labelled)[] {
  return judge.reservations.map(reservation => ({ ...reservation, ...judgeReservation(reservation, judge) }))
}

function judgeReservation(reservation: Reservation, judge: Judge): Labelled {
  const { address, containerId, modified } = reservation
  const { ground, attachments, grace, now } = judge
  const owner = bestOf(ownersOf({ ...(containerId ? { containerId } : {}) }, judge))
  const bearer = attachments.find(each => each.addresses.some(one => bare(one) === address))
  if (ground.isLive(address)) {
    const where = bearer ? `${bearer.ifname} of ${bearer.name} has it` : 'a link has it'
    return { label: 'live', evidence: [where] }
  }
  if (owner?.label === 'live')
    return { label: 'unknown', evidence: [`no link has it, but container ${owner.name} is alive`] }
  const unowned = containerId === undefined ? 'its file names no container' : undefined
  const signs = [
    unowned ??
      (owner ? `container ${owner.name}: ${owner.evidence[0]}` : `no cache knows container ${containerId}`),
    'no link of any namespace has it',
  ]
  const isYoung = now - modified < grace
  if (isYoung)
    return { label: 'unknown', evidence: [...signs, 'it is so young that its ADD may be under way'] }
  if (!ground.isComplete || owner?.label === 'unknown') return { label: 'unknown', evidence: signs }
  return { label: 'orphan', evidence: signs }
}

export function labelFilters(found: readonly FilterObject[], judge: Judge): (FilterObject & Labelled)[] {
  return found.map(object => ({ ...object, ...judgeFilter(object, judge) }))
}

function judgeFilter(object: FilterObject, judge: Judge): Labelled {
  const { ground, reservations } = judge
  const ownership = withContainer(object, judge)
  const isOwned = ownership.owner !== undefined || ownership.containerId !== undefined
  const owner = bestOf(isOwned ? ownersOf(ownership, judge) : [])
  if (owner && owner.label !== 'orphan')
    return { label: owner.label, evidence: [`container ${owner.name}: ${owner.evidence[0]}`] }
  const living = object.addresses.filter(address => ground.isLive(address))
  if (!isOwned && living.length > 0) return { label: 'live', evidence: [`a link has ${living.join(', ')}`] }
  const whose = ownership.containerId ?? ownership.owner ?? 'whoever made it'
  const signs = [owner ? `container ${owner.name}: ${owner.evidence[0]}` : `no cache knows ${whose}`]
  if (
    ownership.owner !== undefined &&
    ground.host.links.some(({ name }) => name === hostEndOf(ownership.owner ?? ''))
  )
    return { label: 'unknown', evidence: [...signs, `${hostEndOf(ownership.owner)} is there`] }
  const kept = reservations.find(
    ({ address, containerId }) =>
      containerId !== undefined && containerId === ownership.containerId && ground.isLive(address),
  )
  if (kept) return { label: 'unknown', evidence: [...signs, `${kept.path} keeps an address that a link has`] }
  const nameless = judge.attachments.find(
    ({ containerId, network }) => containerId === '' && network !== '' && network === ownership.network,
  )
  if (nameless && living.length > 0)
    return { label: 'unknown', evidence: [...signs, `${nameless.name} is on its network, and has no cache`] }
  if (!ground.isComplete) return { label: 'unknown', evidence: signs }
  if (!isOwned && object.addresses.length === 0) return { label: 'unknown', evidence: signs }
  const others = living.length > 0 ? `another container has ${living.join(', ')}` : undefined
  const gone =
    object.addresses.length > 0
      ? (others ?? `no link has ${object.addresses.join(', ')}`)
      : 'no interface, host end or address of it is left'
  return { label: 'orphan', evidence: [...signs, gone] }
}

/** A chain without a comment is known by its name, which is made of network and container. */
function withContainer(object: FilterObject, { attachments }: Judge): Ownership {
  if (object.containerId !== undefined || object.owner !== undefined || object.table !== 'nat') return object
  const known = attachments.find(attachment => namesOf(attachment).chains.includes(object.place))
  return known ? { network: known.network, containerId: known.containerId } : object
}

export function labelRecords(found: readonly StateRecord[], judge: Judge): (StateRecord & Labelled)[] {
  return found.map(record => ({ ...record, ...judgeRecord(record, judge) }))
}

/** Of records that several interfaces share nothing is said: whoever goes first leaves the others'. */
function judgeRecord({ about, key, content }: StateRecord, judge: Judge): Labelled {
  const { attachments, ground } = judge
  const id = ownerIn(key) ?? ownerIn(typeof content.owner === 'string' ? content.owner : '')
  const owners = attachments.filter(
    each =>
      each.containerId !== '' &&
      (namesOf(each).owner === id || namesOf(each).hash === key || namesOf(each).chains.includes(key)),
  )
  const owner = bestOf(owners)
  if (owner && owner.label !== 'orphan')
    return { label: owner.label, evidence: [`container ${owner.name}: ${owner.evidence[0]}`] }
  const signs = [owner ? `container ${owner.name}: ${owner.evidence[0]}` : 'no cache knows its owner']
  const addresses = Array.isArray(content.addresses) ? content.addresses.map(String) : []
  const netns = typeof content.netns === 'string' ? content.netns : undefined
  const living = addresses.filter(address => ground.isLive(bare(address)))
  if (living.length > 0) return { label: 'unknown', evidence: [...signs, `a link has ${living.join(', ')}`] }
  const isThere = netns !== undefined && ground.identityAt(netns) !== undefined
  if (isThere || !ground.isComplete) return { label: 'unknown', evidence: signs }
  if (about === 'iptables') return { label: 'unknown', evidence: signs }
  const gone = addresses.length > 0 ? `no link has ${addresses.join(', ')}` : `its namespace is gone`
  return { label: 'orphan', evidence: [...signs, gone] }
}
