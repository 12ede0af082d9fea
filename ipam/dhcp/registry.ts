/** All leases of a daemon: allocated, checked, released; written to disk, and taken up again after a restart. Knows no sockets between plugin and daemon. */
import {
  ensureFolder,
  listFolder,
  readFile,
  removeFile,
  TEMPORARY_PREFIX,
  writeAtomically,
} from '../../chain/linux/files.ts'
import { status } from '../../chain/linux/libc.ts'
import { namespaceIdentity } from '../../chain/linux/netns.ts'
import { decode, decodeBase, lookup, parseConfiguration } from '../../chain/protocol/configuration.ts'
import { CniError, code, toCniError } from '../../chain/protocol/error.ts'
import { parseResult, type Result } from '../../chain/protocol/result.ts'
import type { Client, Lease } from './client.ts'
import { initialState } from './client.ts'
import type { Options } from './flags.ts'
import { resultOf } from './granted.ts'
import { createKeeper, type Keeper } from './keeper.ts'
import { composeMessage } from './message.ts'
import { clientIdentifier, clientOptions, configuration } from './options.ts'
import { encodeMessage } from './packet.ts'
import { leave, openPlace, type Place, sendFromHost } from './port.ts'
import {
  decodeLease,
  encodeLease,
  fileNames,
  isLeaseFile,
  isNoteFile,
  type StoredLease,
  stateFolder,
} from './state.ts'
import type { Call } from './wire.ts'

/** Writes one line of the log. */
export type Log = (event: string, facts: Readonly<Record<string, unknown>>) => void

export interface Registry {
  allocate(call: Call): Promise<Result>
  check(call: Call): Promise<Result>
  release(call: Call): void
  /** Takes up what an earlier daemon left, and gives back what nobody uses any more. */
  resume(): void
  /** The leases stay: acquisitions that nobody will hear of are given up. */
  close(): void
}

/** Everything about a lease but its times and its state. */
interface Entry {
  keeper: Keeper
  facts: Omit<StoredLease, 'lease'>
}

interface Shelf {
  options: Options
  log: Log
  folder: string
  entries: Map<string, Entry>
  clock(): number
}

/** What a call asks for, read from the network's configuration. */
interface Asked {
  identifier: string
  call: Call
  network: string
  priority: number
  provided: Map<number, Uint8Array>
  requested: number[]
  /** Addresses that the container has, as prevResult says. */
  had: string[]
}

export function createRegistry(options: Options, log: Log): Registry {
  const start = Date.now() - performance.now()
  const shelf: Shelf = {
    options,
    log,
    folder: options.hostPrefix + stateFolder(options.socketPath),
    entries: new Map(),
    clock: () => start + performance.now(), // wall clocks jump; a lease must not end when one is set
  }
  return {
    allocate: call => allocate(shelf, read(call)),
    check: call => check(shelf, read(call)),
    release: call => release(shelf, call),
    resume: () => resume(shelf),
    close() {
      for (const { keeper } of shelf.entries.values()) {
        if (isHeld(keeper)) keeper.close()
        else keeper.release()
      }
    },
  }
}

function read(call: Call): Asked {
  const json = parseConfiguration(call.stdin)
  const base = decodeBase(json)
  if (lookup(json, 'ipam') === undefined) throw new CniError(code.invalidConfiguration, 'ipam: is missing')
  const config = decode(configuration, json)
  const previous = base.prevResult === undefined ? undefined : parseResult(base.prevResult, base.cniVersion)
  return {
    identifier: clientIdentifier(call.containerId, base.name, call.ifname),
    call,
    network: base.name,
    priority: config.ipam.priority ?? 0,
    ...clientOptions(config, call.args),
    had: (previous?.ips ?? [])
      .map(({ address }) => address.replace(/\/.*/, ''))
      .filter(each => !each.includes(':')),
  }
}

function isHeld(keeper: Keeper): boolean {
  const { phase, lease } = keeper.state()
  return lease !== undefined && phase !== 'stopped' && phase !== 'verifying'
}

/** The lease that is there, or a new one. A container that came back under its ID asks for the address that it had. */
async function allocate(shelf: Shelf, asked: Asked): Promise<Result> {
  const known = usable(shelf, asked)
  if (known) return resultFrom(asked, await known.keeper.ready())
  const wanted = shelf.entries.get(asked.identifier)?.keeper.state().lease?.address
  const entry = open(shelf, asked)
  const lease = await orForget(shelf, asked, entry.keeper.acquire(wanted))
  if (lease.prefixLength === undefined) {
    entry.keeper.release()
    throw new CniError(
      code.internal,
      `the DHCP server ${lease.server} gave no subnet mask with ${lease.address}`,
    )
  }
  return resultFrom(asked, lease)
}

/** The lease that the container has; one that the daemon knows nothing of, a server must confirm. */
async function check(shelf: Shelf, asked: Asked): Promise<Result> {
  const known = shelf.entries.get(asked.identifier)
  const { phase, reason } = known?.keeper.state() ?? {}
  if (known && phase === 'stopped' && reason !== 'released') {
    throw new CniError(code.internal, `${asked.identifier}: no DHCP lease: ${reason}`)
  }
  const same = usable(shelf, asked)
  if (same) return resultFrom(asked, await same.keeper.ready())
  const [address] = asked.had
  if (address === undefined) {
    throw new CniError(
      code.internal,
      `${asked.identifier}: no DHCP lease, and prevResult names no IPv4 address that one could be for`,
    )
  }
  return resultFrom(asked, await orForget(shelf, asked, open(shelf, asked).keeper.confirm(address)))
}

/** An acquisition that came to nothing leaves nothing that a later call would be told of. */
async function orForget(shelf: Shelf, { identifier }: Asked, acquiring: Promise<Lease>): Promise<Lease> {
  try {
    return await acquiring
  } catch (thrown) {
    if (shelf.entries.get(identifier)?.keeper.state().phase === 'stopped') shelf.entries.delete(identifier)
    throw thrown
  }
}

/** An entry whose namespace and interface are still those of the call, and whose lease is not over. */
function usable(shelf: Shelf, { identifier, call }: Asked): Entry | undefined {
  const entry = shelf.entries.get(identifier)
  if (!entry || entry.keeper.state().phase === 'stopped') return undefined
  const place = openPlace(shelf.options.hostPrefix + call.netns, call.ifname)
  leave(place)
  const { identity, link } = entry.keeper.place
  return identity === place.identity && link.index === place.link.index && link.address === place.link.address
    ? entry
    : undefined
}

function resultFrom({ priority }: Asked, lease: Lease): Result {
  return resultOf(lease, priority)
}

/** A keeper for a call, in the place of one that is of no use any more. */
function open(shelf: Shelf, asked: Asked): Entry {
  const { call, identifier, network, priority, provided, requested } = asked
  const place = openPlace(shelf.options.hostPrefix + call.netns, call.ifname)
  shelf.entries.get(identifier)?.keeper.close()
  return enter(shelf, place, {
    containerId: call.containerId,
    network,
    ifname: call.ifname,
    netns: call.netns,
    netnsIdentity: place.identity,
    link: place.link.index,
    hardware: place.link.address,
    // what an ipvlan link receives is told apart by the address that it does not have yet
    broadcast: shelf.options.broadcast || place.link.kind === 'ipvlan',
    provided: Array.from(provided, ([code, value]) => [code, Buffer.from(value).toString('hex')]),
    requested,
    priority,
  })
}

function enter(shelf: Shelf, place: Place, facts: Entry['facts']): Entry {
  const { containerId, network, ifname } = facts
  const identifier = clientIdentifier(containerId, network, ifname)
  const files = fileNames(identifier)
  const path = `${shelf.folder}/${files.lease}`
  const keeper = createKeeper(place, clientOf(facts, identifier, shelf.options), {
    clock: shelf.clock,
    random: Math.random,
    log: (event, more) =>
      shelf.log(event, { client: identifier, network, container: containerId, interface: ifname, ...more }),
    save: lease => {
      ensureFolder(shelf.folder, 0o700)
      const obtainedAt = Math.round(lease.obtainedAt + Date.now() - shelf.clock())
      writeAtomically(path, encodeLease({ ...facts, lease: { ...lease, obtainedAt } }))
    },
    forget: () => void removeFile(path),
    inhabited: () => isInhabited(shelf.options.hostPrefix + facts.netns, facts.netnsIdentity),
  })
  const entry = { keeper, facts }
  removeFile(`${shelf.folder}/${files.note}`) // of a DEL before this ADD
  shelf.entries.set(identifier, entry)
  return entry
}

function clientOf(facts: Entry['facts'], identifier: string, { timing }: Options): Client {
  const { hardware, broadcast, provided, requested } = facts
  return {
    identifier,
    hardware,
    broadcast,
    requested,
    timing,
    provided: new Map(provided.map(([code, value]) => [code, Buffer.from(value, 'hex')])),
  }
}

/** A namespace whose path has gone may still have processes in it; where it has none, nobody uses its addresses. */
function isInhabited(path: string, identity: string): boolean {
  if (namespaceIdentity(path) === identity) return true
  const processes = (listFolder('/proc') ?? []).filter(name => /^\d+$/.test(name))
  return processes.some(name => {
    try {
      const found = status(`/proc/${name}/ns/net`)
      return found !== undefined && `${found.device}/${found.inode}` === identity
    } catch {
      return false // it ended, or is not ours to look at
    }
  })
}

/** An unknown one was released before, or never allocated. */
function release(shelf: Shelf, call: Call): void {
  const json = parseConfiguration(call.stdin)
  const identifier = clientIdentifier(call.containerId, decodeBase(json).name, call.ifname)
  shelf.entries.get(identifier)?.keeper.release()
  shelf.entries.delete(identifier)
  const files = fileNames(identifier)
  removeFile(`${shelf.folder}/${files.note}`)
}

function resume(shelf: Shelf): void {
  const names = listFolder(shelf.folder) ?? []
  for (const name of names.filter(isLeaseFile)) {
    try {
      resumeLease(shelf, name)
    } catch (thrown) {
      shelf.log('error', { file: `${shelf.folder}/${name}`, error: toCniError(thrown).message })
    }
  }
  for (const name of names.filter(name => isNoteFile(name) || name.startsWith(TEMPORARY_PREFIX))) {
    removeFile(`${shelf.folder}/${name}`)
  }
}

function resumeLease(shelf: Shelf, name: string): void {
  const path = `${shelf.folder}/${name}`
  const stored = decodeLease(readFile(path) ?? '')
  if (!stored) {
    removeFile(path)
    shelf.log('unreadable', { file: path })
    return
  }
  const { lease, ...facts } = stored
  const identifier = clientIdentifier(facts.containerId, facts.network, facts.ifname)
  const deleted = readFile(`${shelf.folder}/${fileNames(identifier).note}`) !== undefined
  const place = samePlace(shelf, facts)
  if (!place) {
    releaseFromHost(shelf, stored, identifier)
    removeFile(path)
    return
  }
  const { keeper } = enter(shelf, place, facts)
  shelf.log(deleted ? 'deleted meanwhile' : 'adopted', { client: identifier, address: lease.address })
  keeper.adopt(lease)
  if (deleted) keeper.release()
}

/** The namespace and link of a lease from disk, if they are still the same ones. */
function samePlace(shelf: Shelf, facts: Entry['facts']): Place | undefined {
  const path = shelf.options.hostPrefix + facts.netns
  if (namespaceIdentity(path) !== facts.netnsIdentity) return undefined
  let place: Place
  try {
    place = openPlace(path, facts.ifname)
  } catch {
    return undefined // the link has gone
  }
  if (place.link.index === facts.link && place.link.address === facts.hardware) return place
  leave(place)
  return undefined
}

/** Best effort: from here the server may not be reachable, or not listen; then the lease ends in its time. */
function releaseFromHost(shelf: Shelf, { lease, ...facts }: StoredLease, identifier: string): void {
  const client = clientOf(facts, identifier, shelf.options)
  const transaction = Math.floor(Math.random() * 0x1_0000_0000)
  const message = composeMessage(client, { ...initialState, transaction, lease }, 'release', shelf.clock())
  const log = (event: string, more: Record<string, unknown>) =>
    shelf.log(event, { client: identifier, address: lease.address, ...more })
  if (shelf.clock() >= lease.obtainedAt + lease.leaseSeconds * 1000) {
    log('lost', { why: 'the lease has expired' })
    return
  }
  try {
    sendFromHost(lease.server, encodeMessage(message))
    log('released', { why: 'its namespace or interface has gone' })
  } catch (thrown) {
    log('abandoned', { why: 'its namespace or interface has gone', error: toCniError(thrown).message })
  }
}
