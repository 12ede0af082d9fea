/** All leases of a daemon: allocated, checked, released; written to disk, and taken up again after a restart. Knows no sockets between plugin and daemon. */
import {
  ensureFolder,
  listFolder,
  readState,
  removeFile,
  TEMPORARY_PREFIX,
  writeAtomically,
} from '../../../chain/linux/files.ts'
import { status } from '../../../chain/linux/libc/status.ts'
import { namespaceIdentity } from '../../../chain/linux/netns.ts'
import { decode, decodeBase, lookup, parseConfiguration } from '../../../chain/protocol/configuration.ts'
import { CniError, code, toCniError } from '../../../chain/protocol/error.ts'
import { emptyResult, parseResult, type Result } from '../../../chain/protocol/result.ts'
import { clientIdentifier, clientOptions, configuration, wantedFamilies } from '../configuration.ts'
import { leave, openPlace, type Place } from '../link/client-link.ts'
import type { Call } from '../rpc/wire.ts'
import { ipv6 } from '../slaac/family.ts'
import { ipv4 } from '../v4/family.ts'
import type { Family, Holding, Setting, Wish } from './family.ts'
import type { Options } from './flags.ts'
import { type Log, limited } from './log.ts'
import { type Facts, fileName, isLeaseFile, isNoteFile, stateFolder } from './state.ts'

export interface Registry {
  allocate(call: Call): Promise<Result>
  check(call: Call): Promise<Result>
  release(call: Call): void
  /** Takes up what an earlier daemon left, and gives back what nobody uses any more. */
  resume(): void
  /** The leases stay: acquisitions that nobody will hear of are given up. */
  close(): void
}

const families: readonly Family[] = [ipv4 as Family, ipv6 as Family]

interface Shelf {
  options: Options
  log: Log
  folder: string
  /** By the name of the file that they are kept in. */
  holdings: Map<string, Holding>
  clock(): number
}

/** What a call asks for, read from the network's configuration. */
interface Asked {
  identifier: string
  call: Call
  network: string
  priority: number
  wish: Wish
  wanted: readonly Family[]
  /** Addresses that the container has, as prevResult says. */
  had: string[]
}

export function createRegistry(options: Options, log: Log): Registry {
  const start = Date.now() - performance.now()
  const shelf: Shelf = {
    options,
    log,
    folder: options.hostPrefix + stateFolder(options.socketPath),
    holdings: new Map(),
    clock: () => start + performance.now(), // wall clocks jump; a lease must not end when one is set
  }
  return {
    allocate: call => allocate(shelf, read(call)),
    check: call => check(shelf, read(call)),
    release: call => release(shelf, call),
    resume: () => resume(shelf),
    close() {
      for (const holding of shelf.holdings.values()) {
        if (holding.isHeld()) holding.close()
        else holding.release()
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
  const wish = { ...clientOptions(config, call.args), ...wantedFamilies(config) }
  return {
    identifier: clientIdentifier(call.containerId, base.name, call.ifname),
    call,
    network: base.name,
    priority: Math.max(config.ipam.priority ?? 0, 0),
    wish,
    wanted: families.filter(family => family.isWanted(wish)),
    had: (previous?.ips ?? []).map(({ address }) => address.replace(/\/.*/, '')),
  }
}

/** What every wanted family gives: all of it, or nothing and why. */
async function allocate(shelf: Shelf, asked: Asked): Promise<Result> {
  const begun: Holding[] = []
  try {
    return merged(await Promise.all(asked.wanted.map(family => allocateOne(shelf, asked, { family, begun }))))
  } catch (thrown) {
    for (const holding of begun) if (!holding.isOver()) holding.release()
    forgetOver(shelf, begun)
    throw thrown
  }
}

/** The lease that is there, or a new one. A container that came back under its ID asks for the address that it had. */
async function allocateOne(
  shelf: Shelf,
  asked: Asked,
  { family, begun }: { family: Family; begun: Holding[] },
): Promise<Result> {
  const known = usable(shelf, asked, family)
  if (known) return known.ready()
  const before = shelf.holdings.get(fileName(asked.identifier, family.ending))
  const holding = open(shelf, asked, family)
  begun.push(holding)
  return holding.acquire(before, { fresh: asked.had.length === 0 }) // the Go plugin's CHECK asks so too
}

/** What the container has; what the daemon knows nothing of, a server or router must confirm. */
async function check(shelf: Shelf, asked: Asked): Promise<Result> {
  const begun: Holding[] = []
  try {
    return merged(await Promise.all(asked.wanted.map(family => checkOne(shelf, asked, { family, begun }))))
  } catch (thrown) {
    forgetOver(shelf, begun)
    throw thrown
  }
}

async function checkOne(
  shelf: Shelf,
  asked: Asked,
  { family, begun }: { family: Family; begun: Holding[] },
): Promise<Result> {
  const { identifier } = asked
  const problem = shelf.holdings.get(fileName(identifier, family.ending))?.problem()
  if (problem !== undefined) throw new CniError(code.internal, `${identifier}: no DHCP lease: ${problem}`)
  const same = usable(shelf, asked, family)
  if (same) return same.ready()
  const had = asked.had.filter(family.includes)
  if (had.length === 0) {
    const name = family === ipv4 ? 'IPv4' : 'IPv6'
    const why = `no DHCP lease, and prevResult names no ${name} address that one could be for`
    throw new CniError(code.internal, `${identifier}: ${why}`)
  }
  const holding = open(shelf, asked, family)
  begun.push(holding)
  return holding.confirm(had)
}

/** An acquisition that came to nothing leaves nothing that a later call would be told of. */
function forgetOver({ holdings }: Shelf, begun: readonly Holding[]): void {
  for (const [name, holding] of holdings)
    if (begun.includes(holding) && holding.isOver()) holdings.delete(name)
}

/** One result of all families'; their name servers and domains in that order. */
function merged(results: readonly Result[]): Result {
  const [first, ...others] = results
  if (!first || others.length === 0) return first ?? emptyResult()
  const all = (key: 'nameservers' | 'search') => [...new Set(results.flatMap(({ dns }) => dns[key] ?? []))]
  const [nameservers, search] = [all('nameservers'), all('search')]
  return {
    ...first,
    ips: results.flatMap(({ ips }) => ips),
    routes: results.flatMap(({ routes }) => routes),
    dns: {
      ...first.dns,
      ...(nameservers.length > 0 ? { nameservers } : {}),
      ...(search.length > 0 ? { search } : {}),
    },
  }
}

/** What is held, if it is of the namespace and interface of the call, and not over. */
function usable(shelf: Shelf, { identifier, call }: Asked, { ending }: Family): Holding | undefined {
  const holding = shelf.holdings.get(fileName(identifier, ending))
  if (!holding || holding.isOver()) return undefined
  const place = openPlace(shelf.options.hostPrefix + call.netns, call.ifname)
  leave(place)
  const { identity, link } = holding.place
  return identity === place.identity && link.index === place.link.index && link.address === place.link.address
    ? holding
    : undefined
}

/** Something to hold with for a call, in the place of what is of no use any more. */
function open(shelf: Shelf, asked: Asked, family: Family): Holding {
  const { call, identifier, network, priority, wish } = asked
  const { options } = shelf
  const place = openPlace(options.hostPrefix + call.netns, call.ifname)
  shelf.holdings.get(fileName(identifier, family.ending))?.close()
  const facts: Facts = {
    containerId: call.containerId,
    network,
    ifname: call.ifname,
    netns: call.netns,
    netnsIdentity: place.identity,
    link: place.link.index,
    hardware: place.link.address,
    priority,
  }
  const own = family.describe(facts, wish, { place, options })
  return enter(shelf, family, own, setting => family.hold(place, own, setting))
}

function enter(shelf: Shelf, family: Family, own: Facts, hold: (setting: Setting) => Holding): Holding {
  const { containerId, ifname, network } = own
  const { clock, folder, options } = shelf
  const identifier = clientIdentifier(containerId, network, ifname)
  const name = fileName(identifier, family.ending)
  const path = `${folder}/${name}`
  removeFile(`${folder}/${fileName(identifier)}`) // the note of a DEL before this ADD
  const holding = hold({
    identifier,
    options,
    surroundings: {
      clock,
      random: Math.random,
      log: limited(clock, (event, more) =>
        shelf.log(event, { client: identifier, network, container: containerId, interface: ifname, ...more }),
      ),
      save(lease) {
        ensureFolder(folder, 0o700)
        writeAtomically(path, family.encode(own, lease, Date.now() - clock()))
      },
      forget: () => void removeFile(path),
      inhabited: () => isInhabited(options.hostPrefix + own.netns, own.netnsIdentity),
    },
  })
  shelf.holdings.set(name, holding)
  return holding
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
  for (const { ending } of families) {
    const name = fileName(identifier, ending)
    shelf.holdings.get(name)?.release()
    shelf.holdings.delete(name)
    removeFile(`${shelf.folder}/${name}`) // in most cases it is gone; what keeps it is the caller's to know
  }
  removeFile(`${shelf.folder}/${fileName(identifier)}`)
}

function resume(shelf: Shelf): void {
  const names = listFolder(shelf.folder) ?? []
  const notes = new Set(names.filter(isNoteFile))
  for (const name of names.filter(isLeaseFile)) {
    try {
      resumeOne(shelf, name, notes)
    } catch (thrown) {
      shelf.log('error', { file: `${shelf.folder}/${name}`, error: toCniError(thrown).message })
    }
  }
  for (const name of names.filter(name => isNoteFile(name) || name.startsWith(TEMPORARY_PREFIX))) {
    removeFile(`${shelf.folder}/${name}`)
  }
}

function resumeOne(shelf: Shelf, name: string, notes: ReadonlySet<string>): void {
  const { clock, log, options } = shelf
  const path = `${shelf.folder}/${name}`
  const family = families.find(({ ending }) => name.endsWith(ending))
  const stored = family?.decode(readState(path) ?? '')
  if (!family || !stored) {
    removeFile(path)
    log('unreadable', { file: path })
    return
  }
  const { containerId, ifname, network } = stored.own
  const identifier = clientIdentifier(containerId, network, ifname)
  const place = samePlace(shelf, stored.own)
  if (!place) {
    const { event, ...facts } = family.giveBack(stored, { identifier, options, now: clock() })
    log(event, { client: identifier, ...facts })
    removeFile(path)
    return
  }
  const deleted = notes.has(fileName(identifier))
  log(deleted ? 'deleted meanwhile' : 'adopted', {
    client: identifier,
    address: family.addressOf(stored.lease),
  })
  const holding = enter(shelf, family, stored.own, setting => family.adopt(place, stored, setting))
  if (deleted) holding.release()
}

/** The namespace and link of a lease from disk, if they are still the same ones. */
function samePlace(shelf: Shelf, facts: Facts): Place | undefined {
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
