/** What an interface was like before tuning, in the Go plugin’s place and form. */
import { afterEach, describe, expect, test } from 'bun:test'
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { removeLink } from '../../../chain/linux/netlink/link.ts'
import { tuning } from '../../../meta/tuning.ts'
import { mustCall, mustExecute, peerExecutable } from '../../fixtures/plugin.ts'
import { allAttributes, attributesOf, backups, callFor, folder, mac, tuned, wired } from './wired.ts'

afterEach(() => {
  rmSync('/etc/cni/tuning', { recursive: true, force: true })
  rmSync(folder, { recursive: true, force: true })
})

describe('the backup', () => {
  test("is in the Go plugin's place and form", async () => {
    using net = wired()
    const { address } = net.container.link('eth0')
    await mustCall(tuning, 'ADD', callFor(net.container, { mac, mtu: 1400 }))
    const path = `${folder}/container-1_eth0.json`
    expect(readFileSync(path, 'utf8')).toBe(
      `{\n "mac": "${address}",\n "mtu": 1500,\n "network": "test-net"\n}`,
    )
    expect(statSync(path).mode & 0o777).toBe(0o600)
  })

  test('a second ADD does not overwrite what was there at first', async () => {
    using net = wired()
    const before = attributesOf(net.container)
    await mustCall(tuning, 'ADD', callFor(net.container, { mtu: 1400 }))
    await mustCall(tuning, 'ADD', callFor(net.container, { mtu: 1300, txQLen: 7 }))
    await mustCall(tuning, 'DEL', callFor(net.container, { mtu: 1300 }))
    expect(attributesOf(net.container)).toEqual(before)
  })

  test('what the Go plugin saved, ours restores', async () => {
    using net = wired()
    const before = attributesOf(net.container)
    mustExecute(peerExecutable('tuning'), 'ADD', callFor(net.container, allAttributes))
    expect(attributesOf(net.container)).toEqual(tuned)
    await mustCall(tuning, 'CHECK', callFor(net.container, allAttributes))
    await mustCall(tuning, 'DEL', callFor(net.container, allAttributes))
    expect({ link: attributesOf(net.container), files: backups() }).toEqual({ link: before, files: [] })
  })

  test('what ours saved, the Go plugin restores', async () => {
    using net = wired()
    const before = attributesOf(net.container)
    await mustCall(tuning, 'ADD', callFor(net.container, allAttributes))
    mustExecute(peerExecutable('tuning'), 'CHECK', callFor(net.container, allAttributes))
    mustExecute(peerExecutable('tuning'), 'DEL', callFor(net.container, allAttributes))
    expect({ link: attributesOf(net.container), files: backups() }).toEqual({ link: before, files: [] })
  })

  test('dataDir says where it is kept', async () => {
    using net = wired()
    const dataDir = '/run/elsewhere/deeper'
    await mustCall(tuning, 'ADD', callFor(net.container, { mtu: 1400, dataDir }))
    expect(readdirSync(dataDir)).toEqual(['container-1_eth0.json'])
    await mustCall(tuning, 'DEL', callFor(net.container, { mtu: 1400, dataDir }))
    expect(readdirSync(dataDir)).toEqual([])
  })

  test.each([
    { state: 'is gone', netns: '/run/netns/gone' },
    { state: 'was never named', netns: undefined },
    { state: 'is a file that somebody left', netns: '/run/left-over' },
  ])('is removed when the namespace $state', async ({ netns }) => {
    writeFileSync('/run/left-over', '')
    {
      using net = wired()
      await mustCall(tuning, 'ADD', callFor(net.container, allAttributes))
    }
    expect(backups()).toHaveLength(1)
    await mustCall(tuning, 'DEL', { netns, config: allAttributes })
    await mustCall(tuning, 'DEL', { netns, config: allAttributes })
    expect(backups()).toEqual([])
  })

  test.each(['', '{"mac":', '[]', 'null', '{"mac": 7, "mtu": "x"}', '{"mac": "not one"}'])(
    'DEL gets over one that holds %p',
    async text => {
      using net = wired()
      const before = attributesOf(net.container)
      mkdirSync(folder, { recursive: true })
      writeFileSync(`${folder}/container-1_eth0.json`, text)
      await mustCall(tuning, 'DEL', callFor(net.container, {}))
      expect({ link: attributesOf(net.container), files: backups() }).toEqual({ link: before, files: [] })
    },
  )

  test('DEL after the interface has gone leaves nothing', async () => {
    using net = wired()
    const call = callFor(net.container, allAttributes)
    await mustCall(tuning, 'ADD', call)
    removeLink(net.container.route, 'eth0')
    await mustCall(tuning, 'DEL', call)
    expect(backups()).toEqual([])
  })

  test('GC removes those of its network that no valid attachment owns', async () => {
    using net = wired()
    for (const [name, containerId] of [
      ['test-net', 'alive'],
      ['test-net', 'dead'],
      ['other-net', 'stranger'],
    ] as const) {
      await mustCall(tuning, 'ADD', callFor(net.container, { name, mtu: 1400 }, { containerId }))
    }
    writeFileSync(`${folder}/go_eth0.json`, '{\n "mtu": 1500\n}') // which network's is not known
    const valid = [{ containerID: 'alive', ifname: 'eth0' }]
    await mustCall(tuning, 'GC', { config: { 'cni.dev/valid-attachments': valid } })
    expect(backups().sort()).toEqual(['alive_eth0.json', 'go_eth0.json', 'stranger_eth0.json'])
  })
})
