import { expect, test } from 'bun:test'
import { freshNamespace } from './fixtures/namespace.ts'
import { ourExecutable, ours } from './fixtures/plugin.ts'

const addresses = { type: 'host-local', ranges: [[{ subnet: '10.77.0.0/16' }], [{ subnet: 'fd77::/64' }]] }
const portMappings = [
  { hostPort: 8080, containerPort: 80, protocol: 'tcp' },
  { hostPort: 5353, containerPort: 53, protocol: 'udp', hostIP: '127.0.0.1' },
]

/** Lists that make every table of ours, from nothing. */
const lists: { name: string; plugins: object[] }[] = [
  {
    name: 'bridge and portmap',
    plugins: [
      { type: 'bridge', bridge: 'cni77', isGateway: true, ipMasq: true, macspoofchk: true, ipam: addresses },
      { type: 'portmap', runtimeConfig: { portMappings } },
    ],
  },
  { name: 'ptp', plugins: [{ type: 'ptp', ipMasq: true, ipam: addresses }] },
]

/** Where neither nft nor any other program of nf_tables can be executed. */
const HIDE = 'for program in "$@"; do mount --bind /dev/null "$program" || exit 1; done; exec "$0"'

test.each(lists)(
  '$name: all verbs work from the first container to the last on a node without nft',
  ({ plugins }) => {
    using host = freshNamespace('host')
    using container = freshNamespace('container')
    let prevResult: unknown
    const call = (verb: string, plugin: object) => {
      const { type } = plugin as { type: string }
      const programs = ['nft', 'iptables', 'ip6tables']
        .map(name => Bun.which(name))
        .filter(path => path !== null)
      const { exitCode, stdout, stderr } = host.inside(() =>
        Bun.spawnSync(['unshare', '--mount', 'sh', '-c', HIDE, ourExecutable(type), ...programs], {
          env: {
            PATH: process.env.PATH ?? '',
            CNI_COMMAND: verb,
            CNI_CONTAINERID: 'without-nft',
            CNI_NETNS: container.path,
            CNI_IFNAME: 'eth0',
            CNI_PATH: ours,
          },
          stdin: Buffer.from(JSON.stringify({ cniVersion: '1.1.0', name: 'no-nft', ...plugin, prevResult })),
        }),
      )
      expect({ verb, type, exitCode, output: exitCode === 0 ? '' : `${stdout}${stderr}` }).toEqual({
        verb,
        type,
        exitCode: 0,
        output: '',
      })
      return stdout.toString()
    }
    for (const plugin of plugins) call('STATUS', plugin)
    for (const plugin of plugins) prevResult = JSON.parse(call('ADD', plugin))
    expect(host.run('nft', 'list', 'ruleset')).toContain('table ip6 catena')
    for (const plugin of plugins) call('CHECK', plugin)
    for (const plugin of plugins.toReversed()) call('DEL', plugin)
    expect(host.run('nft', 'list', 'ruleset')).toBe('')
  },
)
