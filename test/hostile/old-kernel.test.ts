import { expect, test } from 'bun:test'
import { freshNamespace, hostNamespace } from '../fixtures/namespace.ts'
import { ours, type Verb } from '../fixtures/plugin.ts'

/** A plugin under a kernel that knows no option of any socket (ENOPROTOOPT), as those before 4.3 do of netlink's. */
function executeOnOldKernel(name: string, verb: Verb, netns: string, config: object) {
  const tracer = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'inject=setsockopt:error=ENOPROTOOPT']
  const { exitCode, stdout } = Bun.spawnSync([...tracer, `${ours}/${name}`], {
    stdin: Buffer.from(JSON.stringify({ cniVersion: '1.1.0', name: 'old-net', type: name, ...config })),
    env: {
      PATH: process.env.PATH ?? '',
      CNI_COMMAND: verb,
      CNI_CONTAINERID: 'old',
      CNI_NETNS: netns,
      CNI_IFNAME: 'eth0',
      CNI_PATH: ours,
    },
  })
  return { exitCode, json: stdout.length > 0 ? JSON.parse(stdout.toString()) : undefined }
}

test('ptp works where netlink has no options', () => {
  using host = hostNamespace()
  using container = freshNamespace('old')
  host.addAddress('lo', '10.6.0.1/32') // of another link, which a kernel without filters tells of too
  const ipam = { type: 'host-local', subnet: '10.5.0.0/24', routes: [{ dst: '0.0.0.0/0' }] }
  const before = host.links().length
  const added = executeOnOldKernel('ptp', 'ADD', container.path, { ipam })
  expect(added.exitCode, JSON.stringify(added.json)).toBe(0)
  expect(container.addresses('eth0')).toEqual([added.json.ips[0].address])
  const prevResult = added.json
  const checked = executeOnOldKernel('ptp', 'CHECK', container.path, { ipam, prevResult })
  expect(checked).toEqual({ exitCode: 0, json: undefined })
  const deleted = executeOnOldKernel('ptp', 'DEL', container.path, { ipam, prevResult })
  expect(deleted).toEqual({ exitCode: 0, json: undefined })
  expect(host.links()).toHaveLength(before)
})
