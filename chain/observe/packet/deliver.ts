/** Where a packet's way ends: in a container, or on the host itself; who listens there, and whether an answer comes back. */
import { type Route, routeTo } from '../../linux/netlink/route.ts'
import { KernelError, openRoute } from '../../linux/netlink/socket.ts'
import { inNamespace } from '../../linux/netns.ts'
import type { Attachment, SeenNamespace } from '../model.ts'
import { processesWith } from '../processes.ts'
import { hears, type Listener, readListeners } from '../stack.ts'
import { answerTo } from './packet.ts'
import { type Hook, type Ruleset, readRuleset } from './ruleset.ts'
import { lookupsOf, note, over, passFilters, stop, type Walking } from './steps.ts'

/** The namespace that a container's interface is in. */
export function namespaceOf({ node }: Walking, { namespace }: Attachment): SeenNamespace | undefined {
  return node.namespaces.find(({ identity }) => identity === namespace)
}

/** A path by which its namespace can be entered. */
export function pathInto(walking: Walking, attachment: Attachment): string {
  const namespace = namespaceOf(walking, attachment)
  return namespace?.paths[0] ?? `/proc/${namespace?.processes[0]}/ns/net`
}

/** The kernel's own answer, in the namespace of the socket. */
export function ask(transport: ReturnType<typeof openRoute>, destination: string): Route | KernelError {
  try {
    return routeTo(transport, destination)
  } catch (thrown) {
    if (thrown instanceof KernelError) return thrown
    throw thrown
  }
}

/** The packet filter inside of a container, which few have: a service mesh, or one that guards itself. */
export function passInside(walking: Walking, attachment: Attachment, hooks: readonly Hook[]): void {
  const stack = namespaceOf(walking, attachment)?.stack
  const ruleset = inNamespace<Ruleset>(pathInto(walking, attachment), readRuleset)
  if (!stack || ruleset.tables.length === 0) return
  const site = { place: attachment.name, ruleset, around: lookupsOf(stack) }
  for (const hook of hooks) passFilters(walking, hook, { site })
}

/** Over its interface into a container, to who listens there, and back. */
export function enterContainer(walking: Walking, attachment: Attachment): void {
  const { name: place, link, ifname, netns = '' } = attachment
  const enter = `nsenter --net=${netns}`
  if (!link) stop(walking, { place, about: 'link', says: `${ifname} is gone` })
  if (!link.up)
    stop(walking, {
      place,
      about: 'link',
      says: `${ifname} is down`,
      commands: [`${enter} ip link set ${ifname} up`],
    })
  over(walking, attachment.namespace ?? '', link)
  note(walking, { place, about: 'link', says: `it comes in by ${ifname}`, outcome: 'on' })
  const outside = walking.packet
  const { output: _, ...arriving } = outside
  walking.packet = { ...arriving, input: ifname }
  passInside(walking, attachment, ['prerouting', 'input'])
  listen(walking, attachment)
  walking.packet = outside
  answer(walking, attachment)
}

/** Whether anybody in the container waits for it. */
export function listen(walking: Walking, attachment: Attachment): void {
  const { name: place, netns = '' } = attachment
  const { protocol, destination, destinationPort } = walking.packet
  const listeners = inNamespace<Listener[]>(pathInto(walking, attachment), readListeners)
  if (protocol !== 'tcp' && protocol !== 'udp') return
  const same = listeners.filter(each => each.protocol === protocol && each.port === destinationPort)
  const found = same.find(each => hears(each, destination))
  if (found) {
    const [program] = processesWith(found.inode)
    const who = program ? `${program.name} (process ${program.id})` : 'a process'
    note(walking, {
      place,
      about: 'listener',
      says: `${who} listens on ${found.address}:${found.port}/${protocol}`,
      outcome: 'on',
    })
    return
  }
  const elsewhere =
    same.length > 0
      ? `: who listens on port ${destinationPort} does so on ${same.map(({ address }) => address).join(', ')} alone`
      : ''
  stop(walking, {
    place,
    about: 'listener',
    says: `nothing listens on ${destinationPort}/${protocol}${elsewhere}`,
    commands: [`nsenter --net=${netns} ss -ln${protocol === 'tcp' ? 't' : 'u'}`],
  })
}

/** Its way ends on the host. */
export function toHost(walking: Walking): void {
  const { protocol, destination, destinationPort } = walking.packet
  passFilters(walking, 'input')
  if (protocol !== 'tcp' && protocol !== 'udp') return
  const found = readListeners().find(
    each => each.protocol === protocol && each.port === destinationPort && hears(each, destination),
  )
  if (!found)
    stop(walking, {
      place: 'host',
      about: 'listener',
      says: `it is for the host itself, and nothing there listens on ${destinationPort}/${protocol}`,
      commands: ['catena ps', `ss -ln${protocol === 'tcp' ? 't' : 'u'}`],
    })
  const [program] = processesWith(found.inode)
  note(walking, {
    place: 'host',
    about: 'listener',
    says: `${program ? `${program.name} (process ${program.id})` : 'a process'} listens on ${found.address}:${found.port}/${protocol}`,
    outcome: 'on',
  })
}

/** The answer has to find its way back: the container's route, and the filters as for a connection that is known. */
function answer(walking: Walking, attachment: Attachment): void {
  const { name: place, netns = '' } = attachment
  const forth = walking.packet
  const back = answerTo(forth)
  const found = inNamespace<Route | KernelError>(pathInto(walking, attachment), () => {
    using transport = openRoute()
    return ask(transport, back.destination)
  })
  if (found instanceof KernelError)
    stop(walking, {
      place,
      about: 'route',
      says: `the container has no route back to ${back.destination}`,
      commands: [`nsenter --net=${netns} ip route`],
    })
  if (forth.input === undefined || forth.output === undefined || forth.output === '') return
  walking.packet = back
  passFilters(walking, 'forward', { lead: 'the answer: ' })
  walking.packet = forth
}
