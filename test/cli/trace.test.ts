/** `catena trace`: what a chain did, and what waited for what; in the terminal, as a page, and to a collector of OpenTelemetry. */
import { afterAll, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { styleFor } from '../../chain/cli/render.ts'
import { drawPage } from '../../chain/cli/trace/page.ts'
import { describeTrace } from '../../chain/cli/trace/print.ts'
import { setLink } from '../../chain/linux/netlink/link.ts'
import { traceparentFor } from '../../chain/trace/collect.ts'
import { flat, isFailure, type Span, sharesOf, spansOf, type Trace } from '../../chain/trace/spans.ts'
import { openPage } from '../fixtures/browser.ts'
import { freshNamespace, hostNamespace } from '../fixtures/namespace.ts'
import { CONFIGURATIONS } from '../fixtures/node.ts'
import { ourExecutable, ours } from '../fixtures/plugin.ts'

setDefaultTimeout(60_000)

const networks = new Set<string>()

afterAll(() => {
  for (const name of networks) {
    Bun.spawnSync(['ip', 'link', 'delete', `br-${name}`])
    rmSync(`${CONFIGURATIONS}/10-${name}.conflist`)
  }
})

const PARENT = `00-${'a1'.repeat(16)}-${'b2'.repeat(8)}-01`

function network(name: string, subnet: string, more: object[] = []): void {
  networks.add(name)
  mkdirSync(CONFIGURATIONS, { recursive: true })
  const plugins = [
    { type: 'bridge', bridge: `br-${name}`, isGateway: true, ipam: { type: 'host-local', subnet } },
    { type: 'portmap', capabilities: { portMappings: true } },
    ...more,
  ]
  writeFileSync(
    `${CONFIGURATIONS}/10-${name}.conflist`,
    JSON.stringify({ cniVersion: '1.1.0', name, plugins }),
  )
}

async function trace(words: string[], env: Record<string, string> = {}) {
  const child = Bun.spawn([ourExecutable('catena'), 'trace', ...words], {
    env: { PATH: process.env.PATH, NETCONFPATH: CONFIGURATIONS, CNI_PATH: ours, ...env },
    stdout: 'pipe',
    stderr: 'pipe',
  })
  const [stdout, stderr, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited])
  return { status, stderr, trace: JSON.parse(stdout) as Trace }
}

const named = ({ root }: Trace, name: string): Span => {
  const found = flat(root).filter(({ span }) => span.name === name)
  expect(found).toHaveLength(1)
  return found[0]?.span as Span
}

const words = (traced: Trace, width: number, all = false) =>
  describeTrace(traced, { style: styleFor({ isTerminal: false }), width, all })

test('plugins, what they ran, and what they asked of the kernel, each within the one that waited for it', async () => {
  network('traced', '10.51.0.0/24')
  using container = freshNamespace('container')
  const { status, trace: added } = await trace(['add', 'traced', container.path])
  expect(status).toBe(0)
  expect(added.root.children.filter(({ of }) => of === 'plugin').map(({ name }) => name)).toEqual([
    'bridge ADD',
    'portmap ADD',
  ])
  const bridge = named(added, 'bridge ADD')
  expect(bridge.children).toContainEqual(named(added, 'host-local ADD'))
  expect(bridge.children.map(({ name }) => name)).toContain('create bridge br-traced')
  expect(named(added, 'host-local ADD').children.some(({ of }) => of === 'file')).toBe(true)
  for (const { span } of flat(added.root)) {
    for (const child of span.children) {
      expect(child.at).toBeGreaterThanOrEqual(span.at - 0.05)
      expect(child.at + child.took).toBeLessThanOrEqual(span.at + span.took + 0.05)
    }
    const shares = [...sharesOf(span).values()].reduce((sum, took) => sum + took, 0)
    expect(Math.abs(shares - span.took)).toBeLessThan(0.5)
  }
  expect(words(added, 80)).toContain('bridge ADD')
  for (const width of [40, 80])
    for (const line of words(added, width, true).split('\n')) expect(line.length).toBeLessThanOrEqual(width)
  expect((await trace(['check', 'traced', container.path])).trace.root.children.length).toBeGreaterThan(1)
  const deleted = await trace(['del', 'traced', container.path])
  expect(deleted.trace.root.children.filter(({ of }) => of === 'plugin').map(({ name }) => name)).toEqual([
    'portmap DEL',
    'bridge DEL',
  ])
})

test('a chain that fails is traced to its undoing, and says so; a plugin of somebody else is seen from outside', async () => {
  const folder = mkdtempSync('/run/foreign-')
  const script = '#!/bin/sh\ncat >/dev/null\necho "$TRACEPARENT" >>$FOREIGN\n'
  writeFileSync(`${folder}/foreign`, `${script}echo '{"code":123,"msg":"<b>no</b>"}'\nexit 1\n`, {
    mode: 0o755,
  })
  network('failing', '10.52.0.0/24', [{ type: 'foreign' }])
  using container = freshNamespace('container')
  const path = { CNI_PATH: `${ours}:${folder}`, FOREIGN: `${folder}/seen`, TRACEPARENT: PARENT }
  const { status, trace: failed } = await trace(['add', 'failing', container.path], path)
  expect(status).toBe(1)
  expect(failed.error?.code).toBe(123)
  expect(failed.error?.msg).toContain('<b>no</b>')
  const foreign = named(failed, 'foreign ADD')
  expect(foreign).toMatchObject({ refusal: '<b>no</b>', children: [] })
  expect(failed.root.children.filter(({ of }) => of === 'plugin').map(({ name }) => name)).toContain(
    'bridge DEL',
  )
  expect(readFileSync(`${folder}/seen`, 'utf8')).toContain(failed.traceparent)
  expect(failed.traceparent.split('-')[1]).toBe(PARENT.split('-')[1] ?? '')
  expect(words(failed, 80)).toContain('(code 123)')
  expect(drawPage(failed)).not.toContain('<b>no</b>')
  rmSync(folder, { recursive: true })
})

interface Sent {
  resourceSpans: { scopeSpans: { spans: Record<string, string>[] }[] }[]
}

test('to a collector goes what is shown, as a part of the caller’s trace; each call of a plugin too, where it is configured', async () => {
  using host = hostNamespace()
  setLink(host.route, 'lo', { up: true })
  const received: Sent[] = []
  await using collector = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    routes: {
      '/v1/traces': async request => {
        expect(request.headers.get('x-tenant')).toBe('a b')
        received.push((await request.json()) as Sent)
        return Response.json({})
      },
    },
  })
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.port}/`,
    OTEL_EXPORTER_OTLP_HEADERS: 'x-tenant=a%20b',
    TRACEPARENT: PARENT,
  }
  network('exported', '10.53.0.0/24')
  using container = freshNamespace('container')
  const { trace: added, stderr } = await trace(['add', 'exported', container.path], env)
  expect(stderr).toBe('')
  expect(received).toHaveLength(1)
  const spans = received[0]?.resourceSpans[0]?.scopeSpans[0]?.spans ?? []
  expect(spans).toHaveLength(flat(added.root).length)
  expect(new Set(spans.map(({ traceId }) => traceId))).toEqual(new Set(['a1'.repeat(16)]))
  const [root] = spans
  expect(root).toMatchObject({
    name: 'ADD exported',
    parentSpanId: 'b2'.repeat(8),
    spanId: added.traceparent.split('-')[2],
  })
  const ids = new Set(spans.map(({ spanId }) => spanId))
  expect(ids.size).toBe(spans.length)
  for (const span of spans.slice(1)) expect(ids).toContain(span.parentSpanId)
  for (const { startTimeUnixNano = '', endTimeUnixNano = '' } of spans)
    expect(BigInt(endTimeUnixNano)).toBeGreaterThanOrEqual(BigInt(startTimeUnixNano))

  expect((await trace(['del', 'exported', container.path])).status).toBe(0)
  const plugin = Bun.spawn([ourExecutable('loopback')], {
    env: {
      ...env,
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: 'c',
      CNI_NETNS: container.path,
      CNI_IFNAME: 'lo',
      CNI_PATH: ours,
    },
    stdin: Buffer.from('{"cniVersion":"1.1.0","name":"exported"}'),
  })
  expect(await plugin.exited).toBe(0)
  expect(received[1]?.resourceSpans[0]?.scopeSpans[0]?.spans[0]).toMatchObject({
    name: 'ADD loopback',
    parentSpanId: 'b2'.repeat(8),
  })
})

test('a collector that is away is said, and no failure', async () => {
  network('alone', '10.54.0.0/24')
  using container = freshNamespace('container')
  const env = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://127.0.0.1:9/v1/traces' }
  const { status, stderr } = await trace(['add', 'alone', container.path], env)
  expect(status).toBe(0)
  expect(stderr).toContain('the trace was not exported: http://127.0.0.1:9/v1/traces')
  expect((await trace(['del', 'alone', container.path])).status).toBe(0)
})

test('the page is whole in light and dark, wide and narrow, and needs nothing from elsewhere', async () => {
  network('shown', '10.55.0.0/24')
  using container = freshNamespace('container')
  const { trace: added } = await trace(['add', 'shown', container.path])
  const folder = mkdtempSync('/run/page-')
  writeFileSync(`${folder}/trace.html`, drawPage(added))
  await using page = await openPage(`${folder}/trace.html`)
  const pictures = new Set<string>()
  for (const scheme of ['light', 'dark'] as const) {
    for (const width of [1100, 400]) {
      await page.look({ width, scheme })
      expect(await page.evaluate<number>('document.documentElement.scrollWidth')).toBeLessThanOrEqual(width)
      expect(await page.evaluate<number>('document.querySelectorAll("details").length')).toBe(
        flat(added.root).length - 1,
      )
      const picture = await page.photograph()
      pictures.add(new Bun.CryptoHasher('sha256').update(picture).digest('hex'))
      if (process.env.CATENA_PICTURES)
        writeFileSync(`${process.env.CATENA_PICTURES}/trace-${scheme}-${width}.png`, picture)
    }
  }
  expect(pictures.size).toBe(4)
  expect((await trace(['del', 'shown', container.path])).status).toBe(0)
  expect(page.complaints).toEqual([])
  rmSync(folder, { recursive: true })
})

test('spans of times that touch, are equal, or overlap have their places', () => {
  const observed = (name: string, began: number, ended: number) => ({
    of: 'kernel' as const,
    operations: [name],
    changes: false,
    began,
    ended,
    refusal: name === 'missing' ? 'ENOENT' : undefined,
  })
  const spans = spansOf(
    [
      observed('inner', 2, 3),
      observed('outer', 1, 5),
      observed('missing', 3, 4),
      observed('next', 5, 6),
      observed('overlapping', 4.5, 7),
    ],
    1,
  )
  const shape = (span: Span): unknown => [span.name, ...span.children.map(shape)]
  expect(spans.map(shape)).toEqual([
    ['outer', ['inner'], ['missing']],
    ['overlapping', ['next']],
  ])
  expect(spans[0]?.at).toBe(0)
  expect(flat(spans[0] as Span).some(({ span }) => isFailure(span))).toBe(false)
})

test.each([
  ['a sampled one', PARENT, 'a1'.repeat(16)],
  ['none', undefined, undefined],
  ['zeros', `00-${'00'.repeat(16)}-${'b2'.repeat(8)}-01`, undefined],
  ['version ff', `ff-${'a1'.repeat(16)}-${'b2'.repeat(8)}-01`, undefined],
  ['nonsense', 'x', undefined],
])('TRACEPARENT: %s', (_, given, traceId) => {
  const made = traceparentFor(given)
  expect(made).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/)
  if (traceId) expect(made).toContain(traceId)
  else expect(made).not.toContain('a1a1a1')
})
