/** dummy: an interface that leads nowhere, for addresses that belong to the container itself. */
import * as z from 'zod/mini'
import { checkInterface, requirePrevious } from '../chain/interface/configure.ts'
import { createOnce, PENDING, removePending } from '../chain/interface/create.ts'
import { finishInterface, removeSingle, sweepSingle, takeAddresses } from '../chain/interface/finish.ts'
import { requireReady } from '../chain/interface/master.ts'
import { newLink } from '../chain/linux/netlink/link.ts'
import { request as ask } from '../chain/linux/netlink/socket.ts'
import { definePlugin } from '../chain/plugin/define.ts'
import { main } from '../chain/plugin/run.ts'
import { ipam } from '../chain/plugin/schema.ts'
import { CniError, code } from '../chain/protocol/error.ts'

const configuration = z.object({ ipam })

type Configuration = z.infer<typeof configuration>

export const dummy = definePlugin({
  name: 'dummy',
  config: configuration,

  async add(request) {
    const { config, attachment } = request
    const name = attachment.ifname
    requireIpam(config)
    await createOnce(request, {
      create: container => ask(container, newLink({ name, kind: { type: 'dummy' }, group: PENDING })),
      clear: container => removePending(container, name),
    })
    const addresses = await takeAddresses(request)
    return finishInterface(request, { addresses, announcement: 'none' }).result
  },

  async check({ config, attachment, netns, previous, delegate }) {
    await delegate.check(requireIpam(config))
    requirePrevious(previous, 'dummy')
    checkInterface({ netns, name: attachment.ifname, previous, kind: 'dummy' })
  },

  async del(request) {
    await removeSingle(request)
  },

  async status({ config, delegate }) {
    requireReady('dummy')
    await delegate.status(requireIpam(config))
  },

  async gc(request) {
    await sweepSingle(request)
  },
})

function requireIpam({ ipam }: Configuration): string {
  if (ipam?.type) return ipam.type
  throw new CniError(code.invalidConfiguration, 'ipam.type: dummy interface requires an IPAM configuration', {
    details: 'without addresses the interface would be of no use',
  })
}

if (import.meta.main) main(dummy)
