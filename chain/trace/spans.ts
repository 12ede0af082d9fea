/** A chain at work as a tree of spans: who waited for whom, from when until when. Put together of what was observed. */
import { linesOf, type Observed } from '../linux/observer.ts'

export interface Span {
  /** "bridge ADD", "create link veth1". */
  name: string
  of: 'chain' | Observed['of']
  /** Milliseconds since the trace began. */
  at: number
  took: number
  /** What else was asked at once. */
  more?: string[]
  changes: boolean
  /** What was said instead of doing it. */
  refusal?: string
  children: Span[]
}

export interface Trace {
  version: 1
  verb: string
  network: string
  container: string
  ifname: string
  /** ISO 8601. */
  began: string
  took: number
  /** Trace ID and span ID as W3C Trace Context has them: those of the caller's TRACEPARENT, or of our own making. */
  traceparent: string
  root: Span
  /** The error that the chain ended with. */
  error?: { code: number; msg: string; details?: string }
}

/** Milliseconds by which clocks that are read one after the other may seem to disagree. */
const SLACK = 0.02

/** Spans of what was observed, each below the one that it happened in; times since `began`. */
export function spansOf(observed: readonly Observed[], began: number): Span[] {
  const sorted = observed.toSorted((one, other) => one.began - other.began || other.ended - one.ended)
  const top: Span[] = []
  const open: { span: Span; ended: number }[] = []
  for (const each of sorted) {
    const span = spanOf(each, began)
    while (open.length > 0 && (open.at(-1)?.ended ?? 0) < each.ended - SLACK) open.pop()
    const siblings = open.at(-1)?.span.children ?? top
    siblings.push(span)
    open.push({ span, ended: each.ended })
  }
  return top
}

function spanOf(observed: Observed, began: number): Span {
  const [name = '', ...more] = linesOf(observed)
  return {
    name: observed.of === 'plugin' ? name.replace(/^plugin /, '') : name,
    of: observed.of,
    at: observed.began - began,
    took: observed.ended - observed.began,
    ...(more.length > 0 ? { more } : {}),
    changes: observed.changes,
    ...(observed.refusal === undefined ? {} : { refusal: sentenceOf(observed.refusal) }),
    children: [],
  }
}

/** A plugin refuses by an error document. */
function sentenceOf(refusal: string): string {
  try {
    const { msg } = JSON.parse(refusal)
    return typeof msg === 'string' ? msg : refusal
  } catch {
    return refusal.trim()
  }
}

/** Whoever looks for what is not there is told so, and that is an answer. */
export const isFailure = ({ refusal, changes, of }: Span) =>
  refusal !== undefined && (changes || of === 'plugin')

export type Share = Span['of'] | 'own'

/** A share in words. */
export const shareNames: Record<Share, string> = {
  chain: 'chain',
  plugin: 'other plugins',
  kernel: 'kernel',
  nftables: 'nf_tables',
  file: 'files',
  program: 'programs',
  lock: 'locks',
  own: 'own work',
}

/** What a span's time went to: those that it waited for itself, and its own work, which is what remains. Plugins that it ran count as one. */
export function sharesOf(span: Span): Map<Share, number> {
  const shares = new Map<Share, number>()
  for (const { of, took } of span.children) shares.set(of, (shares.get(of) ?? 0) + took)
  const waited = span.children.reduce((sum, { took }) => sum + took, 0)
  shares.set('own', Math.max(0, span.took - waited))
  return shares
}

/** A span and all below it, with how deep each is. */
export function flat(span: Span, depth = 0): { span: Span; depth: number }[] {
  return [{ span, depth }, ...span.children.flatMap(child => flat(child, depth + 1))]
}
