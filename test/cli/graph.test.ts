/** What `catena ps` and `catena graph` show, on terminals of several widths, in a pipe, and in a browser. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { drawHtml } from '../../chain/cli/graph/html.ts'
import { drawSvg } from '../../chain/cli/graph/svg.ts'
import { graphOf } from '../../chain/observe/graph.ts'
import { openPage, type Page } from '../fixtures/browser.ts'
import { bridgeChain, freshNode, seen, type TestNode } from '../fixtures/node.ts'
import { ourExecutable } from '../fixtures/plugin.ts'

setDefaultTimeout(60_000)

let node: TestNode
let folder: string

const limits = { ingressRate: 8_000_000, ingressBurst: 800_000, egressRate: 4_000_000, egressBurst: 400_000 }
const ports = (...numbers: [number, number][]) => ({
  capabilityArgs: {
    portMappings: numbers.map(([hostPort, containerPort]) => ({ hostPort, containerPort, protocol: 'tcp' })),
  },
})

beforeAll(async () => {
  folder = mkdtempSync('/run/graph-')
  node = await freshNode()
  node.network('front', '10.31.0.0/24')
  node.network('back', '10.32.0.0/24', [
    ...bridgeChain('back', '10.32.0.0/24'),
    { type: 'bandwidth', ...limits },
  ])
  node.network('direct', '10.33.0.0/24', [
    {
      type: 'macvlan',
      master: 'br-back',
      ipam: { type: 'host-local', ranges: [[{ subnet: '10.33.0.0/24' }]] },
    },
  ])
  await node.add('front', 'web', ports([8080, 80], [8443, 443]))
  await node.add('front', 'api', {
    netns: '/run/netns/cni-01234567-89ab-cdef-0123-456789abcdef',
    args: [
      ['IgnoreUnknown', '1'],
      ['K8S_POD_NAMESPACE', 'shop'],
      ['K8S_POD_NAME', '<b>api</b>'],
    ],
  })
  await node.add('back', 'db', ports([5432, 5432]))
  await node.add('direct', 'sensor')
  const broken = 'ip address flush dev eth0; ip address add 10.32.0.9/24 dev eth0'
  Bun.spawnSync(['nsenter', '--net=/run/netns/db', 'sh', '-c', broken])
})
afterAll(async () => {
  await node[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true })
})

function run(...words: string[]) {
  const { exitCode, stdout } = Bun.spawnSync([ourExecutable('catena'), ...words], {
    env: { PATH: process.env.PATH },
  })
  return { status: exitCode, text: stdout.toString() }
}

/** On a terminal so wide, without colours unless they are asked for. */
function onTerminal(columns: number, words: string, colours = false): string {
  const command = `stty cols ${columns}; exec ${ourExecutable('catena')} ${words}`
  const env = { PATH: process.env.PATH, TERM: 'xterm', ...(colours ? {} : { NO_COLOR: '1' }) }
  return Bun.spawnSync(['script', '-qec', command, '/dev/null'], { env })
    .stdout.toString()
    .replaceAll('\r', '')
}

const widest = (text: string) => Math.max(...text.split('\n').map(({ length }) => length))

describe('catena ps', () => {
  test('is JSON in a pipe: what each source says, and 1 where something is not healthy', () => {
    const { status, text } = run('ps')
    const { version, containers } = JSON.parse(text)
    expect({ status, version }).toEqual({ status: 1, version: 1 })
    const find = (name: string) => containers.find((each: { name: string }) => each.name === name)
    expect(find('db')).toMatchObject({
      network: 'back',
      addresses: ['10.32.0.9/24'],
      ports: [{ hostPort: 5432, containerPort: 5432, protocol: 'tcp' }],
      limits: { toContainer: 8_000_000, fromContainer: 4_000_000 },
      isHealthy: false,
      disagreements: [{ says: [{ source: 'cache', value: '10.32.0.2/24' }, { value: '10.32.0.9/24' }] }],
    })
    expect(find('shop/<b>api</b>')).toMatchObject({ runtime: 'containerd', identity: { namespace: 'shop' } })
    expect(run('ps', 'front').status).toBe(0)
  })

  test.each([120, 80, 40])('fits a terminal of %d columns', columns => {
    const text = onTerminal(columns, 'ps front')
    expect(widest(text)).toBeLessThanOrEqual(columns)
    for (const word of ['web', '10.31.0.2/24', '8080→80', 'front']) expect(text).toContain(word)
    expect(text).not.toContain('\x1b[')
    expect(onTerminal(columns, 'ps front', true)).toContain('\x1b[')
  })
})

test.each(['ps', 'graph', 'doctor --state', 'path :8080'])(
  'who may not look at the node is told so by catena %s',
  words => {
    const unprivileged = ['unshare', '--user', '--map-root-user'] // root of its own, and no one here
    const { exitCode, stdout } = Bun.spawnSync(
      [...unprivileged, ourExecutable('catena'), ...words.split(' ')],
      {
        env: { PATH: process.env.PATH },
      },
    )
    const { msg, details } = JSON.parse(stdout.toString())
    expect({ exitCode, msg, details }).toEqual({
      exitCode: 1,
      msg: expect.stringContaining('may not be looked at'),
      details: expect.stringContaining('sudo'),
    })
  },
)

describe('catena graph', () => {
  test.each([120, 80, 40])('fits a terminal of %d columns', columns => {
    const text = onTerminal(columns, 'graph')
    expect(widest(text)).toBeLessThanOrEqual(columns)
    for (const word of ['br-front', 'br-back', 'web', 'db', '10.31.0.2/24', 'addresses differ', 'sensor'])
      expect(text).toContain(word)
    expect(text).not.toContain('\x1b[')
  })

  test('is JSON in a pipe, or the text where it is asked for', () => {
    const { hubs, version } = JSON.parse(run('graph').text)
    expect(version).toBe(1)
    expect(hubs.map(({ name, kind }: { name: string; kind: string }) => `${name}: ${kind}`)).toEqual([
      'br-back: bridge',
      'br-front: bridge',
    ])
    expect(run('graph', 'front', '--text').text).toContain('┏━ br-front')
    expect(run('graph', 'front', '--text').text).not.toContain('\x1b[')
  })

  test('writes SVG that an XML parser reads, whatever a container is called', async () => {
    const path = `${folder}/node.svg`
    expect(run('graph', '--svg', '--output', path).status).toBe(0)
    const text = await Bun.file(path).text()
    expect(text).toContain('&lt;b&gt;api&lt;/b&gt;')
    expect(text).not.toContain('<b>')
    await using page = await openPage(path)
    expect(await page.evaluate('document.documentElement.tagName')).toBe('svg')
    expect(await page.evaluate('document.querySelectorAll("circle").length')).toBe(4)
  })
})

describe('the page', () => {
  let page: Page
  beforeAll(async () => {
    const path = `${folder}/node.html`
    writeFileSync(path, drawHtml(graphOf(seen()), { host: 'node-1', time: new Date() }))
    page = await openPage(path)
  })
  afterAll(() => page[Symbol.asyncDispose]())

  test.each([
    { width: 1280, scheme: 'light', page: [246, 247, 249] },
    { width: 1280, scheme: 'dark', page: [13, 17, 23] },
    { width: 420, scheme: 'light', page: [246, 247, 249] },
    { width: 420, scheme: 'dark', page: [13, 17, 23] },
  ] as const)('is whole at $width pixels, $scheme', async ({ width, scheme, page: colour }) => {
    await page.look({ width, scheme })
    expect(await page.evaluate<number>('document.documentElement.scrollWidth')).toBeLessThanOrEqual(width)
    expect(await page.evaluate<string>('getComputedStyle(document.body).backgroundColor')).toBe(
      `rgb(${colour.join(', ')})`,
    )
    const overlaps = `(() => {
      const boxes = [...document.querySelectorAll('.card')].map(card => card.getBoundingClientRect())
      return boxes.flatMap((one, at) => boxes.slice(at + 1).filter(other =>
        one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom)).length
    })()`
    expect(await page.evaluate<number>(overlaps)).toBe(0)
    const cut = `[...document.querySelectorAll('.card span, .card b')].filter(each => each.scrollWidth > each.clientWidth + 1).length`
    expect(await page.evaluate<number>(cut)).toBe(0)
    const photograph = await page.photograph()
    expect(photograph.length).toBeGreaterThan(10_000)
    if (process.env.CATENA_PICTURES)
      writeFileSync(`${process.env.CATENA_PICTURES}/graph-${scheme}-${width}.png`, photograph)
  })

  test('shows what is known of a container that is clicked, finds, and leaves out the healthy', async () => {
    await page.look({ width: 1280, scheme: 'light' })
    const shown = () =>
      page.evaluate<string[]>(
        `[...document.querySelectorAll('.card:not([hidden]) b')].map(each => each.textContent)`,
      )
    expect((await shown()).toSorted()).toEqual(['db', 'sensor', 'shop/<b>api</b>', 'web'])
    await page.evaluate(
      `[...document.querySelectorAll('.card')].find(card => card.textContent.includes('db')).click()`,
    )
    const details = await page.evaluate<string>('document.querySelector("aside").innerText')
    for (const word of ['10.32.0.9/24', 'cache: 10.32.0.2/24', '/run/netns/db', '8 Mbit/s'])
      expect(details).toContain(word)
    await page.evaluate(`document.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape' }))`)
    expect(await page.evaluate<boolean>('document.querySelector("aside").hidden')).toBe(true)
    const type = (text: string) =>
      page.evaluate(
        `(() => { const input = document.querySelector('input'); input.value = '${text}'; input.dispatchEvent(new Event('input')) })()`,
      )
    await type('8443')
    expect(await shown()).toEqual(['web'])
    await type('')
    await page.evaluate(`[...document.querySelectorAll('header button')][0].click()`)
    expect(await shown()).toEqual(['db'])
  })

  test('asks nothing of the network, and takes nothing of what it shows for markup', () => {
    expect(page.complaints).toEqual([])
  })
})

test('a picture of a hundred containers has them all, and none over another', () => {
  const container = graphOf(seen()).hubs[0]?.containers[0]
  if (!container) throw new Error('there is no container')
  const containers = Array.from({ length: 100 }, (_, number) => ({ ...container, name: `c${number}` }))
  const hub = {
    id: 'hub',
    name: 'cni0',
    kind: 'bridge',
    networks: ['many'],
    addresses: [],
    isUp: true,
    containers,
  }
  const svg = drawSvg({ links: [], hubs: [hub] })
  const boxes = [
    ...svg.matchAll(/<rect x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)" rx="8" class="card"/g),
  ].map(found => found.slice(1).map(Number)) as [number, number, number, number][]
  expect(boxes).toHaveLength(100)
  const overlapping = boxes.filter(([x, y, w, h], at) =>
    boxes.slice(at + 1).some(([a, b, c, d]) => x < a + c && a < x + w && y < b + d && b < y + h),
  )
  expect(overlapping).toEqual([])
})
