/** Addresses in Prometheus' text format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/). */
import type { IpamReport, NetworkReport, RangeReport } from './report.ts'

interface Sample {
  labels: Readonly<Record<string, string>>
  value: number
}

interface Metric {
  name: string
  help: string
  samples: Sample[]
}

/** All metrics, each with what it means; seconds and addresses, no percentages. */
export function prometheusText({ networks, at }: IpamReport): string {
  const of = (name: string, help: string, value: (range: RangeReport) => number | undefined): Metric => ({
    name: `catena_ipam_${name}`,
    help,
    samples: networks.flatMap(network =>
      network.ranges.flatMap(range => {
        const found = value(range)
        return found === undefined ? [] : [{ labels: labelsOf(network, range), value: found }]
      }),
    ),
  })
  const seconds = (time: string | undefined) => (time === undefined ? undefined : Date.parse(time) / 1000)
  const metrics = [
    of('addresses', 'Addresses of a range that containers can be given.', ({ size }) => size),
    of('used_addresses', 'Addresses that are kept for a container.', ({ used }) => used),
    of('live_addresses', 'Used addresses that a container has.', ({ live }) => live),
    of('leaked_addresses', 'Used addresses whose container is gone.', ({ leaked }) => leaked),
    of('unknown_addresses', 'Used addresses of which signs contradict.', ({ unknown }) => unknown),
    of('free_addresses', 'Addresses that can still be given.', ({ free }) => free),
    of('reserved_addresses', 'Addresses of the subnet that are not given.', ({ reserved }) => reserved),
    of('full_timestamp_seconds', 'When nothing is free at the latest rate.', ({ fullAt }) => seconds(fullAt)),
    {
      name: 'catena_ipam_outside_addresses',
      help: 'Addresses that are kept for a container and are in no range.',
      samples: networks.map(({ network, folder, outside }) => ({
        labels: { network, folder },
        value: outside,
      })),
    },
    {
      name: 'catena_ipam_read_timestamp_seconds',
      help: 'When this was read.',
      samples: [{ labels: {}, value: Date.parse(at) / 1000 }],
    },
  ]
  return metrics.map(textOf).join('')
}

const labelsOf = ({ network, folder }: NetworkReport, { subnet, first, last }: RangeReport) => ({
  network,
  folder,
  subnet,
  range: `${first}-${last}`,
})

function textOf({ name, help, samples }: Metric): string {
  if (samples.length === 0) return ''
  const lines = samples.map(({ labels, value }) => `${name}${textOfLabels(labels)} ${value}`)
  return `# HELP ${name} ${help}\n# TYPE ${name} gauge\n${lines.join('\n')}\n`
}

function textOfLabels(labels: Sample['labels']): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

const escapeLabel = (text: string) =>
  text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
