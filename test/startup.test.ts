import { expect, test } from 'bun:test'
import { freshNamespace } from './fixtures/namespace.ts'

interface Cost {
  status: number
  output: string
  schemas: number
  buffers: number
  functions: string[]
}

/** What an ADD costs besides its work, counted in a process of its own. */
function costOf(name: string, config: object): Cost {
  using container = freshNamespace('container')
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
  { name: 'loopback', config: {}, schemas: 0, functions: 13 },
  {
    name: 'tuning',
    config: { sysctl: { 'net.core.somaxconn': '512' }, prevResult },
    schemas: 30,
    functions: 14,
  },
  {
    name: 'static',
    config: { ipam: { addresses: [{ address: '10.1.0.2/24' }] } },
    schemas: 55,
    functions: 13,
  },
  { name: 'portmap', config: { prevResult }, schemas: 50, functions: 13 },
])(
  '$name starts with $schemas schemas, $functions functions of the C library and no Buffer',
  ({ name, config, ...limits }) => {
    const { status, output, schemas, buffers, functions } = costOf(name, config)
    expect({ status, output }).toEqual({
      status: 0,
      output: expect.stringContaining('"cniVersion": "1.1.0"'),
    })
    expect(buffers).toBe(0)
    expect(schemas > 0).toBe(limits.schemas > 0) // they are counted at all
    expect(schemas).toBeLessThanOrEqual(limits.schemas)
    expect(functions).toHaveLength(limits.functions)
  },
)
