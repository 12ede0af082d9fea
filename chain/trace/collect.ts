/** Runs something while everything that it asks of the machine is noted down. */
import { type Observed, observe } from '../linux/observer.ts'
import { type CniError, toCniError } from '../protocol/error.ts'
import { type Span, spansOf, type Trace } from './spans.ts'

export interface Traced {
  verb: string
  network: string
  container: string
  ifname: string
  traceparent: string
  /** Of a single plugin's call, the plugin; else the network is it. */
  subject?: string
}

/** What came of it, and when: by the clock on the wall, and in milliseconds of performance.now(). */
export interface Course {
  observed: readonly Observed[]
  at: Date
  began: number
  took: number
  error?: CniError | undefined
}

/** The trace of something that is over. */
export function traceOf(about: Traced, { observed, at, began, took, error }: Course): Trace {
  const { verb, subject = about.network, traceparent, network, container, ifname } = about
  const children = spansOf(observed, began)
  const refusal = error ? { refusal: error.message } : {}
  const root: Span = {
    name: `${verb} ${subject}`,
    of: 'chain',
    at: 0,
    took,
    changes: true,
    ...refusal,
    children,
  }
  const told = error && {
    code: error.code,
    msg: error.message,
    ...(error.details ? { details: error.details } : {}),
  }
  return {
    ...{ version: 1, verb, network, container, ifname, began: at.toISOString(), took, traceparent, root },
    ...(told ? { error: told } : {}),
  }
}

/** The trace of a body; its failure is part of the trace. */
export async function trace(about: Traced, body: () => Promise<unknown>): Promise<Trace> {
  const observed: Observed[] = []
  const at = new Date()
  const began = performance.now()
  let error: CniError | undefined
  {
    using _watching = observe(each => observed.push(each))
    try {
      await body()
    } catch (thrown) {
      error = toCniError(thrown)
    }
  }
  return traceOf(about, { observed, at, began, took: performance.now() - began, error })
}

/** So many random bytes, in hexadecimal. */
export const random = (bytes: number) => crypto.getRandomValues(new Uint8Array(bytes)).toHex()

/** The caller's trace goes on, if it has one; else one begins (https://www.w3.org/TR/trace-context/). */
export function traceparentFor(given: string | undefined): string {
  const [, version, traceId] =
    /^([0-9a-f]{2})-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}/.exec(given ?? '') ?? []
  const isValid = version !== undefined && version !== 'ff' && /[^0]/.test(traceId ?? '')
  return `00-${isValid ? traceId : random(16)}-${random(8)}-01`
}
