/** Configurations of tuning that are refused, before anything is touched. */
import { afterEach, describe, expect, test } from 'bun:test'
import { rmSync } from 'node:fs'
import { tuning } from '../../../meta/tuning.ts'
import { call, mustCall } from '../../fixtures/plugin.ts'
import { snapshot } from '../../fixtures/snapshot.ts'
import { attributesOf, callFor, folder, resultFor, wired } from './wired.ts'

afterEach(() => {
  rmSync('/etc/cni/tuning', { recursive: true, force: true })
  rmSync(folder, { recursive: true, force: true })
})

describe('refused before anything is touched', () => {
  test.each([
    {
      config: { sysctl: { 'kernel.shmmax': '1' } },
      msg: 'sysctl.kernel.shmmax: invalid net sysctl key: "kernel.shmmax", because',
    },
    { config: { sysctl: { net: '1' } }, msg: 'sysctl.net: invalid net sysctl key: "net", because' },
    {
      config: { sysctl: { 'net/../kernel/shmmax': '1' } },
      msg: 'sysctl.net/../kernel/shmmax: invalid net sysctl key',
    },
    { config: { sysctl: { '../net.x': '1' } }, msg: 'sysctl.../net.x: invalid net sysctl key' },
    {
      config: { sysctl: { 'net..ipv4.ip_forward': '1' } },
      msg: 'sysctl.net..ipv4.ip_forward: invalid net sysctl key',
    },
    {
      config: { sysctl: { 'net.ipv4.ip_forward': 1 } },
      msg: 'sysctl.net.ipv4.ip_forward: must be a string: got 1',
    },
    {
      config: { sysctl: { 'net.ipv4.ip_forward': '1', 'net/ipv4/ip_forward': '0' } },
      msg: 'sysctl.net/ipv4/ip_forward: duplicated sysctl keys are not allowed: it means the same as sysctl.net.ipv4.ip_forward',
    },
    {
      config: { args: { cni: { sysctl: { 'kernel.x': '1' } } } },
      msg: 'args.cni.sysctl.kernel.x: invalid net sysctl key',
    },
    {
      config: { mac: '02:00:00:00:00' },
      msg: 'mac: invalid args 02:00:00:00:00 for MAC addr: address 02:00:00:00:00: invalid MAC address',
    },
    { config: { args: { cni: { mac: 'x' } } }, msg: 'args.cni.mac: invalid args x for MAC addr' },
    { config: { runtimeConfig: { mac: 'x' } }, msg: 'runtimeConfig.mac: invalid args x for MAC addr' },
    { config: { mtu: -1 }, msg: 'mtu: must be at least 0: got -1' },
    { config: { mtu: '1500' }, msg: 'mtu: must be a number: got "1500"' },
    { config: { txQLen: 1.5 }, msg: 'txQLen: must be an integer: got 1.5' },
    { config: { args: { cni: { txQLen: 1.5 } } }, msg: 'args.cni.txQLen: must be an integer: got 1.5' },
    { config: { promisc: 'yes' }, msg: 'promisc: must be true or false: got "yes"' },
    {
      config: { prevResult: null },
      msg: 'prevResult: tuning: Required prevResult missing: This plugin must be called as chained plugin, missing prevResult from earlier plugin',
    },
  ])('%#: $msg', async ({ config, msg }) => {
    using net = wired()
    const before = { link: attributesOf(net.container), host: snapshot() }
    const request = callFor(net.container, { mtu: 1400, ...config })
    const { json } = await call(tuning, 'ADD', request)
    expect(json).toMatchObject({ code: 7, msg: expect.stringContaining(msg) })
    expect({ link: attributesOf(net.container), host: snapshot() }).toEqual(before)
  })

  test.each(['ADD', 'CHECK'] as const)('%s refuses a sysctl that is written twice', async verb => {
    using net = wired()
    const start = JSON.stringify({ cniVersion: '1.1.0', name: 'x', prevResult: resultFor(net.container) })
    const twice = (sysctl: string) =>
      `${start.slice(0, -1)}, "other": {"a": 1, "b": {"a": 2}}, "sysctl": ${sysctl}}`
    const options = (config: string) => ({ netns: net.container, config })
    const double = twice('{"net.core.somaxconn": "4096", "x\\"{": "", "net.core.somaxconn": "4096"}')
    expect((await call(tuning, verb, options(double))).json).toMatchObject({
      code: 7,
      msg: 'sysctl.net.core.somaxconn: duplicated sysctl keys are not allowed',
    })
    await mustCall(tuning, verb, options(twice('{"net.core.somaxconn": "4096", "net.ipv4.ip_forward": "0"}')))
  })
})
