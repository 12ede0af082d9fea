/** Version 0.1.0 adds, this version goes on: run by upgrade.sh, which builds the older one. */
import { afterAll, expect, test } from 'bun:test'
import { linkSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { removeLink } from '../../chain/linux/netlink/link.ts'
import { type Attachment, callStep, detach, hostState } from '../contract/attachment.ts'
import { type Node, type Row, rows, titleOf } from '../contract/rows.ts'
import { freshNamespace, hostNamespace } from '../fixtures/namespace.ts'
import { execute, mustExecute, ourExecutable } from '../fixtures/plugin.ts'
import { difference } from '../fixtures/snapshot.ts'
import { daemonAt, dnsmasq } from '../ipam/dhcp/network.ts'
import { testOn } from '../kernel/features.ts'

const cache = `${import.meta.dir}/../../.cache`
const older = `${cache}/older`
const place = mkdtempSync(`${cache}/upgrade-`) // beside it: links instead of copies
afterAll(() => rmSync(place, { recursive: true }))

/** A folder that the older version was installed into, and this one over it. */
const upgraded = (() => {
  const folder = `${place}/opt/cni/bin`
  mkdirSync(folder, { recursive: true })
  for (const name of ['catena', 'bridge', 'dhcp', 'host-local'])
    linkSync(`${older}/${name}`, `${folder}/${name}`)
  const { exitCode, stdout } = Bun.spawnSync([ourExecutable('catena'), 'install', '--root', place])
  expect({ exitCode, ...JSON.parse(stdout.toString()).changes }).toMatchObject({
    exitCode: 0,
    catena: 'replaced',
    'host-local': 'replaced',
    portmap: 'installed',
  })
  return folder
})()

function attachBy(folder: string, { steps: stepsFor }: Pick<Node, 'steps'>, network: string): Attachment {
  const container = freshNamespace('upgrade')
  const steps = stepsFor(container)
  let result: unknown
  for (const step of steps) {
    const config = { name: network, ...step, ...(result === undefined ? {} : { prevResult: result }) }
    result = mustExecute(`${folder}/${step.type}`, 'ADD', {
      netns: container,
      containerId: container.name,
      config,
    })
  }
  return { container, steps, result }
}

function check({ container, steps, result: prevResult }: Attachment, network: string): void {
  for (const step of steps) {
    const config = { name: network, ...step, prevResult }
    const call = { netns: container, containerId: container.name, config }
    const { status, stdout } = execute(`${upgraded}/${step.type}`, 'CHECK', call)
    expect({ type: step.type, status, stdout }).toEqual({ type: step.type, status: 0, stdout: '' })
  }
}

const deletionOf = ({ container, steps, result: prevResult }: Attachment, network: string) => ({
  network,
  steps,
  netns: container.path,
  prevResult,
})

/** GC over the list: one is alive, all others are not. */
async function collectBut({ container, steps }: Attachment, network: string): Promise<void> {
  const valid = [{ containerID: container.name, ifname: 'eth0' }]
  for (const step of steps) {
    const { status, stdout } = await callStep(
      'GC',
      { ...step, 'cni.dev/valid-attachments': valid },
      { network },
    )
    expect({ type: step.type, status, stdout }).toEqual({ type: step.type, status: 0, stdout: '' })
  }
}

let networks = 0

async function isTakenOver(row: Row): Promise<void> {
  const network = `upgrade-${process.pid}-${++networks}`
  await using node = await row.node()
  const stays = attachBy(upgraded, node, network) // so that what containers share is there before and after
  const before = hostState()
  const one = attachBy(older, node, network)
  const other = attachBy(older, node, network)
  check(one, network)
  const beside = attachBy(upgraded, node, network)
  check(beside, network)
  expect(await detach(beside, deletionOf(beside, network))).toEqual([])
  await node.tidy?.(beside.container)
  check(one, network)
  for (const turn of ['first', 'second'])
    expect({ turn, failures: await detach(one, deletionOf(one, network)) }).toEqual({ turn, failures: [] })
  await node.tidy?.(one.container)
  check(other, network)
  other.container[Symbol.dispose]()
  await collectBut(stays, network)
  await node.tidy?.(other.container)
  expect(difference(before, hostState())).toEqual({ added: [], gone: [] })
  check(stays, network)
  expect(await detach(stays, deletionOf(stays, network))).toEqual([])
  await node.tidy?.(stays.container)
  for (const { container } of [stays, one, beside]) container[Symbol.dispose]()
}

for (const row of rows.filter(({ plugin }) => plugin !== 'dhcp')) {
  const title = `${titleOf(row)}: what 0.1.0 has added is checked, deleted and collected, beside containers of this version`
  if (row.needs) testOn(row.needs, title, () => isTakenOver(row))
  else test(title, () => isTakenOver(row))
}

test('dhcp: the lease that a daemon of 0.1.0 has asked for is kept by one of this version, and given back', async () => {
  const network = 'upgrade-dhcp'
  using host = hostNamespace()
  host.createLink(
    { name: 'contract4', address: '02:00:00:00:09:01', kind: { type: 'bridge' } },
    '10.9.0.1/24',
  )
  await using _server = await dnsmasq(host, { interface: 'contract4' })
  const socket = '/run/cni/upgrade.sock'
  const before = hostState()
  const old = Bun.spawn([`${older}/dhcp`, 'daemon', '-socketpath', socket], { stderr: 'pipe' })
  await old.stderr.getReader().read() // "started"
  const ipam = { type: 'dhcp', daemonSocketPath: socket }
  const attachment = attachBy(
    older,
    { steps: () => [{ type: 'bridge', bridge: 'contract4', ipam }] },
    network,
  )
  old.kill('SIGTERM')
  expect(await old.exited).toBe(0)
  await using daemon = await daemonAt(socket) // in this process, which no plugin may hold up
  expect(await daemon.event('adopted')).toBeDefined()
  const { container, steps, result: prevResult } = attachment
  for (const step of steps) {
    const { status, stdout } = await callStep(
      'CHECK',
      { ...step, prevResult },
      { network, container, netns: container },
    )
    expect({ status, stdout }).toEqual({ status: 0, stdout: '' })
  }
  expect(await detach(attachment, deletionOf(attachment, network))).toEqual([])
  expect(await daemon.event('released')).toBeDefined()
  await daemon.end()
  container[Symbol.dispose]()
  expect(difference(before, hostState())).toEqual({ added: [], gone: [] })
  removeLink(host.route, 'contract4')
})

test('the cache: what the command of 0.1.0 has added is listed, checked, deleted and collected by this one', () => {
  const configurations = `${place}/net.d`
  mkdirSync(configurations)
  const plugins = [
    { type: 'ptp', ipMasq: true, ipam: { type: 'host-local', ranges: [[{ subnet: '10.40.0.0/24' }]] } },
    { type: 'portmap', capabilities: { portMappings: true } },
  ]
  const list = { cniVersion: '1.0.0', name: 'upgrade-cache', plugins }
  writeFileSync(`${configurations}/10.conflist`, JSON.stringify(list))
  const run = (folder: string, ...words: string[]) => {
    const env = { PATH: process.env.PATH, NETCONFPATH: configurations, CNI_PATH: folder }
    const { exitCode, stdout } = Bun.spawnSync([`${folder}/catena`, ...words], { env })
    const text = stdout.toString()
    expect({ words, exitCode, text }).toMatchObject({ words, exitCode: 0 })
    return text === '' ? undefined : JSON.parse(text)
  }
  const before = hostState()
  const portMappings = [{ hostPort: 8091, containerPort: 80, protocol: 'tcp' }]
  const [one, other] = ['one', 'other'].map(label => freshNamespace(label))
  if (!one || !other) throw new Error('there are no namespaces')
  const ports = ['--cap-args', JSON.stringify({ portMappings })]
  run(older, 'add', list.name, one.path, ...ports)
  run(older, 'add', list.name, other.path)
  expect(run(upgraded, 'list', list.name)).toMatchObject([{ network: list.name }, { network: list.name }])
  run(upgraded, 'check', list.name, one.path)
  run(upgraded, 'del', list.name, one.path) // the ports are the cache's to know
  run(upgraded, 'check', list.name, other.path)
  run(upgraded, 'gc', list.name)
  expect(run(upgraded, 'list', list.name)).toEqual([])
  expect(difference(before, hostState()).added.filter(line => !/"(table|chain|set|map)"/.test(line))).toEqual(
    [],
  )
  for (const each of [one, other]) each[Symbol.dispose]()
})
