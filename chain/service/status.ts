/** What the service says of itself: as a document, as words for a person, and as Prometheus reads it. Pure. */
import { boundOf, type Refusal, type Scoreboard, type Times, type WorkerLine } from './scoreboard.ts'

export interface StatusDocument {
  workers: WorkerLine[]
  /** Workers that were started, and that have ended, since the service began. */
  started: number
  ended: number
  /** Calls done, and calls left to their callers' own processes, by reason. */
  calls: number
  failed: number
  refused: Partial<Record<Refusal, number>>
  /** Times by plugin and verb, milliseconds. */
  times: TimesSummary[]
}

export interface TimesSummary extends Omit<Times, 'buckets'> {
  p50: number
  p90: number
  p99: number
  max: number
  /** Calls by bucket, from the shortest on; without those after the last that has any. */
  buckets: number[]
}

export function statusDocument(scoreboard: Scoreboard): StatusDocument {
  const times = scoreboard.times().map(summarise)
  return {
    workers: scoreboard.workers(),
    ...scoreboard.turnover(),
    calls: times.reduce((sum, { calls }) => sum + calls, 0),
    failed: times.reduce((sum, { failed }) => sum + failed, 0),
    refused: scoreboard.refused(),
    times,
  }
}

function summarise({ buckets, ...times }: Times): TimesSummary {
  const last = buckets.findLastIndex(count => count > 0)
  const at = (part: number) => round(percentile(buckets, part))
  return {
    ...times,
    sum: round(times.sum),
    p50: at(0.5),
    p90: at(0.9),
    p99: at(0.99),
    max: round(boundOf(last)),
    buckets: buckets.slice(0, last + 1),
  }
}

/** The upper bound of the bucket in which so large a part of the calls has ended: at most a fifth too long. */
export function percentile(buckets: readonly number[], part: number): number {
  const reached = part * buckets.reduce((sum, count) => sum + count, 0)
  let seen = 0
  for (const [bucket, count] of buckets.entries()) {
    seen += count
    if (seen >= reached && count > 0) return boundOf(bucket)
  }
  return 0
}

const round = (milliseconds: number) => Math.round(milliseconds * 1000) / 1000

/** For a person. `now` in seconds since the epoch. */
export function describeStatus(status: StatusDocument, now: number): string {
  const { workers, started, ended, calls, failed, refused, times } = status
  const ofWorkers = workers.map(
    ({ process, state, calls, kilobytes, started, plugin, verb, since = now }) => {
      const doing = plugin ? `${verb} of ${plugin} for ${Math.max(0, Math.round(now - since))} s` : state
      return [`${process}`, doing, `${calls}`, megabytes(kilobytes), duration(now - started)]
    },
  )
  const ofTimes = times.map(({ plugin, verb, calls, failed, p50, p90, p99, max }) => [
    plugin,
    verb,
    ...[calls, failed, p50, p90, p99, max].map(number => number.toFixed(Number.isInteger(number) ? 0 : 1)),
  ])
  const ofRefusals = Object.entries(refused).map(([why, count]) => [why, String(count)])
  return [
    `${calls} calls done, ${failed} of them failed; ${started} workers started, ${ended} ended`,
    ...table(['process', 'does', 'calls', 'memory', 'age'], ofWorkers),
    ...(ofTimes.length > 0 ? ['', 'milliseconds by plugin and verb'] : []),
    ...table(['plugin', 'verb', 'calls', 'failed', 'p50', 'p90', 'p99', 'max'], ofTimes),
    ...(ofRefusals.length > 0 ? ['', "left to the caller's own process"] : []),
    ...table(['because', 'calls'], ofRefusals),
  ].join('\n')
}

const megabytes = (kilobytes: number) => (kilobytes === 0 ? '' : `${Math.round(kilobytes / 1024)} MB`)

function duration(seconds: number): string {
  if (seconds < 120) return `${Math.max(0, Math.round(seconds))} s`
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`
}

/** Rows in columns as wide as they need to be; nothing where there are no rows. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  if (rows.length === 0) return []
  const widths = head.map((name, column) =>
    Math.max(name.length, ...rows.map(row => row[column]?.length ?? 0)),
  )
  return [head, ...rows].map(row =>
    `  ${row.map((text, column) => text.padEnd(widths[column] ?? 0)).join('  ')}`.trimEnd(),
  )
}

/** The text format of Prometheus (prometheus.io, "Exposition formats"): times as histograms, in seconds. */
export function prometheusText({ workers, started, ended, refused, times }: StatusDocument): string {
  const states = { idle: 0, busy: 0 }
  for (const { state } of workers) if (state !== 'absent') states[state]++
  const label = (text: string) => text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')
  return [
    ...metric(
      { name: 'workers', type: 'gauge', help: 'processes that do calls' },
      Object.entries(states).map(([state, count]) => [`{state="${state}"}`, count]),
    ),
    ...metric(
      { name: 'worker_private_bytes', type: 'gauge', help: "memory of a worker's own" },
      workers.map(({ process, kilobytes }) => [`{process="${process}"}`, kilobytes * 1024]),
    ),
    ...metric({ name: 'workers_started_total', type: 'counter', help: 'workers that were started' }, [
      ['', started],
    ]),
    ...metric({ name: 'workers_ended_total', type: 'counter', help: 'workers that have ended' }, [
      ['', ended],
    ]),
    ...metric(
      { name: 'refused_total', type: 'counter', help: "calls left to their callers' own processes" },
      Object.entries(refused).map(([why, count]) => [`{reason="${label(why)}"}`, count]),
    ),
    ...metric(
      { name: 'failed_total', type: 'counter', help: 'calls that the plugin has answered with an error' },
      times.map(({ plugin, verb, failed }) => [`{plugin="${plugin}",verb="${verb}"}`, failed]),
    ),
    ...histogram(times),
    '',
  ].join('\n')
}

function metric(
  { name, type, help }: { name: string; type: 'gauge' | 'counter'; help: string },
  values: readonly (readonly [labels: string, value: number])[],
): string[] {
  if (values.length === 0) return []
  const full = `catena_warm_${name}`
  return [
    `# HELP ${full} ${help}`,
    `# TYPE ${full} ${type}`,
    ...values.map(([labels, value]) => `${full}${labels} ${value}`),
  ]
}

function histogram(times: readonly TimesSummary[]): string[] {
  if (times.length === 0) return []
  const name = 'catena_warm_call_seconds'
  const lines = times.flatMap(({ plugin, verb, buckets, calls, sum }) => {
    const labels = `plugin="${plugin}",verb="${verb}"`
    let seen = 0
    const below = buckets.map((count, bucket) => {
      seen += count
      return `${name}_bucket{${labels},le="${(boundOf(bucket) / 1000).toPrecision(4)}"} ${seen}`
    })
    return [
      ...below,
      `${name}_bucket{${labels},le="+Inf"} ${calls}`,
      `${name}_sum{${labels}} ${sum / 1000}`,
      `${name}_count{${labels}} ${calls}`,
    ]
  })
  return [`# HELP ${name} time from acceptance to the exit status`, `# TYPE ${name} histogram`, ...lines]
}
