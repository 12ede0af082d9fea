/** static: hands out the addresses that its configuration, or whoever adds the container, names. Keeps nothing. */
import {
  type Address,
  type Cidr,
  contains,
  formatAddress,
  formatCidr,
  isUnspecified,
  parseAddress,
  parseCidr,
  sameAddress,
} from '../chain/ip/address.ts'
import { configuredDns, configuredRoutes } from '../chain/plugin/configured.ts'
import { type BaseRequest, definePlugin, requirePrevious } from '../chain/plugin/define.ts'
import { main } from '../chain/plugin/run.ts'
import { decode } from '../chain/protocol/checks.ts'
import { parseArguments } from '../chain/protocol/environment.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import type { IpConfig } from '../chain/protocol/result.ts'
import { compareVersions } from '../chain/protocol/version.ts'
import { anyConfiguration, configuration } from './static/checks.ts'
import type { Configuration } from './static/schema.ts'

interface Assigned {
  cidr: Cidr
  gateway?: Address
}

export const staticAddresses = definePlugin({
  name: 'static',
  stateless: true,
  config: anyConfiguration,
  strict: configuration,

  async examine(config, cniVersion) {
    addressesOf({ cniVersion, args: '' }, await decode(configuration, config))
  },

  async add(request) {
    const config = await decode(configuration, request.config)
    const { ipam } = config
    return {
      interfaces: [],
      ips: addressesOf(request, config).map(ipOf),
      routes: configuredRoutes(ipam.routes),
      dns: configuredDns(ipam.dns) ?? {},
    }
  },

  async check(request) {
    const { ips: present } = requirePrevious(request.previous, 'static')
    for (const { cidr, gateway } of addressesOf(request, await decode(configuration, request.config))) {
      if (!gateway || isUnspecified(gateway)) continue
      const same = present.filter(({ address }) => {
        const parsed = parseCidr(address)
        return parsed !== undefined && sameAddress(parsed.address, cidr.address)
      })
      const [found] = same
      if (!found || same.some(each => each.gateway === formatAddress(gateway))) continue
      throw new CniError(
        code.internal,
        `static: Failed to match addr ${formatAddress(cidr.address)} on interface ${request.attachment.ifname}: its gateway in prevResult is ${found.gateway ?? 'none'}, configured is ${formatAddress(gateway)}`,
        { details: 'the configuration was changed after ADD; the container has to be added again' },
      )
    }
  },

  del() {},
})

/**
 * Configured ones and those of CNI_ARGS beside them; `args.cni.ips` instead of all that, and `runtimeConfig.ips` instead of
 * everything: the Go plugin's precedence. Configured ones that are replaced may be anything.
 */
function addressesOf(
  { args, cniVersion }: Pick<BaseRequest<unknown>, 'cniVersion'> & { args: string },
  { ipam, args: cniArgs, runtimeConfig }: Configuration,
): Assigned[] {
  const fromArguments = argumentAddresses(args)
  const fromArgs = listed(cniArgs?.cni?.ips, 'args.cni.ips')
  const fromRuntime = listed(runtimeConfig?.ips, 'runtimeConfig.ips')
  const addresses = fromRuntime ?? fromArgs ?? [...ipam.addresses.map(configured), ...fromArguments]
  refuseTwoOfAFamily(addresses, cniVersion)
  return addresses
}

/** The addresses of a list; undefined when it names none. */
function listed(texts: readonly string[] = [], path: string): Assigned[] | undefined {
  if (texts.length === 0) return undefined
  const phrase = "an entry in the 'ips' field is NOT in CIDR notation"
  return texts.map((text, index) => ({ cidr: mustBeCidr(text, `${path}[${index}]`, phrase) }))
}

function configured(
  { address, gateway }: { address: string; gateway?: string | undefined },
  index: number,
): Assigned {
  const path = `ipam.addresses[${index}]`
  const parsed = gateway ? parseGateway(gateway, `${path}.gateway`) : undefined
  const phrase = "the 'address' field is expected to be in CIDR notation"
  return { cidr: mustBeCidr(address, `${path}.address`, phrase), ...(parsed ? { gateway: parsed } : {}) }
}

function argumentAddresses(args: string): Assigned[] {
  const { IP = '', GATEWAY = '' } = parseArguments(args, ['IP', 'GATEWAY'])
  const split = (text: string) => (text === '' ? [] : text.split(',').map(each => each.trim()))
  const gateways = split(GATEWAY).map(text => parseGateway(text, 'CNI_ARGS: GATEWAY'))
  return split(IP).map(text => {
    const cidr = mustBeCidr(text, 'CNI_ARGS: IP', "the 'ip' field is expected to be in CIDR notation")
    const gateway = gateways.findLast(each => contains(cidr, each))
    return { cidr, ...(gateway ? { gateway } : {}) }
  })
}

/** `phrase`: the Go plugin's about each place. */
function mustBeCidr(text: string, path: string, phrase: string): Cidr {
  const cidr = parseCidr(text)
  if (cidr) return cidr
  throw new CniError(code.invalidConfiguration, `${path}: ${phrase}, got: '${text}'`, {
    details: 'an address with its prefix length, such as 10.1.0.5/16',
  })
}

function parseGateway(text: string, path: string): Address {
  const gateway = parseAddress(text)
  if (gateway) return gateway
  throw new CniError(
    code.invalidConfiguration,
    `${path}: invalid gateway address: ${text}: invalid IP address: ${text}`,
  )
}

function refuseTwoOfAFamily(addresses: readonly Assigned[], cniVersion: string): void {
  if (compareVersions(cniVersion, '0.3.0') >= 0) return
  for (const family of [4, 6]) {
    if (addresses.filter(({ cidr }) => cidr.address.family === family).length < 2) continue
    throw new CniError(
      code.invalidConfiguration,
      `ipam.addresses: CNI version ${cniVersion} does not support more than 1 address per family`,
    )
  }
}

function ipOf({ cidr, gateway }: Assigned): IpConfig {
  return { address: formatCidr(cidr), ...(gateway ? { gateway: formatAddress(gateway) } : {}) }
}

if (import.meta.main) main(staticAddresses)
