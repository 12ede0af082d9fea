/**
 * The bridge behind a plugin that made an interface: that one becomes the port, instead of a new veth pair. The interface
 * stays that plugin's, which deletes it.
 */
import { changeBridgePort, findLink, type Link, setLink } from '../../chain/linux/netlink/link.ts'
import { request, type Transport } from '../../chain/linux/netlink/socket.ts'
import { reversible, type Undo } from '../../chain/plugin/undo.ts'
import { CniError, code } from '../../chain/protocol/error.ts'
import type { Result } from '../../chain/protocol/result.ts'
import type { BridgeConfiguration } from './schema.ts'

/**
 * The name of the interface to attach: the last one on the host that prevResult lists, before the bridge if it lists that.
 * None with an IPAM plugin: addresses are the business of who made the interface. A bridge that made its port itself comes
 * before it in the result.
 */
export function namedInterface(
  config: BridgeConfiguration,
  previous: Result | undefined,
): string | undefined {
  if (!previous || config.ipam?.type) return undefined
  const own = previous.interfaces.findIndex(({ name, sandbox }) => name === config.bridge && !sandbox)
  const before = own < 0 ? previous.interfaces : previous.interfaces.slice(0, own)
  return before.findLast(({ sandbox }) => !sandbox)?.name
}

/** That interface, if the host has it and it can be a port. */
export function findInterface(
  host: Transport,
  config: BridgeConfiguration,
  previous: Result | undefined,
): Link | undefined {
  const name = namedInterface(config, previous)
  const link = name === undefined ? undefined : findLink(host, name)
  return link === undefined || link.kind === 'bridge' || link.loopback ? undefined : link
}

/** Makes an interface a port of the bridge, up, with its settings. */
export function attach(
  host: Transport,
  parts: { config: BridgeConfiguration; bridge: Link; link: Link; undo: Undo },
): void {
  const { config, bridge, link, undo } = parts
  if (link.master !== undefined && link.master !== bridge.index) {
    throw new CniError(code.internal, `${link.name} of prevResult is a port of another bridge already`, {
      details: `its master is ${findLink(host, link.master)?.name ?? link.master}, not ${bridge.name}`,
    })
  }
  if (link.master === undefined) {
    reversible(undo, `take ${link.name} off ${bridge.name}`, {
      forth: () => setLink(host, link.index, { master: bridge.index, up: true }),
      back: () => setLink(host, link.index, { master: 0, up: link.up }),
    })
  } else {
    undo(`restore ${link.name} as a port of ${bridge.name}`, () => restorePort(host, link))
    if (!link.up) setLink(host, link.index, { up: true })
  }
  request(host, changeBridgePort(link.index, { hairpin: config.hairpinMode, isolated: config.portIsolation }))
}

function restorePort(host: Transport, { index, port, up }: Link): void {
  setLink(host, index, { up })
  if (port) request(host, changeBridgePort(index, { hairpin: port.hairpin, isolated: port.isolated }))
}

/** Takes the interface off the bridge; who made it deletes it. */
export function detach(host: Transport, config: BridgeConfiguration, name: string): 'removed' | 'absent' {
  const bridge = findLink(host, config.bridge)
  const link = findLink(host, name)
  if (!bridge || link?.master !== bridge.index) return 'absent'
  setLink(host, link.index, { master: 0 })
  return 'removed'
}

/** The hardware address that frames from behind a foreign interface may carry: configured, or the container end's. */
export function guestAddress(
  config: BridgeConfiguration,
  previous: Result,
  configured: string | undefined,
): string {
  const mac = configured ?? previous.interfaces.findLast(({ sandbox, mac }) => sandbox && mac)?.mac
  if (mac || !config.macspoofchk) return mac ?? ''
  throw new CniError(
    code.invalidConfiguration,
    'macspoofchk: must be off where the hardware address behind the interface of prevResult is not known',
    { details: 'name it as runtimeConfig.mac, args.cni.mac or MAC in CNI_ARGS' },
  )
}
