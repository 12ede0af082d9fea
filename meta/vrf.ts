/** vrf: puts a container's interface into a routing domain of its own, with its addresses and routes. */
import {
  differs,
  mustFind,
  onHost,
  openContainer,
  openContainerIfPresent,
} from '../chain/interface/configure.ts'
import { explained } from '../chain/interface/master.ts'
import { otherOwner, sayLeft } from '../chain/interface/owner.ts'
import { freeTables, tablesOf } from '../chain/interface/routing-table.ts'
import {
  createLink,
  findLink,
  type Link,
  listLinks,
  removeLink,
  setLink,
} from '../chain/linux/netlink/link.ts'
import { MAIN_TABLE } from '../chain/linux/netlink/route.ts'
import type { Transport } from '../chain/linux/netlink/socket.ts'
import { type AddRequest, type Attachment, definePlugin } from '../chain/plugin/define.ts'
import { requireKernel } from '../chain/plugin/probe.ts'
import { main } from '../chain/plugin/run.ts'
import { everyStep, reversible } from '../chain/plugin/undo.ts'
import { checkInterfaceName } from '../chain/protocol/environment.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import { configuration } from './vrf/checks.ts'
import { changeMaster, noteWhatIsLost, openRouteEvents } from './vrf/master.ts'
import type { Configuration } from './vrf/schema.ts'

export const vrf = definePlugin({
  name: 'vrf',
  chained: true,
  versions: ['0.3.1', '0.4.0', '1.0.0', '1.1.0'],
  config: configuration,

  examine: config => checkName(config),

  async add(request) {
    const { attachment, config, netns, previous, undo, keep } = request
    checkName(config, attachment)
    await request.alone(tablesOf(netns))
    const container = keep(openContainer(netns))
    const link = linkNamed(container, attachment.ifname, netns)
    const domain = ensureVrf(request, container)
    if (link.master !== undefined && link.master !== domain.index) {
      const master = findLink(container, link.master)?.name ?? link.master
      throw new CniError(code.internal, `interface ${link.name} has already a master set: ${master}`)
    }
    if (link.master === domain.index) return previous
    const lost = noteWhatIsLost(container, link.index)
    const sockets = { container, events: keep(openRouteEvents(netns)) }
    undo(`take ${link.name} out of ${domain.name}`, () =>
      changeMaster(sockets, link, { master: 0, table: MAIN_TABLE, lost }),
    )
    changeMaster(sockets, link, { master: domain.index, table: domain.data.table ?? MAIN_TABLE, lost })
    return previous
  },

  check({ attachment, config, netns }) {
    checkName(config, attachment)
    using container = openContainer(netns)
    const domain = findLink(container, config.vrfname)
    if (!domain) throw differs(`Link not found: VRF ${config.vrfname} is gone`, netns)
    checkVrf(domain, config)
    const link = linkNamed(container, attachment.ifname, netns)
    if (link.master !== domain.index)
      throw differs(`failed to find ${link.name} associated to vrf ${domain.name}`, netns)
    if (!domain.up) throw differs(`VRF ${domain.name} is down`, netns)
  },

  async del({ attachment, config, netns, io, alone }) {
    if (netns) await alone(tablesOf(netns))
    using container = openContainerIfPresent(netns)
    if (!container) return
    const domain = listLinks(container, { kind: 'vrf' }).find(({ name }) => name === config.vrfname)
    if (!domain) return
    const members = listLinks(container, { master: domain.index })
    const own = members.find(({ name }) => name === attachment.ifname)
    const other = own && onHost(host => otherOwner({ attachment, netns }, { host, container }, own))
    if (other !== undefined)
      return sayLeft(io, `${attachment.ifname} in VRF ${domain.name} of ${netns}`, other)
    const others = members.filter(link => link !== own)
    await everyStep({
      [`take ${attachment.ifname} out of ${domain.name}`]: () =>
        own && setLink(container, own.index, { master: 0 }),
      [`delete VRF ${domain.name}`]: () =>
        others.length === 0 ? removeLink(container, domain.index) : 'absent',
    })
  },

  status() {
    requireKernel('VRF devices (CONFIG_NET_VRF)', route =>
      createLink(route, { name: 'trial', kind: { type: 'vrf', table: 1 } }),
    )
  },
})

/** Code 7, with the key, for a name that no link can have. */
function checkName({ vrfname }: Configuration, attachment?: Attachment): void {
  const refuse = (reason: string): never => {
    throw new CniError(
      code.invalidConfiguration,
      `vrfname: configuration is expected to have a valid vrf name, because ${reason}: got ${JSON.stringify(vrfname)}`,
    )
  }
  if (vrfname === '') refuse('the VRF is a link')
  if (vrfname === attachment?.ifname) refuse('it is the name of the interface that goes into the VRF')
  try {
    checkInterfaceName(vrfname)
  } catch (thrown) {
    refuse(thrown instanceof CniError ? thrown.message : String(thrown))
  }
}

function linkNamed(container: Transport, name: string, netns: string): Link {
  return mustFind(container, name, {
    message: `could not get link by name ${name}: there is no such interface in ${netns}`,
    details: 'vrf comes after the plugin that makes the interface',
  })
}

/** Throws when a link is no VRF, or one with another table than is asked for. */
function checkVrf({ data, kind, name }: Link, { table }: Configuration): void {
  if (kind !== 'vrf')
    throw new CniError(code.internal, `Netlink ${name} is not a VRF: it is a ${kind ?? 'device'}`)
  if (!table || table === data.table) return
  throw new CniError(
    code.internal,
    `VRF ${name} already exist with different routing table ${data.table}, not ${table}`,
  )
}

/** The VRF, up: the one that is there, or a new one. */
function ensureVrf({ config, netns, undo }: AddRequest<Configuration>, container: Transport): Link {
  const { vrfname: name, table } = config
  const found = findLink(container, name)
  if (found) {
    checkVrf(found, config)
    if (!found.up) setLink(container, found.index, { up: true })
    return found
  }
  const kind = { type: 'vrf', table: table || chooseTable(container) } as const
  reversible(undo, `delete VRF ${name}`, {
    forth: () => explained('vrf', () => createLink(container, { name, up: true, kind })),
    back: () => removeLink(container, name),
  })
  return linkNamed(container, name, netns)
}

function chooseTable(container: Transport): number {
  const taken = listLinks(container, { kind: 'vrf' }).map(({ data }) => data.table)
  return freeTables(container, { first: 1, taken }).next().value
}

if (import.meta.main) main(vrf)
