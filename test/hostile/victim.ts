/** A process that has a socket in a container, and asks the kernel when it is told to: is lo up? usage: victim.ts NETNS */
import { findLink } from '../../chain/linux/netlink/link.ts'
import { openRoute } from '../../chain/linux/netlink/socket.ts'
import { inNamespace } from '../../chain/linux/netns.ts'

using route = inNamespace(process.argv[2] ?? '', openRoute)
console.log('open')
for await (const _line of console) break
console.log(findLink(route, 'lo')?.up ? 'up' : 'down')
