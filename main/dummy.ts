/** dummy: an interface that leads nowhere, for addresses that belong to the container itself. */
import { checkInterface } from '../chain/interface/configure.ts'
import { createOnce, PENDING, removePending } from '../chain/interface/create.ts'
import { collectStale, finishInterface, removeFinished } from '../chain/interface/finish.ts'
import { explained, requireReady } from '../chain/interface/master.ts'
import { newLink } from '../chain/linux/netlink/link.ts'
import { request as ask } from '../chain/linux/netlink/socket.ts'
import { definePlugin, requirePrevious } from '../chain/plugin/define.ts'
import { main } from '../chain/plugin/run.ts'
import { configuration } from './dummy/checks.ts'

export const dummy = definePlugin({
  name: 'dummy',
  ipam: 'required',
  config: configuration,

  async add(request) {
    const { attachment } = request
    const name = attachment.ifname
    await createOnce(request, {
      create: container =>
        explained('dummy', () => ask(container, newLink({ name, kind: { type: 'dummy' }, group: PENDING }))),
      clear: container => removePending(container, name),
    })
    const addresses = await request.ipam.add(request.undo)
    return finishInterface(request, { addresses, announcement: 'none' }).result
  },

  async check({ attachment, netns, previous, ipam }) {
    await ipam.check()
    requirePrevious(previous, 'dummy')
    checkInterface({ netns, name: attachment.ifname, previous, kind: 'dummy' })
  },

  del: removeFinished,

  async status({ ipam }) {
    requireReady('dummy')
    await ipam.status()
  },

  gc: collectStale,
})

if (import.meta.main) main(dummy)
