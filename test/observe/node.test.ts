import { expect, test } from 'bun:test'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { removeLink } from '../../chain/linux/netlink/link.ts'
import { removeNamespace } from '../../chain/linux/netns.ts'
import { readReservations } from '../../chain/observe/files.ts'
import { hostNamespace } from '../fixtures/namespace.ts'
import { freshNode, seen } from '../fixtures/node.ts'

const ports = (hostPort: number) => ({
  portMappings: [{ hostPort, containerPort: 80, protocol: 'tcp' }],
})

test('what our plugins and the Go plugins have made is seen alike: live, with addresses, ports and what says so', async () => {
  await using node = await freshNode()
  node.network('ours', '10.31.0.0/24')
  node.network('theirs', '10.32.0.0/24')
  await node.add('ours', 'web', { capabilityArgs: ports(8080) })
  await node.add('theirs', 'db', { by: 'go', capabilityArgs: ports(5432) })
  const { reservations, links, filters, records, unreadable, ...model } = seen()
  // a namespace that a test before has left open in this process is another's
  const attachments = model.attachments.filter(({ label }) => label !== 'foreign')
  const namespaces = model.namespaces.filter(({ label }) => label !== 'foreign')
  expect(
    attachments.map(({ name, network, label, addresses, ports, disagreements, host }) => ({
      name,
      network,
      label,
      addresses,
      port: ports[0]?.hostPort,
      disagreements,
      host: host?.name.slice(0, 4),
    })),
  ).toEqual([
    {
      name: 'web',
      network: 'ours',
      label: 'live',
      addresses: ['10.31.0.2/24'],
      port: 8080,
      disagreements: [],
      host: 'veth',
    },
    {
      name: 'db',
      network: 'theirs',
      label: 'live',
      addresses: ['10.32.0.2/24'],
      port: 5432,
      disagreements: [],
      host: 'veth',
    },
  ])
  expect(reservations.map(({ address, label }) => [address, label])).toEqual([
    ['10.31.0.2', 'live'],
    ['10.32.0.2', 'live'],
  ])
  expect(
    links
      .filter(({ role }) => role !== 'other')
      .map(({ role, label }) => `${role} ${label}`)
      .toSorted(),
  ).toEqual(['bridge live', 'bridge live', 'host end live', 'host end live'])
  expect(new Set(filters.map(({ maker, label }) => `${maker} ${label}`))).toEqual(
    new Set(['catena live', 'go live']),
  )
  expect(new Set(records.map(({ label }) => label))).toEqual(new Set(['live']))
  expect(namespaces.map(({ label }) => label)).toEqual(['live', 'live'])
  expect(unreadable).toEqual([])
})

test('what is left of containers that are gone is an orphan by two signs, by whomever it was made', async () => {
  await using node = await freshNode()
  node.network('ours', '10.31.0.0/24')
  node.network('theirs', '10.32.0.0/24')
  const gone = [
    await node.add('ours', 'web', { capabilityArgs: ports(8080) }),
    await node.add('theirs', 'db', { by: 'go', capabilityArgs: ports(5432) }),
  ]
  for (const { netns } of gone) removeNamespace(netns)
  using host = hostNamespace()
  for (const { kind, index } of host.links()) if (kind === 'veth') removeLink(host.route, index) // the kernel does it a moment later
  const labels = () => {
    const { attachments, reservations, filters, records } = seen()
    return [attachments, reservations, filters, records].map(each => [
      ...new Set(each.map(({ label }) => label)),
    ])
  }
  expect(labels()).toEqual([['orphan'], ['orphan'], ['orphan'], ['orphan']])
  rmSync('/var/lib/cni/results', { recursive: true })
  expect(labels()).toEqual([[], ['orphan'], ['orphan'], ['orphan']])
})

test('a container whose cache is gone is still seen, and nothing of it is an orphan', async () => {
  await using node = await freshNode()
  node.network('ours', '10.31.0.0/24')
  node.network('theirs', '10.32.0.0/24')
  await node.add('ours', 'web', { capabilityArgs: ports(8080) })
  await node.add('theirs', 'db', { by: 'go', capabilityArgs: ports(5432) })
  rmSync('/var/lib/cni/results', { recursive: true })
  const { attachments, reservations, filters, links, records } = seen()
  expect(attachments.map(({ name, network, label }) => ({ name, network, label }))).toEqual([
    { name: 'web', network: 'ours', label: 'unknown' },
    { name: 'db', network: 'theirs', label: 'unknown' },
  ])
  for (const each of [reservations, filters, links, records])
    expect(each.filter(({ label }) => label === 'orphan')).toEqual([])
})

test("the namespace of podman's container is that of its result: its libcni names none beside it", async () => {
  await using node = await freshNode()
  node.network('ours', '10.31.0.0/24')
  await node.add('ours', 'web')
  const path = '/var/lib/cni/results/ours-web-eth0'
  const { netns, ...older } = JSON.parse(readFileSync(path, 'utf8'))
  writeFileSync(path, JSON.stringify(older))
  expect(seen().attachments).toMatchObject([
    { name: 'web', netns, label: 'live', sources: ['cache', 'namespace', 'alias'] },
  ])
})

test('a reservation that a power cut has torn is nobody’s, as host-local has it', () => {
  const folder = '/run/torn/net'
  mkdirSync(folder, { recursive: true })
  for (const [address, text] of [
    ['10.1.0.2', '\r\neth0'],
    ['10.1.0.3', ''],
    ['10.1.0.4', 'c1\r\neth0'],
    ['10.1.0.5', 'c2'],
  ] as const)
    writeFileSync(`${folder}/${address}`, text)
  expect(readReservations(['/run/torn']).map(({ containerId }) => containerId)).toEqual([
    undefined,
    undefined,
    'c1',
    'c2',
  ])
  rmSync('/run/torn', { recursive: true })
})
