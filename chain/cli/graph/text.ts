/** A graph as text: a picture for each hub, or a tree where the terminal is too narrow for it. */
import type { Graph, GraphContainer, GraphHub, GraphLink } from '../../observe/graph.ts'
import { drawNetwork } from '../picture.ts'
import { limitTexts } from '../ps.ts'
import { harmless, type Style } from '../render.ts'

export function drawText({ links, hubs }: Graph, { style, width }: { style: Style; width: number }): string {
  const ways = links.map(link => describeLink(link, style))
  const pictures = hubs.map(hub => drawHub(hub, { style, width }))
  const parts = [...(ways.length > 0 ? [ways.join('\n')] : []), ...pictures]
  return parts.join('\n\n') || 'no container is on any network'
}

function describeLink({ name, kind, addresses, on, isUplink, isUp }: GraphLink, style: Style): string {
  const words = [kind === 'device' ? '' : kind, on ? `on ${on}` : '', isUplink ? 'default route' : ''].filter(
    Boolean,
  )
  return [
    isUp ? style.bold(harmless(name)) : style.bad(`${harmless(name)} (down)`),
    ...addresses.map(address => style.accent(address)),
    style.dim(words.join(', ')),
  ]
    .filter(Boolean)
    .join('  ')
}

function drawHub(hub: GraphHub, { style, width }: { style: Style; width: number }): string {
  const { name, kind, networks, addresses, containers } = hub
  const picture = drawNetwork(
    {
      name: networks.join(', ') || kind,
      uplinks: [],
      bridge: { name: kind === 'bridge' ? name : `${name} (${kind})`, addresses },
      containers: containers.map(container => ({
        name: harmless(container.name),
        ifname: container.ifname,
        hostEnd: container.hostEnd,
        addresses: container.addresses,
        ports: [],
        notes: notesOf(container),
      })),
    },
    style,
    width,
  )
  return picture
}

/** What stands below a container's addresses. */
function notesOf({
  ports,
  limits,
  health,
  runtime,
}: GraphContainer): { text: string; kind: 'port' | 'bad' | 'quiet' }[] {
  return [
    ...ports.map(text => ({ text, kind: 'port' as const })),
    ...(health.isHealthy ? [] : [{ text: health.says, kind: 'bad' as const }]),
    ...[[...limitTexts(limits), runtime].filter(Boolean).join(' · ')]
      .filter(Boolean)
      .map(text => ({ text, kind: 'quiet' as const })),
  ]
}
