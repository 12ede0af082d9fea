/**
 * A trace in OpenTelemetry's protocol: OTLP over HTTP, in JSON (opentelemetry-proto, trace/v1). Written by hand: it is one document,
 * where the SDK is a hundred modules. Loaded where an endpoint is configured.
 */
import { random } from './collect.ts'
import { isFailure, type Span, type Trace } from './spans.ts'

/** Where spans go, by the variables of OpenTelemetry's specification; undefined where none is configured. */
export function endpointOf(env: Readonly<Record<string, string | undefined>>): string | undefined {
  const { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: traces, OTEL_EXPORTER_OTLP_ENDPOINT: base } = env
  if (traces) return traces
  return base ? `${base.replace(/\/+$/, '')}/v1/traces` : undefined
}

const INTERNAL = 1 // SPAN_KIND_INTERNAL
const ERROR = 2 // STATUS_CODE_ERROR

/** The trace as an ExportTraceServiceRequest. `parent` is the span of the caller's that it belongs to. */
function exportRequest(trace: Trace, parent?: string): object {
  const [, traceId = '', rootId = ''] = trace.traceparent.split('-')
  const began = BigInt(Date.parse(trace.began)) * 1_000_000n
  const nanoseconds = (milliseconds: number) => String(began + BigInt(Math.round(milliseconds * 1e6)))
  const about = {
    'cni.network': trace.network,
    'cni.container_id': trace.container,
    'cni.ifname': trace.ifname,
  }
  const written = (span: Span, spanId: string, parentSpanId: string | undefined): object[] => [
    {
      traceId,
      spanId,
      parentSpanId,
      name: span.name,
      kind: INTERNAL,
      startTimeUnixNano: nanoseconds(span.at),
      endTimeUnixNano: nanoseconds(span.at + span.took),
      attributes: attributes({
        'catena.of': span.of,
        'catena.more': span.more?.join('\n'),
        ...(span === trace.root ? about : {}),
      }),
      ...(isFailure(span) ? { status: { code: ERROR, message: span.refusal } } : {}),
    },
    ...span.children.flatMap(child => written(child, random(8), spanId)),
  ]
  const scopeSpans = [{ scope: { name: 'catena' }, spans: written(trace.root, rootId, parent) }]
  return {
    resourceSpans: [{ resource: { attributes: attributes({ 'service.name': 'catena' }) }, scopeSpans }],
  }
}

function attributes(values: Record<string, string | undefined>): object[] {
  return Object.entries(values).flatMap(([key, value]) =>
    value ? [{ key, value: { stringValue: value } }] : [],
  )
}

/** Sends a trace to the endpoint that is configured; a sentence about what went wrong, if something did. */
export async function exportTrace(
  trace: Trace,
  env: Readonly<Record<string, string | undefined>>,
): Promise<string | undefined> {
  const endpoint = endpointOf(env)
  if (!endpoint) return undefined
  return await send(
    endpoint,
    exportRequest(trace, env.TRACEPARENT?.split('-')[2]),
    env.OTEL_EXPORTER_OTLP_HEADERS,
  )
}

const PATIENCE = 1000 // milliseconds: a runtime waits for a plugin that exports

/** Sends it; a sentence about what went wrong, if something did: a collector that is away is no failure of the chain. */
async function send(
  endpoint: string,
  request: object,
  headers: string | undefined,
): Promise<string | undefined> {
  try {
    const answer = await fetch(endpoint, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headersOf(headers) },
      body: JSON.stringify(request),
      signal: AbortSignal.timeout(PATIENCE),
    })
    return answer.ok ? undefined : `${endpoint}: HTTP ${answer.status}`
  } catch (thrown) {
    return `${endpoint}: ${thrown instanceof Error ? thrown.message : String(thrown)}`
  }
}

/** OTEL_EXPORTER_OTLP_HEADERS: "name=value,name=value", percent-encoded. */
function headersOf(text = ''): Record<string, string> {
  const pairs = text.split(',').map(pair => pair.split('='))
  return Object.fromEntries(
    pairs.flatMap(([name, ...value]) =>
      name?.trim() ? [[name.trim(), decodeURIComponent(value.join('=').trim())]] : [],
    ),
  )
}
