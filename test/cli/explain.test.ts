/** The flight recorder, and `catena explain`, which reads it: what was asked, what was done, what failed, what never came to its end. */
import { expect, test } from 'bun:test'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { describeStory } from '../../chain/cli/explain/print.ts'
import { type ContainerStory, storyOf } from '../../chain/cli/explain/story.ts'
import { styleFor } from '../../chain/cli/render.ts'
import { operationsOf, type Run, readRuns } from '../../chain/observe/runs.ts'
import { RECORDS, RECORDS_FOLDER } from '../../chain/plugin/record.ts'
import { bridge } from '../../main/bridge.ts'
import { tuning } from '../../meta/tuning.ts'
import { freshNamespace } from '../fixtures/namespace.ts'
import { CONFIGURATIONS, freshNode } from '../fixtures/node.ts'
import { call, ourExecutable } from '../fixtures/plugin.ts'

const forget = () => rmSync(RECORDS_FOLDER, { recursive: true, force: true })
const POD: [string, string][] = [
  ['IgnoreUnknown', '1'],
  ['K8S_POD_NAMESPACE', 'shop'],
  ['K8S_POD_NAME', 'web-0'],
  ['TOKEN', 'very-secret-1'],
]

function only(asked: string): ContainerStory {
  const { containers } = storyOf(asked)
  expect(containers).toHaveLength(1)
  return containers[0] as ContainerStory
}

const words = (asked: string, all = false, width = 80) =>
  describeStory(storyOf(asked), { style: styleFor({ isTerminal: false }), width, all })

test('a chain is told by plugin, with what each did to the machine, whatever name one has for its container', async () => {
  forget()
  await using node = await freshNode()
  node.network('shop', '10.41.0.0/24')
  const { containerId, result } = await node.add('shop', 'web-0', { args: POD })
  const story = only('shop/web-0')
  expect(story).toMatchObject({
    container: containerId,
    attachments: [{ label: 'live' }],
    findings: [],
    advice: [],
  })
  const [operation] = story.operations
  expect(operation).toMatchObject({ verb: 'ADD', network: 'shop', ifname: 'eth0' })
  expect(operation?.runs).toMatchObject([
    { plugin: 'bridge', outcome: 'succeeded', depth: 0, addresses: [result.ips[0].address] },
    { plugin: 'host-local', outcome: 'succeeded', depth: 1, addresses: [result.ips[0].address] },
    { plugin: 'portmap', outcome: 'succeeded', depth: 0 },
  ])
  const done = operation?.runs[0]?.deeds?.flatMap(({ what }) => what) ?? []
  expect(done).toContain('create bridge br-shop')
  expect(done.filter(what => /^(look up|list|read)/.test(what))).toEqual([])
  for (const name of ['web-0', containerId]) expect(only(name).container).toBe(containerId)
  expect(words('web-0', true)).toContain('create bridge br-shop')
})

test('what failed is told in its own words, with what to look at', async () => {
  forget()
  using container = freshNamespace('container')
  const config = { sysctl: { 'net.ipv4.conf.IFNAME.no_such': '1' }, prevResult: { ips: [] } }
  const { json } = await call(tuning, 'ADD', { netns: container, config, containerId: 'broken' })
  const story = only('broken')
  expect(story.operations[0]?.runs).toMatchObject([
    { plugin: 'tuning', outcome: 'failed', error: { code: json.code, msg: json.msg, details: json.details } },
  ])
  expect(words('broken')).toContain('failed at tuning')
  expect(story.advice.length).toBeGreaterThan(0)
})

test('whoever was killed never came to its end, and what it had asked for is known', async () => {
  forget()
  using container = freshNamespace('container')
  const folder = '/run/slow-ipam'
  mkdirSync(folder, { recursive: true })
  writeFileSync(`${folder}/slow`, '#!/bin/sh\nkill -9 $PPID\nsleep 1\n', { mode: 0o755 })
  const child = Bun.spawnSync([ourExecutable('bridge')], {
    env: {
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: 'killed',
      CNI_NETNS: container.path,
      CNI_IFNAME: 'eth0',
      CNI_PATH: folder,
    },
    stdin: Buffer.from(
      JSON.stringify({ cniVersion: '1.1.0', name: 'net', bridge: 'br-killed', ipam: { type: 'slow' } }),
    ),
  })
  expect(child.signalCode).toBe('SIGKILL')
  const story = only('killed')
  expect(story.operations).toMatchObject([
    {
      verb: 'ADD',
      network: 'net',
      runs: [{ plugin: 'bridge', outcome: 'unfinished', netns: container.path }],
    },
  ])
  expect(story.advice[0]).toContain('bridge was killed in the middle of ADD')
  expect(
    (
      await call(bridge, 'DEL', {
        netns: container,
        containerId: 'killed',
        config: { name: 'net', bridge: 'br-killed' },
      })
    ).status,
  ).toBe(0)
  expect(only('killed').operations.map(({ verb }) => verb)).toEqual(['ADD', 'DEL'])
  Bun.spawnSync(['ip', 'link', 'delete', 'br-killed'])
  rmSync(folder, { recursive: true })
})

test('torn lines, and lines of others, are passed over', () => {
  forget()
  mkdirSync(RECORDS_FOLDER, { recursive: true })
  const whole = {
    v: 1,
    id: '1.1.1',
    at: 1,
    pid: 2 ** 30,
    parent: 1,
    plugin: 'ptp',
    verb: 'ADD',
    container: 'c',
  }
  writeFileSync(
    RECORDS,
    `{"v":1,"id":"0.\n[]\nnull\n{"v":2,"id":"x"}\n${JSON.stringify(whole)}\n{"v":1,"id":"1.1.`,
  )
  expect(readRuns()).toMatchObject([{ id: '1.1.1', outcome: 'unfinished' }])
})

test('plugins of one chain are one operation; a retry, another verb, and another interface are others', () => {
  const run = (at: number, plugin: string, more: Partial<Run> = {}): Run => ({
    id: `${at}`,
    at,
    pid: at,
    parent: 1,
    plugin,
    verb: 'ADD',
    container: 'c',
    ifname: 'eth0',
    network: 'n',
    took: 1,
    outcome: 'succeeded',
    depth: 0,
    ...more,
  })
  const operations = operationsOf([
    run(0, 'bridge'),
    run(10, 'portmap', { outcome: 'failed' }),
    run(20, 'portmap', { verb: 'DEL' }),
    run(30, 'bridge', { verb: 'DEL' }),
    run(40, 'bridge'),
    run(41, 'bridge', { ifname: 'net1' }),
    run(50, 'portmap'),
    run(60_000, 'tuning'),
  ])
  expect(
    operations.map(({ verb, ifname, runs }) => [verb, ifname, ...runs.map(({ plugin }) => plugin)]),
  ).toEqual([
    ['ADD', 'eth0', 'bridge', 'portmap'],
    ['DEL', 'eth0', 'portmap', 'bridge'],
    ['ADD', 'eth0', 'bridge', 'portmap'],
    ['ADD', 'net1', 'bridge'],
    ['ADD', 'eth0', 'tuning'],
  ])
})

test('the command: a story, what was done of late, and exit status 1 for what is unknown', async () => {
  forget()
  await using node = await freshNode()
  node.network('late', '10.42.0.0/24')
  await node.add('late', 'web', {})
  const catena = (...argv: string[]) => {
    const { exitCode, stdout } = Bun.spawnSync([ourExecutable('catena'), 'explain', ...argv], {
      env: { PATH: process.env.PATH, NETCONFPATH: CONFIGURATIONS },
    })
    return { status: exitCode, json: JSON.parse(`${stdout}`) }
  }
  expect(catena('web')).toMatchObject({ status: 0, json: { version: 1, containers: [{ container: 'web' }] } })
  expect(catena()).toMatchObject({
    status: 0,
    json: { version: 1, operations: [{ container: 'web', verb: 'ADD' }] },
  })
  expect(catena('unheard-of')).toEqual({
    status: 1,
    json: { version: 1, asked: 'unheard-of', containers: [] },
  })
  for (const line of words('web', true, 40).split('\n')) expect(line.length).toBeLessThanOrEqual(60)
})
