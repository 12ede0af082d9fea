/** host-local's configuration, and what follows from it. DEL and GC need the folder alone, and take any other nonsense. */
import type { z } from 'zod/mini'
import { parseAddress, parseCidr } from '../../chain/ip/address.ts'
import { fileNameFor, readFile } from '../../chain/linux/files.ts'
import type { AttachmentRequest, BaseRequest } from '../../chain/plugin/define.ts'
import { isStateFolder } from '../../chain/plugin/state.ts'
import { decode } from '../../chain/protocol/checks.ts'
import { type JsonObject, lookup } from '../../chain/protocol/configuration.ts'
import { parseArguments } from '../../chain/protocol/environment.ts'
import { CniError, code, toCniError } from '../../chain/protocol/error.ts'
import type { Dns } from '../../chain/protocol/result.ts'
import { compareVersions } from '../../chain/protocol/version.ts'
import { configuration } from './checks.ts'
import { parseRangeSets, type RangeSet, type Requested, sourcesAt } from './ranges.ts'
import { parseResolvConf } from './resolv.ts'
import type { anyConfiguration, Configuration } from './schema.ts'

/** A request of whatever verb. */
export type Given = BaseRequest<z.infer<typeof anyConfiguration>>

/** The whole configuration. Code 7 for what it must not be. */
export function configurationOf({ config }: Pick<Given, 'config'>): Configuration | Promise<Configuration> {
  return decode(configuration, config)
}

const DATA_DIR = '/var/lib/cni/networks' // the Go plugin's

/** `<dataDir>/<network>`, whatever the rest of the configuration is. */
export function folderOf({ config, network }: Given): string {
  const { ipam } = config
  const given = typeof ipam === 'object' && ipam !== null ? lookup(ipam as JsonObject, 'dataDir') : undefined
  return `${(typeof given === 'string' && isStateFolder(given) && given) || DATA_DIR}/${fileNameFor(network)}`
}

/** All range sets in the order of the result: the runtime's, the single range of old configurations, `ranges`. */
export function rangeSetsOf({ ipam, runtimeConfig }: Configuration, cniVersion: string): RangeSet[] {
  const { subnet, rangeStart, rangeEnd, gateway } = ipam
  const single = { path: 'ipam', range: { subnet, rangeStart, rangeEnd, gateway } }
  const sets = parseRangeSets([
    ...sourcesAt('runtimeConfig.ipRanges', runtimeConfig?.ipRanges),
    ...(subnet === undefined ? [] : [{ path: 'ipam', ranges: [single] }]),
    ...sourcesAt('ipam.ranges', ipam.ranges),
  ])
  for (const family of [4, 6] as const) {
    const count = sets.filter(set => set[0]?.start.family === family).length
    if (count > 1 && compareVersions(cniVersion, '0.3.0') < 0) {
      throw new CniError(
        code.invalidConfiguration,
        `ipam.ranges: CNI version ${cniVersion} does not support more than 1 address per family`,
      )
    }
  }
  return sets
}

/** The range sets, of which ADD and CHECK need one at least. */
export function requireRangeSets(config: Configuration, cniVersion: string): RangeSet[] {
  const sets = rangeSetsOf(config, cniVersion)
  if (sets.length > 0) return sets
  throw new CniError(code.invalidConfiguration, 'ipam.ranges: no IP ranges specified')
}

/** Addresses that were asked for in any of the three places; a prefix length is passed over. */
export function requestedAddresses(
  { args, runtimeConfig }: Configuration,
  { args: text }: Pick<AttachmentRequest<unknown>, 'args'>,
): Requested[] {
  const { IP } = parseArguments(text, ['IP'])
  return [
    ...(IP ? [parseRequested(IP, 'CNI_ARGS: IP', `error parsing value of pair "IP=${IP}": `)] : []),
    ...(args?.cni?.ips ?? []).map((each, index) => parseRequested(each, `args.cni.ips[${index}]`)),
    ...(runtimeConfig?.ips ?? []).map((each, index) => parseRequested(each, `runtimeConfig.ips[${index}]`)),
  ]
}

function parseRequested(text: string, path: string, phrase = ''): Requested {
  const address = text.includes('/') ? parseCidr(text)?.address : parseAddress(text)
  if (address) return { ...address, path }
  throw new CniError(code.invalidConfiguration, `${path}: ${phrase}invalid IP address ${text}`)
}

export function dnsOf({ ipam: { resolvConf } }: Configuration): Dns {
  if (!resolvConf) return {}
  const refuse = (reason: string, cause?: unknown) =>
    new CniError(code.invalidConfiguration, `ipam.resolvConf: open ${resolvConf}: ${reason}`, {
      cause,
    })
  let text: string | undefined
  try {
    text = readFile(resolvConf)
  } catch (thrown) {
    throw refuse(toCniError(thrown).message, thrown)
  }
  if (text === undefined) throw refuse('no such file or directory')
  return parseResolvConf(text)
}
