/** host-device: gives a container a network device of the host, and takes it back. */
import { type Link, setLink } from '../chain/linux/netlink/link.ts'
import { openRoute, type Transport } from '../chain/linux/netlink/socket.ts'
import { type AddRequest, definePlugin } from '../chain/plugin/define.ts'
import {
  checkInterface,
  configureInterface,
  findOwnInterface,
  onHost,
  openContainer,
  requirePrevious,
} from '../chain/plugin/interface.ts'
import { main } from '../chain/plugin/run.ts'
import { configuredDns } from '../chain/plugin/schema.ts'
import { placeOn, takeAddresses } from '../chain/plugin/single.ts'
import { everyStep } from '../chain/plugin/undo.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import type { Result } from '../chain/protocol/result.ts'
import {
  type Configuration,
  configuration,
  findDevice,
  isSelected,
  selectionOf,
} from './host-device/device.ts'
import { moveBack, moveIn, renameReturned, requireFreeName } from './host-device/move.ts'

export const hostDevice = definePlugin({
  name: 'host-device',
  config: configuration,

  async add(request) {
    const { config, attachment, netns } = request
    openContainer(netns).close() // says what is wrong with the path before anything is moved
    const selection = selectionOf(config)
    const place = { name: attachment.interface, sandbox: netns }
    if (selection.dpdk) return withDns(placeOn(await takeAddresses(request), place), config)
    using host = openRoute()
    takeIn(host, request, findDevice(host, selection))
    const result = placeOn(await takeAddresses(request), place)
    const link = configureInterface({ netns, name: attachment.interface, result })
    return withDns(placeOn(result, { ...place, mac: link.address }), config)
  },

  async check({ config, attachment, netns, previous, delegate }) {
    const selection = selectionOf(config)
    if (config.ipam?.type) await delegate.check(config.ipam.type)
    const result = requirePrevious(previous, 'host-device')
    const name = attachment.interface
    findOwnInterface(result, { netns, name })
    if (selection.dpdk) return
    const link = checkInterface({ netns, name, previous })
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

  async del({ config, attachment, netns, delegate }) {
    const name = attachment.interface
    await everyStep({
      // while the interface is there: a DHCP lease is given back through it
      'release the addresses': () => config.ipam?.type && delegate.del(config.ipam.type),
      [`bring ${name} back to the host`]: () =>
        moveBack({ netns, name }) === 'removed' || onHost(host => rename(host, { config, name })),
    })
  },

  async status({ config, delegate }) {
    if (config.ipam?.type) await delegate.status(config.ipam.type)
  },

  async gc({ config, delegate }) {
    if (config.ipam?.type) await delegate.gc(config.ipam.type)
  },
})

function takeIn(host: Transport, { attachment, netns, undo }: AddRequest<Configuration>, device: Link): void {
  const place = { netns, name: attachment.interface }
  requireFreeName(place)
  // Before the move: it can end half done, with the device in the container under its old name.
  undo(`bring ${device.name} back to the host`, () => {
    for (const name of new Set([place.name, device.name])) moveBack({ netns, name }, device.name)
    onHost(anew => {
      setLink(anew, device.name, { alias: device.alias ?? '', up: device.up })
    })
  })
  moveIn(host, device, place)
}

function withDns(result: Result, config: Configuration): Result {
  return config.ipam?.type ? { ...result, dns: configuredDns(config.dns) ?? {} } : result
}

/** The device that the kernel sent home gets its name back. A selector that leads nowhere any more is no reason to fail. */
function rename(host: Transport, { config, name }: { config: Configuration; name: string }): unknown {
  const selection = selectionIfThere(config)
  return (
    selection &&
    renameReturned(host, {
      name,
      original: link =>
        selection.by === 'device' ? link.alias === selection.value : isSelected(selection, link),
    })
  )
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
