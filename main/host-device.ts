/** host-device: gives a container a network device of the host, and takes it back. */

import {
  checkInterface,
  configureInterface,
  findOwnInterface,
  onHost,
  openContainer,
  openContainerIfPresent,
} from '../chain/interface/configure.ts'
import { placeOn } from '../chain/interface/finish.ts'
import {
  type LentDevice,
  lentDevice,
  otherOwner,
  recordInterface,
  releaseInterface,
  sayLeft,
  staleLoans,
} from '../chain/interface/owner.ts'
import { findLink, type Link, setLink } from '../chain/linux/netlink/link.ts'
import { openRoute, type Transport } from '../chain/linux/netlink/socket.ts'
import { configuredDns } from '../chain/plugin/configured.ts'
import { type AddRequest, type DelRequest, definePlugin, requirePrevious } from '../chain/plugin/define.ts'
import { main } from '../chain/plugin/run.ts'
import { everyStep } from '../chain/plugin/undo.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import type { Result } from '../chain/protocol/result.ts'
import { configuration } from './host-device/checks.ts'
import {
  findDevice,
  findReturned,
  isSelectedElsewhere,
  refuseMeaningless,
  selectionOf,
} from './host-device/device.ts'
import { identityOf, isLent, moveBack, moveIn, renameReturned, requireFreeName } from './host-device/move.ts'
import type { Configuration } from './host-device/schema.ts'

export const hostDevice = definePlugin({
  name: 'host-device',
  ipam: 'optional',
  config: configuration,

  examine: refuseMeaningless,

  async add(request) {
    const { config, attachment, netns, keep } = request
    openContainer(netns).close() // says what is wrong with the path before anything is moved
    const selection = selectionOf(config)
    const place = { name: attachment.ifname, sandbox: netns }
    if (selection.dpdk) return withDns(placeOn(await request.ipam.add(request.undo), place), request)
    const host = keep(openRoute())
    takeIn(host, request, findDevice(host, selection))
    const result = placeOn(await request.ipam.add(request.undo), place)
    const link = configureInterface({ netns, name: attachment.ifname, result })
    return withDns(placeOn(result, { ...place, mac: link.address }), request)
  },

  async check({ config, attachment, netns, previous, ipam }) {
    const selection = selectionOf(config)
    await ipam.check()
    const result = requirePrevious(previous, 'host-device')
    const name = attachment.ifname
    findOwnInterface(result, { netns, name })
    if (selection.dpdk) return
    const link = checkInterface({ netns, name, previous })
    const lent = lentDevice(attachment)
    if (lent && !isLent(link, lent))
      throw new CniError(code.internal, `interface ${name} is not ${lent.name}, which the host lent`, {
        details: `it is a ${link.kind ?? 'device'} with index ${link.index}: the container has made it`,
      })
    if (link.alias && (selection.by !== 'device' || link.alias === selection.value)) return
    const expected = selection.by === 'device' ? selection.value : 'a device of the host'
    throw new CniError(
      code.internal,
      `interface ${name} is not ${expected}: its alias is "${link.alias ?? ''}"`,
      {
        details: 'the alias holds the name that the device has on the host, and DEL needs it',
      },
    )
  },

  async del(request) {
    const { attachment, ipam } = request
    const name = attachment.ifname
    await everyStep({
      // while the interface is there: a DHCP lease is given back through it
      'release the addresses': () => ipam.remove(),
      [`bring ${name} back to the host`]: () => bringBack(request),
    })
  },

  async status({ ipam }) {
    await ipam.status()
  },

  async gc({ network, valid, ipam }) {
    const loans = staleLoans(network, valid)
    await everyStep({
      ...Object.fromEntries(
        loans.map((loan, index) => [
          `bring ${loan.device.name} back to the host (${index + 1} of ${loans.length})`,
          () => endLoan(loan),
        ]),
      ),
      'release stale addresses': () => ipam.gc(),
    })
  },
})

function takeIn(host: Transport, { attachment, netns, undo }: AddRequest<Configuration>, device: Link): void {
  const place = { netns, name: attachment.ifname }
  requireFreeName(place)
  let lent = identityOf(device)
  undo(`forget that ${device.name} is lent`, () => releaseInterface(attachment))
  recordInterface(attachment, { netns, index: lent.index, device: lent })
  // Before the move: it can end half done, with the device in the container under its old name.
  undo(`bring ${device.name} back to the host`, () => {
    moveBack(netns, lent)
    setLink(host, device.name, { alias: device.alias ?? '', up: device.up })
  })
  const arrived = moveIn(host, device, place)
  if (arrived.index === lent.index) return
  lent = identityOf(arrived)
  recordInterface(attachment, { netns, index: lent.index, device: lent })
}

function withDns(result: Result, { config, ipam }: AddRequest<Configuration>): Result {
  return ipam.type ? { ...result, dns: configuredDns(config.dns) ?? {} } : result
}

/** The same for who is dead, but whose namespace may be another's by now. */
function endLoan({ netns, device, forget }: ReturnType<typeof staleLoans>[number]): void {
  if (moveBack(netns, device, 'by its alias too') === 'absent')
    onHost(host => renameReturned(host, { name: device.name, device }))
  forget()
}

/** Brings home what ADD lent; where the kernel has sent it home already it gets its name back. */
function bringBack({ attachment, config, netns, io }: DelRequest<Configuration>): void {
  const name = attachment.ifname
  const device = lentDevice(attachment) ?? unrecorded({ attachment, config, netns, io })
  if (device && moveBack(netns, device) === 'absent') onHost(host => renameReturned(host, { name, device }))
  releaseInterface(attachment)
}

/**
 * What the Go plugin moved, or an earlier version of this one: only the alias tells its name, and the container may have written
 * it. So it counts where it says no more than the configuration does.
 */
function unrecorded(
  request: Pick<DelRequest<Configuration>, 'attachment' | 'config' | 'netns' | 'io'>,
): LentDevice | undefined {
  const { attachment, config, netns, io } = request
  const selection = selectionIfThere(config)
  using container = openContainerIfPresent(netns)
  const link = container && findLink(container, attachment.ifname)
  if (!container || !link) return selection && onHost(host => findReturned(host, attachment, selection))
  const other = onHost(host => otherOwner(request, { host, container }, link))
  if (other !== undefined) return void sayLeft(io, `${link.name} in ${netns}`, other)
  if (!link.alias || !selection) return undefined
  if (isSelectedElsewhere(selection, link)) return { ...identityOf(link), name: link.alias }
  io.stderr(
    `${link.name} in ${netns} is left alone: its alias says that it was ${link.alias}, but it is not the device of the configuration\n`,
  )
  return undefined
}

function selectionIfThere(config: Configuration): ReturnType<typeof selectionOf> | undefined {
  try {
    return selectionOf(config)
  } catch (thrown) {
    if (thrown instanceof CniError) return undefined
    throw thrown
  }
}

if (import.meta.main) main(hostDevice)
