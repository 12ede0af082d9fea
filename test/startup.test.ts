import { expect, test } from 'bun:test'
import { mkdirSync, writeFileSync } from 'node:fs'
import { freshNamespace } from './fixtures/namespace.ts'

interface Cost {
  status: number
  output: string
  schemas: number
  buffers: number
  functions: string[]
}

/** What an ADD costs besides its work, counted in a process of its own; not the machine's first one, which makes the folders. */
function costOf(name: string, config: object): Cost {
  using container = freshNamespace('container')
  mkdirSync('/run/catena/records', { recursive: true })
  writeFileSync('/run/catena/records/log', '')
  const child = Bun.spawnSync([process.execPath, `${import.meta.dir}/fixtures/startup.ts`, name], {
    env: {
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: 'startup',
      CNI_NETNS: container.path,
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/none',
    },
    stdin: Buffer.from(JSON.stringify({ cniVersion: '1.1.0', name: 'startup-net', ...config })),
  })
  const output = child.stdout.toString()
  if (child.exitCode !== 0) throw new Error(`${name}: ${output}${child.stderr}`)
  return JSON.parse(output)
}

const prevResult = { cniVersion: '1.1.0', interfaces: [{ name: 'eth0', sandbox: '/x' }], ips: [] }

test.each([
  { name: 'loopback', config: {}, functions: 14 },
  {
    name: 'tuning',
    config: { sysctl: { 'net.core.somaxconn': '512' }, prevResult },
    functions: 14,
  },
  {
    name: 'static',
    config: { ipam: { addresses: [{ address: '10.1.0.2/24' }] } },
    functions: 14,
  },
  { name: 'portmap', config: { prevResult }, functions: 14 },
])(
  '$name starts with $functions functions of the C library, no schema and no Buffer',
  ({ name, config, functions: limit }) => {
    const { status, output, schemas, buffers, functions } = costOf(name, config)
    expect({ status, output }).toEqual({
      status: 0,
      output: expect.stringContaining('"cniVersion": "1.1.0"'),
    })
    expect(buffers).toBe(0)
    expect(schemas).toBe(0)
    expect(functions).toHaveLength(limit)
  },
)

/** The pieces of the executable that import one another, each with the pieces that it needs at once. */
async function buildPieces(): Promise<Map<string, string[]>> {
  const { outputs } = await Bun.build({
    entrypoints: [`${import.meta.dir}/../chain/catena.ts`],
    target: 'bun',
    splitting: true,
    minify: true,
    naming: { chunk: '[name]-[hash].[ext]' },
  })
  const pieces = new Map<string, string[]>()
  for (const output of outputs) {
    const needed = [...(await output.text()).matchAll(/(?:from|import)"\.\/([^"]+)"/g)].map(
      ([, name]) => name ?? '',
    )
    pieces.set(output.path.replace('./', ''), needed)
  }
  return pieces
}

test('a plugin is loaded in few pieces: each costs a call 0.05 ms', async () => {
  const pieces = await buildPieces()
  const limits = { loopback: 3, tuning: 3, static: 3, 'host-local': 3, portmap: 10, bridge: 13 }
  for (const [name, limit] of Object.entries(limits)) {
    const own = [...pieces.keys()].filter(piece => piece.replace(/-\w{8}\.js$/, '') === name)
    const loaded = new Set(['catena.js', ...own])
    for (const piece of loaded) for (const needed of pieces.get(piece) ?? []) loaded.add(needed)
    expect(loaded.size).toBeGreaterThan(2) // they are found at all
    expect(loaded.size).toBeLessThanOrEqual(limit)
  }
})
