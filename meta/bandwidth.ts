/** bandwidth: limits what goes to a container and what comes from it, with bursts, by token buckets on the host. */
import { openContainer, openContainerIfPresent } from '../chain/interface/configure.ts'
import { otherThan, sayLeft } from '../chain/interface/owner.ts'
import { createLink, findLink, type Link, removeLink } from '../chain/linux/netlink/link.ts'
import { openRoute, type Transport } from '../chain/linux/netlink/socket.ts'
import { type AddRequest, definePlugin } from '../chain/plugin/define.ts'
import { requireKernel } from '../chain/plugin/probe.ts'
import { main } from '../chain/plugin/run.ts'
import { everyStep } from '../chain/plugin/undo.ts'
import { CniError, code } from '../chain/protocol/error.ts'
import type { Interface } from '../chain/protocol/result.ts'
import { configuration } from './bandwidth/checks.ts'
import {
  createIfb,
  findHostEnd,
  findIfb,
  findOwnIfb,
  removeIfb,
  removeStaleIfbs,
  requireHostEnd,
} from './bandwidth/device.ts'
import { type Limits, limitsOf } from './bandwidth/limits.ts'
import type { Configuration } from './bandwidth/schema.ts'
import {
  redirect,
  redirectionDifferences,
  removeRedirection,
  removeShape,
  shape,
  shapeDifferences,
} from './bandwidth/shape.ts'

/** A link of our own carries the container's traffic alone: what reaches it is shaped whole. */
const EVERYTHING = { only: false, subnets: [] }

export const bandwidth = definePlugin({
  name: 'bandwidth',
  chained: true,
  versions: ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'], // the host's interfaces, which limits are put on, are in results since
  config: configuration,

  validate: config => void limitsOf(config),

  add(request) {
    const { attachment, config, netns, previous, undo, keep } = request
    const { ingress, egress, scope } = limitsOf(config)
    if (!ingress && !egress) return previous
    using container = openContainer(netns)
    const host = keep(openRoute())
    const outside = requireHostEnd({ host, container, netns }, { name: attachment.ifname, previous })
    if (ingress) {
      undo(`stop shaping ${outside.name}`, () => removeShape(host, outside.index))
      shape(host, outside, { bucket: ingress, scope })
    }
    if (!egress) return previous
    const ifb = limitEgress(request, { host, outside, egress, scope })
    return { ...previous, interfaces: [...previous.interfaces, ifb] }
  },

  check({ attachment, config, netns, previous }) {
    const { ingress, egress, scope } = limitsOf(config)
    if (!ingress && !egress) return
    using container = openContainer(netns)
    using host = openRoute()
    const outside = requireHostEnd({ host, container, netns }, { name: attachment.ifname, previous })
    const ifb = egress && findIfb(host, attachment)
    const differences = [
      ...(ingress ? shapeDifferences(host, outside, { bucket: ingress, scope }) : []),
      ...(egress && !ifb ? [`the link that takes traffic from ${attachment.ifname} is gone`] : []),
      ...(egress && ifb ? egressDifferences({ host, outside, ifb, egress, scope }) : []),
    ]
    if (differences.length === 0) return
    throw new CniError(code.internal, differences.join('; '), {
      details: `traffic of ${attachment.ifname} in ${netns} no longer is limited as ADD left it`,
    })
  },

  async del({ attachment, netns, io }) {
    using host = openRoute()
    using container = openContainerIfPresent(netns)
    const found = container && findHostEnd({ host, container, netns }, attachment.ifname)
    const other = otherThan(attachment, found?.alias)
    if (found && other !== undefined) sayLeft(io, `the limit of ${found.name}`, other)
    const outside = other === undefined ? found : undefined
    await everyStep({
      'stop shaping': () => outside && removeShape(host, outside.index),
      'stop redirecting': () =>
        outside && removeRedirection(host, outside.index, findIfb(host, attachment)?.index),
      'delete the ifb': () => removeIfb(host, attachment),
    })
  },

  status() {
    requireKernel('what bandwidth needs (sch_tbf, sch_ingress, cls_u32, act_mirred, ifb)', route => {
      createLink(route, { name: 'trial', kind: { type: 'ifb' } })
      const { ingress: bucket } = limitsOf({ ingressRate: 8000, ingressBurst: 8000 })
      const trial = findLink(route, 'trial')
      if (!trial || !bucket) return
      shape(route, trial, { bucket, scope: EVERYTHING })
      redirect(route, trial, { to: trial.index, scope: EVERYTHING })
    })
  },

  gc({ network, valid }) {
    using host = openRoute()
    removeStaleIfbs(host, network, valid)
  },
})

interface Egress {
  host: Transport
  outside: Link
  egress: NonNullable<Limits['egress']>
  scope: Limits['scope']
}

/** Traffic from the container goes through a link of its own, where it can be shaped. Answers how the result tells of that. */
function limitEgress(
  { attachment, undo }: AddRequest<Configuration>,
  { host, outside, egress, scope }: Egress,
): Interface {
  const leftover = findOwnIfb(host, attachment) // of an ADD that was killed
  if (leftover) removeLink(host, leftover.index)
  const ifb = createIfb(host, undo, { attachment, mtu: outside.mtu })
  shape(host, ifb, { bucket: egress, scope: EVERYTHING })
  undo(`stop redirecting from ${outside.name}`, () => removeRedirection(host, outside.index, ifb.index))
  redirect(host, outside, { to: ifb.index, scope })
  return { name: ifb.name, mac: ifb.address }
}

function egressDifferences({ host, outside, ifb, egress, scope }: Egress & { ifb: Link }): string[] {
  return [
    ...(ifb.up ? [] : [`${ifb.name} is down`]),
    ...shapeDifferences(host, ifb, { bucket: egress, scope: EVERYTHING }),
    ...redirectionDifferences(host, outside, { to: ifb.index, scope }),
  ]
}

if (import.meta.main) main(bandwidth)
