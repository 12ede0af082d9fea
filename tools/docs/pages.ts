/** The pages of all plugins, by type. */

import type { Page } from './page.ts'
import { page as bandwidth } from './plugins/bandwidth.ts'
import { page as bridge } from './plugins/bridge.ts'
import { page as dhcp } from './plugins/dhcp.ts'
import { page as dummy } from './plugins/dummy.ts'
import { page as firewall } from './plugins/firewall.ts'
import { page as flannel } from './plugins/flannel.ts'
import { page as hostDevice } from './plugins/host-device.ts'
import { page as hostLocal } from './plugins/host-local.ts'
import { page as ipvlan } from './plugins/ipvlan.ts'
import { page as loopback } from './plugins/loopback.ts'
import { page as macvlan } from './plugins/macvlan.ts'
import { page as portmap } from './plugins/portmap.ts'
import { page as ptp } from './plugins/ptp.ts'
import { page as sbr } from './plugins/sbr.ts'
import { page as staticAddresses } from './plugins/static.ts'
import { page as tap } from './plugins/tap.ts'
import { page as tuning } from './plugins/tuning.ts'
import { page as vlan } from './plugins/vlan.ts'
import { page as vrf } from './plugins/vrf.ts'

export const pages: Readonly<Record<string, Page>> = {
  bandwidth,
  bridge,
  dhcp,
  dummy,
  firewall,
  flannel,
  'host-device': hostDevice,
  'host-local': hostLocal,
  ipvlan,
  loopback,
  macvlan,
  portmap,
  ptp,
  sbr,
  static: staticAddresses,
  tap,
  tuning,
  vlan,
  vrf,
}
