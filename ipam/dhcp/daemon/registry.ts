/** All leases of a daemon: allocated, checked, released; written to disk, and taken up again after a restart. Knows no sockets between plugin and daemon. */
import { removeFile } from '../../../chain/linux/files.ts'
import { decode } from '../../../chain/protocol/checks.ts'
import {
  type BaseConfiguration,
  decodeBase,
  lookup,
  parseConfiguration,
} from '../../../chain/protocol/configuration.ts'
import { CniError, code } from '../../../chain/protocol/error.ts'
import { emptyResult, parseResult, type Result } from '../../../chain/protocol/result.ts'
import { configuration } from '../checks.ts'
import { clientIdentifier, clientOptions, familySpec } from '../configuration.ts'
import { closeClientLink, openClientLink } from '../link/client-link.ts'
import type { Call } from '../rpc/wire.ts'
import type { Configuration } from '../schema.ts'
import type { Family, LeaseHandle, LeaseSpec } from './family.ts'
import type { Options } from './flags.ts'
import { enter, families, type RegistryState } from './handles.ts'
import { ipv4 } from './ipv4.ts'
import type { Facts } from './lease-file.ts'
import type { Log } from './log.ts'
import { resume } from './resume.ts'
import { fileName, stateFolder } from './state.ts'

export interface Registry {
  allocate(call: Call): Promise<Result>
  check(call: Call): Promise<Result>
  release(call: Call): void
  /** Takes up what an earlier daemon left, and gives back what is not used any more. */
  resume(): void
  /** The leases stay: acquisitions that no caller waits for are given up. */
  close(): void
}

/** What a call asks for, read from the network's configuration. */
interface Asked {
  identifier: string
  call: Call
  network: string
  priority: number
  spec: LeaseSpec
  requested: readonly Family[]
  /** Addresses that the container has, as prevResult says. */
  had: string[]
}

export function createRegistry(options: Options, log: Log): Registry {
  const start = Date.now() - performance.now()
  const registry: RegistryState = {
    options,
    log,
    folder: options.hostPrefix + stateFolder(options.socketPath),
    handles: new Map(),
    clock: () => start + performance.now(), // wall clocks jump; a lease must not end when one is set
  }
  return {
    allocate: async call => {
      const asked = read(call)
      return allocate(registry, asked instanceof Promise ? await asked : asked) // at once: a release may follow
    },
    check: async call => check(registry, await read(call)),
    release: call => release(registry, call),
    resume: () => resume(registry),
    close() {
      for (const handle of registry.handles.values()) {
        if (handle.isHeld()) handle.close()
        else handle.release()
      }
    },
  }
}

/** What a call asks for: at once, but for a configuration that is to be refused. */
function read(call: Call): Asked | Promise<Asked> {
  const json = parseConfiguration(call.stdin)
  const base = decodeBase(json)
  if (lookup(json, 'ipam') === undefined) throw new CniError(code.invalidConfiguration, 'ipam: is missing')
  const config = decode(configuration, json)
  return config instanceof Promise
    ? config.then(each => askedOf(call, base, each))
    : askedOf(call, base, config)
}

function askedOf(call: Call, base: BaseConfiguration, config: Configuration): Asked {
  const previous = base.prevResult === undefined ? undefined : parseResult(base.prevResult, base.cniVersion)
  const spec = { ...clientOptions(config, call.args), ...familySpec(config) }
  return {
    identifier: clientIdentifier(call.containerId, base.name, call.ifname),
    call,
    network: base.name,
    priority: Math.max(config.ipam.priority ?? 0, 0),
    spec,
    requested: families.filter(family => family.isRequested(spec)),
    had: (previous?.ips ?? []).map(({ address }) => address.replace(/\/.*/, '')),
  }
}

/** What every family asked for gives: all of it, or nothing and why. */
async function allocate(registry: RegistryState, asked: Asked): Promise<Result> {
  const begun: LeaseHandle[] = []
  try {
    return merged(
      await Promise.all(asked.requested.map(family => allocateOne(registry, asked, { family, begun }))),
    )
  } catch (thrown) {
    for (const handle of begun) if (!handle.isOver()) handle.release()
    forgetOver(registry, begun)
    throw thrown
  }
}

/** The lease that is there, or a new one. A container that came back under its ID asks for the address that it had. */
async function allocateOne(
  registry: RegistryState,
  asked: Asked,
  { family, begun }: { family: Family; begun: LeaseHandle[] },
): Promise<Result> {
  const known = usable(registry, asked, family)
  if (known) return known.ready()
  const before = registry.handles.get(fileName(asked.identifier, family.ending))
  const handle = open(registry, asked, family)
  begun.push(handle)
  return handle.acquire(before, { fresh: asked.had.length === 0 }) // the Go plugin's CHECK asks so too
}

/** What the container has; what the daemon knows nothing of, a server or router must confirm. */
async function check(registry: RegistryState, asked: Asked): Promise<Result> {
  const begun: LeaseHandle[] = []
  try {
    return merged(
      await Promise.all(asked.requested.map(family => checkOne(registry, asked, { family, begun }))),
    )
  } catch (thrown) {
    forgetOver(registry, begun)
    throw thrown
  }
}

async function checkOne(
  registry: RegistryState,
  asked: Asked,
  { family, begun }: { family: Family; begun: LeaseHandle[] },
): Promise<Result> {
  const { identifier } = asked
  const problem = registry.handles.get(fileName(identifier, family.ending))?.problem()
  if (problem !== undefined) throw new CniError(code.internal, `${identifier}: no DHCP lease: ${problem}`)
  const same = usable(registry, asked, family)
  if (same) return same.ready()
  const had = asked.had.filter(family.includes)
  if (had.length === 0) {
    const name = family === ipv4 ? 'IPv4' : 'IPv6'
    const why = `no DHCP lease, and prevResult names no ${name} address that one could be for`
    throw new CniError(code.internal, `${identifier}: ${why}`)
  }
  const handle = open(registry, asked, family)
  begun.push(handle)
  return handle.confirm(had)
}

/** An acquisition that came to nothing leaves nothing that a later call would be told of. */
function forgetOver({ handles }: RegistryState, begun: readonly LeaseHandle[]): void {
  for (const [name, handle] of handles) if (begun.includes(handle) && handle.isOver()) handles.delete(name)
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
function usable(
  registry: RegistryState,
  { identifier, call }: Asked,
  { ending }: Family,
): LeaseHandle | undefined {
  const handle = registry.handles.get(fileName(identifier, ending))
  if (!handle || handle.isOver()) return undefined
  const clientLink = openClientLink(registry.options.hostPrefix + call.netns, call.ifname)
  closeClientLink(clientLink)
  const { identity, link } = handle.clientLink
  return identity === clientLink.identity &&
    link.index === clientLink.link.index &&
    link.address === clientLink.link.address
    ? handle
    : undefined
}

/** Something to hold with for a call, in the place of what is of no use any more. */
function open(registry: RegistryState, asked: Asked, family: Family): LeaseHandle {
  const { call, identifier, network, priority, spec } = asked
  const { options } = registry
  const clientLink = openClientLink(options.hostPrefix + call.netns, call.ifname)
  registry.handles.get(fileName(identifier, family.ending))?.close()
  const facts: Facts = {
    containerId: call.containerId,
    network,
    ifname: call.ifname,
    netns: call.netns,
    netnsIdentity: clientLink.identity,
    link: clientLink.link.index,
    hardware: clientLink.link.address,
    priority,
  }
  const own = family.describe(facts, spec, { clientLink, options })
  return enter(registry, { family, own }, setting => family.hold(clientLink, own, setting))
}

/** An unknown one was released before, or never allocated. */
function release(registry: RegistryState, call: Call): void {
  const json = parseConfiguration(call.stdin)
  const identifier = clientIdentifier(call.containerId, decodeBase(json).name, call.ifname)
  for (const { ending } of families) {
    const name = fileName(identifier, ending)
    registry.handles.get(name)?.release()
    registry.handles.delete(name)
    removeFile(`${registry.folder}/${name}`) // in most cases it is gone; what keeps it is the caller's to know
  }
  removeFile(`${registry.folder}/${fileName(identifier)}`)
}
