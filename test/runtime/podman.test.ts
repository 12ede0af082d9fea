/** podman as people use it: containers with published ports, several networks and fixed addresses, all through our executables. */
import { expect, setDefaultTimeout, test } from 'bun:test'
import { outsideHost, withoutMemory } from '../fixtures/bridge.ts'
import { getHttp, serveHttp } from '../fixtures/http.ts'
import { hostNamespace, type Namespace } from '../fixtures/namespace.ts'
import { freshPodman, type Podman } from '../fixtures/podman.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'

setDefaultTimeout(120_000) // podman starts dozens of programs

const page = 'Hello from podman!'
const server = ['localhost/busybox', '/bin/httpd', '-f', '-p', '80', '-h', '/www']
const fixed = 'one:ip=10.71.0.9,mac=02:00:00:00:71:09,interface_name=eth0'

/** Two networks, the second with both families; dnsname is a plugin of its own, which podman would want otherwise. */
async function createNetworks(podman: Podman): Promise<void> {
  await podman.run('network', 'create', '--disable-dns', '--subnet', '10.71.0.0/16', 'one')
  const subnets = ['--subnet', '10.72.0.0/16', '--subnet', 'fd00:72::/64']
  await podman.run('network', 'create', '--disable-dns', '--ipv6', ...subnets, 'two')
}

/**
 * What stays of the plugin firewall: the administrator's chain, and the way there. The Go plugins leave that as well, tried
 * with the same podman, and their chains of table nat.
 */
const administrators =
  /"(table":"filter","name":"(FORWARD|CNI-FORWARD|CNI-ADMIN)"|chain":"(FORWARD|CNI-FORWARD)",.*\{"target":"CNI-(FORWARD|ADMIN)"\})|\{"table":\{"family":"ip6?","name":"filter"\}\}/

const hostState = () => withoutMemory(snapshot()).filter(line => !administrators.test(line))

/** No terminals: podman would give them the group 5, which a user who is root only here has not. */
const terminals = ['--mount', 'type=tmpfs,destination=/dev/pts']

const run = (podman: Podman, ...words: string[]) =>
  podman.run('run', '--detach', ...terminals, ...words, ...server)

/** What a container's interfaces have, as "eth0 10.71.0.9/16". */
async function addressesIn(podman: Podman, container: string): Promise<string[]> {
  const lines = await podman.run('exec', container, '/bin/ip', '-o', 'addr', 'show', 'scope', 'global')
  return lines
    .split('\n')
    .map(line => line.replace(/^\d+: (\S+)\s+inet6? (\S+).*$/, '$1 $2'))
    .sort()
}

async function expectPages(from: Namespace, ...addresses: string[]): Promise<void> {
  for (const address of addresses) expect(await getHttp(from, { address, port: 8080 })).toBe(page)
}

test('a container with a published port, two networks and a fixed address, of which nothing is left', async () => {
  await using podman = await freshPodman({ page })
  using outside = outsideHost()
  using host = hostNamespace()
  const before = hostState()
  await createNetworks(podman)
  const { plugins } = await podman.conflist('one')
  expect(plugins.map(({ type }) => type)).toEqual(['bridge', 'portmap', 'firewall', 'tuning'])

  await run(
    podman,
    '--name',
    'web',
    '--network',
    fixed,
    '--network',
    'two:interface_name=eth1',
    '--publish',
    '8080:80',
  )
  const inside = await addressesIn(podman, 'web')
  expect(inside).toEqual(['eth0 10.71.0.9/16', 'eth1 10.72.0.2/16', 'eth1 fd00:72::2/64'])
  expect(await podman.run('exec', 'web', '/bin/ip', 'link', 'show', 'eth0')).toContain('02:00:00:00:71:09')
  await expectPages(outside, '192.0.2.1', '2001:db8::1')
  await expectPages(host, '127.0.0.1', '10.71.0.1')

  await run(podman, '--name', 'client', '--network', 'two')
  const fetch = (address: string, container = 'client') =>
    podman.run('exec', container, '/bin/wget', '-q', '-O', '-', `http://${address}/`)
  expect(await fetch('10.72.0.2:80')).toBe(page)
  expect(await fetch('[fd00:72::2]:80')).toBe(page)
  expect(await fetch('192.0.2.1:8080')).toBe(page)
  using visited = serveHttp(outside, { port: 80 })
  await fetch('192.0.2.2:80')
  await fetch('192.0.2.2:80', 'web')
  expect(visited.clients).toEqual(['192.0.2.1', '192.0.2.1']) // masqueraded

  await podman.run('rm', '--force', '--time', '0', 'web', 'client')
  await podman.run('network', 'rm', 'one', 'two')
  expect(difference(before, hostState())).toEqual({ added: [], gone: [] })
})

test('a network is left and joined while the container runs, and a restart brings the same address and port back', async () => {
  await using podman = await freshPodman({ page })
  using outside = outsideHost()
  const before = hostState()
  await createNetworks(podman)
  await run(podman, '--name', 'web', '--network', fixed, '--publish', '8080:80')
  await podman.run('network', 'connect', 'two', 'web')
  expect(await addressesIn(podman, 'web')).toContainEqual(expect.stringMatching(/^eth1 10\.72\./))
  await podman.run('network', 'disconnect', 'two', 'web')
  await podman.run('restart', '--time', '0', 'web')
  expect(await addressesIn(podman, 'web')).toEqual(['eth0 10.71.0.9/16'])
  await expectPages(outside, '192.0.2.1')
  await podman.run('rm', '--force', '--time', '0', 'web')
  await podman.run('network', 'rm', 'one', 'two')
  expect(difference(before, hostState())).toEqual({ added: [], gone: [] })
})
