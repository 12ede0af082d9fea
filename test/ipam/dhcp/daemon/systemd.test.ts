import { expect, test } from 'bun:test'
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dhcp } from '../../../../ipam/dhcp.ts'
import { hostNamespace } from '../../../fixtures/namespace.ts'
import { call, mustCall, ourExecutable, ours } from '../../../fixtures/plugin.ts'
import { dnsmasq, lan, start } from '../network.ts'

const root = `${import.meta.dir}/../../../..`

function systemd(...command: string[]): string {
  const { exitCode, stderr, stdout } = Bun.spawnSync(command)
  if (exitCode !== 0) throw new Error(`${command.join(' ')}: status ${exitCode}: ${stderr}`)
  return `${stdout}${stderr}`
}

test('the build ships units that start the daemon where plugins usually are', () => {
  const service = readFileSync(`${ours}/cni-dhcp.service`, 'utf8')
  expect(service).toContain('\nExecStart=/opt/cni/bin/dhcp daemon\n')
  expect(readFileSync(`${ours}/cni-dhcp.socket`, 'utf8')).toContain('\nListenStream=/run/cni/dhcp.sock\n')
})

test('units for another place name it, and systemd finds nothing wrong with them', () => {
  const folder = mkdtempSync(`${tmpdir()}/units-`)
  try {
    const build = ['bun', `${root}/tools/build.ts`, '--quiet', '--separate', '--into', folder, 'loopback']
    systemd(...build, '--installed-in', folder)
    symlinkSync(ourExecutable('dhcp'), `${folder}/dhcp`)
    expect(readFileSync(`${folder}/cni-dhcp.service`, 'utf8')).toContain(
      `\nExecStart=${folder}/dhcp daemon\n`,
    )
    const units = ['service', 'socket'].map(kind => `${folder}/cni-dhcp.${kind}`)
    expect(systemd('systemd-analyze', 'verify', '--man=no', ...units)).not.toContain('cni-dhcp')
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('the first who asks starts the daemon, which takes the socket that systemd has opened, and leaves it there', async () => {
  using network = lan()
  using host = hostNamespace()
  await using server = await dnsmasq(network.namespace, {})
  const socket = '/run/activated.sock'
  const command = [
    'systemd-socket-activate',
    '-l',
    socket,
    ourExecutable('dhcp'),
    'daemon',
    '-socketpath',
    socket,
  ]
  await using dhcpDaemon = start(host, command)
  await dhcpDaemon.says(/Listening on/)
  const config = { ipam: { type: 'dhcp', daemonSocketPath: socket } }
  const container = network.attach('container')
  const result = await mustCall(dhcp, 'ADD', { config, netns: container })
  expect(await dhcpDaemon.says(/"event":"started","socket":"descriptor 3"/)).toBeDefined()
  await mustCall(dhcp, 'CHECK', { config: { ...config, prevResult: result }, netns: container })
  await mustCall(dhcp, 'DEL', { config, netns: container })
  await server.says(/DHCPRELEASE/)
  await dhcpDaemon.stop('SIGTERM')
  expect(existsSync(socket)).toBe(true)
})

test('more than one socket is a mistake in a unit, and told', async () => {
  using host = hostNamespace()
  const [one, two] = ['/run/activated-1.sock', '/run/activated-2.sock']
  const command = [
    'systemd-socket-activate',
    '-l',
    one,
    '-l',
    two,
    ourExecutable('dhcp'),
    'daemon',
    '-socketpath',
    one,
  ]
  await using dhcpDaemon = start(host, command)
  await dhcpDaemon.says(/Listening on .*activated-2/)
  const { json } = await call(dhcp, 'STATUS', { config: { ipam: { type: 'dhcp', daemonSocketPath: one } } })
  expect(json.code).toBe(50)
  expect(await dhcpDaemon.says(/LISTEN_FDS: one socket is expected: got 2/)).toBeDefined()
})
