/** The plugins of a network against one another: their order, what they are handed, and the version that they speak. */
import { isObject, lookup } from '../../protocol/configuration.ts'
import { compareVersions, supportedVersions } from '../../protocol/version.ts'
import type { Fault } from './fault.ts'
import { faultIn, type NetworkPlace, type PluginPlace } from './network.ts'
import { ipamTypeOf, type Plugins } from './plugin.ts'

const IPAM = ['host-local', 'static', 'dhcp']
/** They make the container's interface, and so cannot follow another that has. bridge and ipvlan can. */
const makers = ['ptp', 'macvlan', 'vlan', 'tap', 'dummy', 'host-device', 'bridge', 'ipvlan', 'flannel']
const chainable = ['bridge', 'ipvlan']

export interface Needs {
  /** Verbs that the runtime calls: CHECK, GC, STATUS. */
  verbs: readonly string[]
}

export function chainFaults(network: NetworkPlace, plugins: Plugins, { verbs }: Needs): Fault[] {
  return [
    ...orderFaults(network, plugins),
    ...network.plugins.flatMap(place => [
      ...pluginVersionFaults(network, place, plugins),
      ...handedFaults(place),
      ...effectFaults(place, network),
      ...sharedAddress(place),
    ]),
    ...verbFaults(network, verbs),
  ]
}

function orderFaults({ plugins: places }: NetworkPlace, plugins: Plugins): Fault[] {
  return places.flatMap((place, index): Fault[] => {
    const { document, path, type } = place
    const fault = faultIn(document, 'order')
    const at = [...path, 'type']
    const earlier = places.slice(0, index)
    if (IPAM.includes(type)) {
      const why = 'it gives addresses to a plugin that asks for them'
      return [
        fault(at, `${type} is no plugin of a list`, {
          why,
          write: `"ipam": { "type": "${type}" } in the plugin that makes the interface`,
        }),
      ]
    }
    if (plugins.get(type)?.chained && !earlier.some(each => !plugins.get(each.type)?.chained)) {
      const why = 'it works on the interface that a plugin before it has made'
      return [
        fault(at, `${type} has no plugin before it`, {
          why,
          write: `${type} after the plugin that makes the interface`,
        }),
      ]
    }
    const maker = earlier.find(each => makers.includes(each.type))
    if (maker && makers.includes(type) && !chainable.includes(type)) {
      const why = `both make the container’s interface, and ${maker.type} has made it`
      return [fault(at, `${type} after ${maker.type}`, { why, write: 'a network for each' })]
    }
    if (earlier.some(each => each.type === type) && plugins.get(type)?.chained)
      return [faultIn(document, 'order', 'warning')(at, `${type} is in the list twice`)]
    return []
  })
}

function pluginVersionFaults(
  { cniVersion, document }: NetworkPlace,
  { type }: PluginPlace,
  plugins: Plugins,
): Fault[] {
  const versions = plugins.get(type)?.versions
  if (!versions || versions.includes(cniVersion) || !supportedVersions.includes(cniVersion)) return []
  const fault = faultIn(document, 'version')
  const says = `${type} does not take version ${cniVersion}`
  return [
    fault(['cniVersion'], says, { why: `it takes ${versions.join(', ')}`, write: `"${versions.at(-1)}"` }),
  ]
}

/** Plugins that do nothing but what capability arguments tell them. */
const handed: Readonly<Record<string, { capability: string; unless: readonly string[]; why: string }>> = {
  portmap: {
    capability: 'portMappings',
    unless: [],
    why: 'without it no runtime tells which ports to publish, and none is',
  },
  bandwidth: {
    capability: 'bandwidth',
    unless: ['ingressRate', 'egressRate'],
    why: 'it has no rates either: nothing is limited',
  },
}

function handedFaults({ document, path, raw, type }: PluginPlace): Fault[] {
  const needs = Object.hasOwn(handed, type) ? handed[type] : undefined
  if (!needs || needs.unless.some(key => lookup(raw, key) !== undefined)) return []
  const capabilities = lookup(raw, 'capabilities')
  const { capability, why } = needs
  if (isObject(capabilities) && capabilities[capability] === true) return []
  const runtime = lookup(raw, 'runtimeConfig')
  if (isObject(runtime) && lookup(runtime, capability) !== undefined) return []
  const fault = faultIn(document, 'capability')
  const at = isObject(capabilities) ? [...path, 'capabilities'] : [...path, 'type']
  return [
    fault(at, `${type} without the capability ${capability}`, {
      why,
      write: `"capabilities": { "${capability}": true }`,
    }),
  ]
}

const isOn = ({ raw }: PluginPlace, key: string) => lookup(raw, key) === true
export const isGateway = (place: PluginPlace) => isOn(place, 'isGateway') || isOn(place, 'isDefaultGateway')

function effectFaults(place: PluginPlace, { plugins, cniVersion }: NetworkPlace): Fault[] {
  const { document, path, raw, type } = place
  const fault = faultIn(document, 'no-effect', 'warning')
  const faults: Fault[] = []
  const say = (key: string, says: string, more: { why: string; write?: string }) =>
    void faults.push(fault([...path, key], says, { at: 'key', ...more }))
  if (type === 'bridge') {
    if (isOn(place, 'ipMasq') && !isGateway(place) && ipamTypeOf(place) === 'host-local')
      say('ipMasq', 'ipMasq without isGateway', {
        why: 'the host is no router for these containers: there is nothing to masquerade',
        write: '"isGateway": true',
      })
    if (isOn(place, 'forceAddress') && !isGateway(place))
      say('forceAddress', 'forceAddress without isGateway', { why: 'the bridge gets no address at all' })
    if (isOn(place, 'isDefaultGateway') && ipamTypeOf(place) === undefined)
      say('isDefaultGateway', 'isDefaultGateway without ipam', {
        why: 'there are no addresses to be a gateway for',
      })
  }
  if (lookup(raw, 'ipMasqBackend') !== undefined && !isOn(place, 'ipMasq'))
    say('ipMasqBackend', 'ipMasqBackend without ipMasq', { why: 'nothing is masqueraded' })
  if (type === 'firewall') faults.push(...firewallFaults(place, plugins))
  if (
    type === 'host-device' &&
    !['device', 'hwaddr', 'kernelpath', 'pciBusID'].some(key => lookup(raw, key)) &&
    !hasCapability(place, 'deviceID')
  ) {
    const says = 'host-device without a device'
    const write = '"device": "…", or hwaddr, kernelpath, pciBusID, or the capability deviceID'
    faults.push(faultIn(document, 'value')([...path, 'type'], says, { write }))
  }
  if (type === 'tuning' && supportedVersions.includes(cniVersion) && compareVersions(cniVersion, '0.3.0') < 0)
    faults.push(
      faultIn(document, 'version-too-old', 'warning')(['cniVersion'], 'tuning before version 0.3.0', {
        why: 'results name no interfaces then',
      }),
    )
  return faults
}

const hasCapability = ({ raw }: PluginPlace, name: string) => {
  const capabilities = lookup(raw, 'capabilities')
  return isObject(capabilities) && capabilities[name] === true
}

/** They have no link on the host by which a container's packets could be told from others'. */
const hostless = ['macvlan', 'ipvlan', 'vlan', 'tap', 'dummy', 'host-device']

function firewallFaults({ document, path, raw }: PluginPlace, [first]: readonly PluginPlace[]): Fault[] {
  const backend = lookup(raw, 'backend') ?? ''
  if (!['', 'iptables', 'nftables', 'firewalld'].includes(String(backend))) {
    const fault = faultIn(document, 'value', 'warning')
    const write = '"iptables", "nftables" or "firewalld"'
    return [fault([...path, 'backend'], `backend: ${JSON.stringify(backend)} counts as none`, { write })]
  }
  const policy = lookup(raw, 'ingressPolicy')
  if (!first || (policy !== 'same-bridge' && policy !== 'isolated') || !hostless.includes(first.type))
    return []
  const fault = faultIn(document, 'order')
  const why = `${first.type} has no link on the host that leads to the container`
  return [fault([...path, 'ingressPolicy'], `ingressPolicy after ${first.type}`, { why, write: '"open"' })]
}

/** One hardware address in the file is every container's. */
function sharedAddress(place: PluginPlace): Fault[] {
  const { document, path, raw, type } = place
  const mac = lookup(raw, 'mac')
  if (!['macvlan', 'tap', 'tuning'].includes(type) || typeof mac !== 'string' || mac === '') return []
  const fault = faultIn(document, 'address', 'warning')
  const why = 'two containers with one address take frames from one another'
  return [
    fault([...path, 'mac'], 'every container gets this hardware address', {
      why,
      write: '"capabilities": { "mac": true }',
    }),
  ]
}

/** The first version that has a verb. */
const since: Readonly<Record<string, string>> = { CHECK: '0.4.0', GC: '1.1.0', STATUS: '1.1.0' }

function verbFaults({ document, cniVersion, isList }: NetworkPlace, verbs: readonly string[]): Fault[] {
  if (!supportedVersions.includes(cniVersion)) return []
  const value = isObject(document.value) ? document.value : {}
  const isBefore = (verb: string) => compareVersions(cniVersion, since[verb] ?? '0.1.0') < 0
  const asked = verbs.filter(isBefore).map(verb => {
    const says = `version ${cniVersion} has no ${verb}`
    const why = 'the runtime never calls it for this network'
    return faultIn(document, 'version-too-old')(['cniVersion'], says, { why, write: `"${since[verb]}"` })
  })
  const flags = isList
    ? ([
        ['disableCheck', 'CHECK'],
        ['disableGC', 'GC'],
      ] as const)
    : []
  const disabled = flags.flatMap(([key, verb]) => {
    if (value[key] === undefined || !isBefore(verb)) return []
    const says = `${key}, and version ${cniVersion} has no ${verb} yet`
    return [
      faultIn(document, 'version-too-old', 'warning')([key], says, {
        at: 'key',
        why: `${verb} came with ${since[verb]}`,
        write: `"cniVersion": "${since[verb]}"`,
      }),
    ]
  })
  return [...asked, ...disabled]
}
