/** From samples to a table: medians of each side, and the median of the ratios of pairs. Pure. */
import type { Case } from './cases.ts'

export type Side = 'ours' | 'theirs'
export type Verb = 'ADD' | 'DEL'

/** One plugin call: milliseconds from spawn to exit, and of processor time with all that it started. */
export interface Sample {
  side: Side
  round: number
  verb: Verb
  type: string
  wall: number
  cpu: number
}

export interface Row {
  case: string
  /** A plugin's type, or "sum" of the list. */
  what: string
  verb: Verb
  /** Milliseconds, medians. */
  theirs: number
  ours: number
  /** Ours ÷ theirs, medians over the pairs; the quartiles tell how sure that is. */
  ratio: number
  quartiles: [number, number]
  cpuRatio: number
}

/** The value below which the given part of the values lies, between neighbours by proportion. */
export function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((one, other) => one - other)
  const at = (sorted.length - 1) * part
  const low = sorted[Math.floor(at)] ?? Number.NaN
  const high = sorted[Math.ceil(at)] ?? Number.NaN
  return low + (high - low) * (at - Math.floor(at))
}

const median = (values: readonly number[]) => quantile(values, 0.5)

export function rowsOf(each: Case, samples: readonly Sample[]): Row[] {
  const types = each.rows ?? each.plugins.map(({ type }) => type)
  const rows = (['ADD', 'DEL'] as const).flatMap(verb => {
    const ofVerb = samples.filter(sample => sample.verb === verb)
    const single = types.map(type =>
      rowOf(
        { case: each.name, what: type, verb },
        ofVerb.filter(sample => sample.type === type),
      ),
    )
    return types.length > 1 ? [...single, rowOf({ case: each.name, what: 'sum', verb }, ofVerb)] : single
  })
  return rows
}

function rowOf(head: Pick<Row, 'case' | 'what' | 'verb'>, samples: readonly Sample[]): Row {
  const ours = sums(samples, 'ours')
  const theirs = sums(samples, 'theirs')
  const ratios = ours.map(({ wall }, round) => wall / (theirs[round]?.wall ?? Number.NaN))
  return {
    ...head,
    theirs: median(theirs.map(({ wall }) => wall)),
    ours: median(ours.map(({ wall }) => wall)),
    ratio: median(ratios),
    quartiles: [quantile(ratios, 0.25), quantile(ratios, 0.75)],
    cpuRatio: median(ours.map(({ cpu }, round) => cpu / (theirs[round]?.cpu ?? Number.NaN))),
  }
}

/** One side's rounds in order, several plugins' calls added up. */
function sums(samples: readonly Sample[], side: Side): { wall: number; cpu: number }[] {
  const rounds: { wall: number; cpu: number }[] = []
  for (const { round, wall, cpu } of samples.filter(sample => sample.side === side)) {
    const so = rounds[round] ?? { wall: 0, cpu: 0 }
    rounds[round] = { wall: so.wall + wall, cpu: so.cpu + cpu }
  }
  return rounds
}

/** Where there is no other side there is no number. */
const show = (value: number, digits: number) => (Number.isNaN(value) ? '' : value.toFixed(digits))

export function markdown(
  rows: readonly Row[],
  { machine, left }: { machine: string; left: readonly string[] },
): string {
  const head = '| case | plugin | verb | Go ms | ours ms | ours ÷ Go | quartiles | CPU ours ÷ Go |'
  const lines = rows.map(row => {
    const ratios = `${show(row.ratio, 2)} | ${row.quartiles
      .map(each => show(each, 2))
      .filter(Boolean)
      .join('–')} | ${show(row.cpuRatio, 2)}`
    return `| ${row.case} | ${row.what} | ${row.verb} | ${show(row.theirs, 1)} | ${show(row.ours, 1)} | ${ratios} |`
  })
  const notes = left.map(line => `Left out: ${line}`)
  return ['', `${machine}`, '', head, '|---|---|---|--:|--:|--:|--:|--:|', ...lines, '', ...notes].join('\n')
}
