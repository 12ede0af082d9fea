/** Files that the executable carries: examples of networks, and systemd's units for the daemon of dhcp, the warm service and `reconcile`. */
import service from '../../ipam/dhcp/daemon/cni-dhcp.service' with { type: 'text' }
import socket from '../../ipam/dhcp/daemon/cni-dhcp.socket' with { type: 'text' }
import warmService from '../service/catena-warm.service' with { type: 'text' }
import warmSocket from '../service/catena-warm.socket' with { type: 'text' }
import bridge from './examples/bridge.conflist' with { type: 'text' }
import dualStack from './examples/dual-stack.conflist' with { type: 'text' }
import loopback from './examples/loopback.conflist' with { type: 'text' }
import macvlanDhcp from './examples/macvlan-dhcp.conflist' with { type: 'text' }
import ptp from './examples/ptp.conflist' with { type: 'text' }
import reconcileService from './reconcile/catena-reconcile.service' with { type: 'text' }
import reconcileTimer from './reconcile/catena-reconcile.timer' with { type: 'text' }

/** Network configurations by the name of their network. */
export const examples: Readonly<Record<string, string>> = {
  bridge,
  'dual-stack': dualStack,
  ptp,
  'macvlan-dhcp': macvlanDhcp,
  loopback,
}

/** Where the units look for plugins as they stand in the source. */
const USUAL_FOLDER = '/opt/cni/bin'

/** The units by their file names, for plugins in a folder: systemd knows programs by their whole path alone. */
export function unitsFor(folder: string): Record<string, string> {
  const moved = (text: string) => text.replaceAll(`${USUAL_FOLDER}/`, `${folder}/`)
  return {
    'cni-dhcp.service': moved(service),
    'cni-dhcp.socket': moved(socket),
    'catena-warm.service': moved(warmService),
    'catena-warm.socket': warmSocket,
    'catena-reconcile.service': moved(reconcileService),
    'catena-reconcile.timer': reconcileTimer,
  }
}
