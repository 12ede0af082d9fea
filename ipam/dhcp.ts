/** dhcp: IPAM by the DHCP servers and IPv6 routers of the network that a container is connected to. A thin plugin: `dhcp daemon` keeps the leases. */

import { isIpv6 } from '../chain/ip/family.ts'
import { ensureFolder, listFolder, readState, removeFile, writeAtomically } from '../chain/linux/files.ts'
import { readLink } from '../chain/linux/libc/folder.ts'
import {
  type AddRequest,
  type AttachmentRequest,
  type BaseRequest,
  definePlugin,
  readablePrevious,
} from '../chain/plugin/define.ts'
import { exitWith, main } from '../chain/plugin/run.ts'
import { everyStep } from '../chain/plugin/undo.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import type { Result } from '../chain/protocol/result.ts'
import { configuration } from './dhcp/checks.ts'
import { clientIdentifier, clientOptions, type FamilySpec, familySpec } from './dhcp/configuration.ts'
import {
  DEFAULT_SOCKET,
  decodeOwner,
  encodeNote,
  fileName,
  isLeaseFile,
  type ReleaseNote,
  stateFolder,
} from './dhcp/daemon/state.ts'
import {
  asCniError,
  callDaemon,
  greetDaemon,
  type Method,
  NoDaemonError,
  RefusedError,
  UnansweredError,
} from './dhcp/rpc/dial.ts'
import type { Call } from './dhcp/rpc/wire.ts'
import type { Configuration } from './dhcp/schema.ts'

export const dhcp = definePlugin({
  name: 'dhcp',
  waitsForOthers: true,
  config: configuration,

  examine(config) {
    clientOptions(config, '')
    familySpec(config)
  },

  async add(request) {
    clientOptions(request.config, request.args) // what is wrong with it is said before anybody is asked
    const families = familySpec(request.config)
    const result = await allocate(request)
    const complaint = complaintAbout(result, families)
    if (complaint === undefined) return result
    throw complaint
  },

  async check(request) {
    const previous = readablePrevious(request)
    const leased = await askForOwn(request)
    const had = previous?.ips.map(({ address }) => address)
    if (had === undefined || leased.ips.every(({ address }) => had.includes(address))) return
    const addresses = leased.ips.map(({ address }) => address).join(', ')
    throw new CniError(code.internal, `the DHCP lease is for ${addresses}, which prevResult does not have`, {
      details: `prevResult has ${had.join(', ') || 'no addresses'}`,
    })
  },

  async del(request) {
    const { attachment } = request
    await releaseOrNote(request, { ...attachment, ifname: attachment.ifname })
  },

  async status({ config }) {
    try {
      await greetDaemon(socketOf(config))
    } catch (thrown) {
      const { message, details } = asCniError(thrown, 'DHCP.Allocate') as CniError
      throw new CniError(code.pluginNotAvailable, message, { details, cause: thrown })
    }
  },

  /** The daemon's files say which leases there are; those of this network that no valid attachment has are released. */
  async gc(request) {
    const folder = stateFolder(socketOf(request.config))
    const owners = (listFolder(folder) ?? [])
      .filter(isLeaseFile)
      .map(name => decodeOwner(readState(`${folder}/${name}`) ?? ''))
    const stale = owners
      .filter(owner => owner !== undefined)
      .filter(
        ({ network, containerId, ifname }) =>
          network === request.network &&
          !request.valid.some(valid => valid.containerId === containerId && valid.ifname === ifname),
      )
    await everyStep(
      Object.fromEntries(
        stale.map(owner => [
          `release the lease of ${owner.containerId} on ${owner.ifname}`, // once, also of two families
          () => releaseOrNote(request, owner),
        ]),
      ),
    )
  },
})

/** A daemon that knows nothing of families gives IPv4, whatever it is asked for. */
function complaintAbout({ ips }: Result, { ipv4, ipv6 }: FamilySpec): CniError | undefined {
  if (!ipv6) return undefined
  const given4 = ips.some(({ address }) => !isIpv6(address))
  const given6 = ips.some(({ address }) => isIpv6(address))
  if (given4 === ipv4 && given6) return undefined
  const message = given6
    ? `ipam.ipv4: the DHCP daemon gave ${given4 ? 'an address that was not asked for' : 'no address'}`
    : 'ipam.ipv6: the DHCP daemon gave no IPv6 address'
  return new CniError(code.internal, message, {
    details: 'is it the daemon of another implementation? this one knows ipam.ipv4 and ipam.ipv6',
  })
}

function socketOf({ ipam }: Configuration): string {
  return ipam.daemonSocketPath || DEFAULT_SOCKET
}

/** Takes a lease. Without an answer it is unknown whether there is one: it is given back as well. */
async function allocate(request: AddRequest<Configuration>): Promise<Result> {
  const { attachment, undo } = request
  const willGiveBack = () =>
    undo('give the lease back', () => releaseOrNote(request, { ...attachment, ifname: attachment.ifname }))
  try {
    const result = await ask(request, 'DHCP.Allocate')
    willGiveBack()
    return result
  } catch (thrown) {
    if ((thrown as CniError).cause instanceof UnansweredError) willGiveBack()
    throw thrown
  }
}

async function ask(
  request: AttachmentRequest<Configuration> & { netns: string },
  method: Method,
): Promise<Result> {
  try {
    return await callDaemon(socketOf(request.config), method, callOf(request, request.netns))
  } catch (thrown) {
    throw asCniError(thrown, method)
  }
}

/** A Go daemon cannot check: it is asked for the lease, which it has unless it was restarted. */
async function askForOwn(request: AttachmentRequest<Configuration> & { netns: string }): Promise<Result> {
  try {
    return await ask(request, 'DHCP.Check')
  } catch (thrown) {
    const { cause } = thrown as CniError
    if (cause instanceof RefusedError && cause.message.includes("can't find method"))
      return ask(request, 'DHCP.Allocate')
    throw thrown
  }
}

function callOf({ attachment, args, path, stdin }: AttachmentRequest<Configuration>, netns: string): Call {
  const { containerId, ifname } = attachment
  return { containerId, ifname, args, path: path.join(':'), netns: absolute(netns), stdin }
}

/** The daemon has another working folder. */
function absolute(path: string): string {
  return path === '' || path.startsWith('/') ? path : `${readLink('/proc/self/cwd')}/${path}`
}

/**
 * Releases a lease; where there is no daemon, a note tells the next one to. One that is there and does not answer keeps the lease,
 * and the address is not free. Between the note and its folder's being read, a
 * daemon may start: so it is tried once more after the note.
 */
async function releaseOrNote(request: BaseRequest<Configuration>, of: ReleaseNote): Promise<void> {
  const { network, containerId, ifname } = of
  const socket = socketOf(request.config)
  const stdin = JSON.stringify({ cniVersion: request.cniVersion, name: network, ipam: request.config.ipam })
  const release = () =>
    callDaemon(socket, 'DHCP.Release', {
      containerId,
      netns: '',
      ifname,
      args: '',
      path: request.path.join(':'),
      stdin,
    })
  let silent: unknown
  try {
    await release()
    return
  } catch (thrown) {
    if (!(thrown instanceof NoDaemonError)) throw asCniError(thrown, 'DHCP.Release')
    if (thrown.isThere) silent = asCniError(thrown, 'DHCP.Release')
  }
  const folder = stateFolder(socket)
  const path = `${folder}/${fileName(clientIdentifier(containerId, network, ifname))}`
  ensureFolder(folder, 0o700)
  writeAtomically(path, encodeNote({ network, containerId, ifname }))
  if (silent) throw silent
  try {
    await release()
    removeFile(path)
  } catch (thrown) {
    if (!(thrown instanceof NoDaemonError) || thrown.isThere) throw asCniError(thrown, 'DHCP.Release')
  }
}

/** The process that keeps the leases is another program in the same file: `dhcp daemon`. */
async function daemon(args: readonly string[]): Promise<number> {
  return (await import('./dhcp/daemon/main.ts')).startDaemon(args)
}

if (import.meta.main) process.argv[2] === 'daemon' ? exitWith(daemon(process.argv.slice(3))) : main(dhcp)
