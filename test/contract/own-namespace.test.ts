/** CNI_NETNS_OVERRIDE lets a container's namespace be the plugin's own: ADD, CHECK, DEL as in any other, by ours as by the Go plugins. */
import { afterEach, expect, test } from 'bun:test'
import { removeLink, setLink } from '../../chain/linux/netlink/link.ts'
import { hostNamespace } from '../fixtures/namespace.ts'
import { execute, ours, peers } from '../fixtures/plugin.ts'
import { difference } from '../fixtures/snapshot.ts'
import { type Feature, testOn } from '../kernel/features.ts'
import { hostState } from './attachment.ts'
import type { Step } from './rows.ts'

const BRIDGE = 'own0'
const MASTER = 'ownmaster'
const ipam = { type: 'host-local', ranges: [[{ subnet: '10.66.0.0/24' }]], routes: [{ dst: '10.67.0.0/24' }] }
const bridge: Step = { type: 'bridge', bridge: BRIDGE, isGateway: true, ipam }

afterEach(() => {
  using host = hostNamespace()
  for (const name of [BRIDGE, MASTER]) removeLink(host.route, name)
  setLink(host.route, 'lo', { up: true }) // which DEL of loopback takes down, and other tests need
})

const lists: { name: string; steps: Step[]; needs?: Feature[]; interface?: string }[] = [
  { name: 'bridge', steps: [{ ...bridge, hairpinMode: true }] },
  { name: 'ptp', steps: [{ type: 'ptp', ipMasq: true, ipam }] },
  { name: 'loopback', steps: [{ type: 'loopback' }], interface: 'lo' },
  { name: 'macvlan', steps: [{ type: 'macvlan', master: MASTER, ipam }], needs: ['macvlan'] },
  { name: 'ipvlan', steps: [{ type: 'ipvlan', master: MASTER, ipam }], needs: ['ipvlan'] },
  { name: 'vlan', steps: [{ type: 'vlan', master: MASTER, vlanId: 7, ipam }], needs: ['vlan'] },
  { name: 'tap', steps: [{ type: 'tap', ipam }], needs: ['tun'] },
  { name: 'tuning', steps: [bridge, { type: 'tuning', mtu: 1400 }] },
  {
    name: 'bandwidth',
    steps: [
      bridge,
      { type: 'bandwidth', ingressRate: 8e6, ingressBurst: 8e6, egressRate: 8e6, egressBurst: 8e6 },
    ],
    needs: ['tbf', 'ingress', 'ifb'],
  },
]

function isAsInAnyOther({ steps, interface: name = 'own1' }: (typeof lists)[number], folder: string): void {
  using host = hostNamespace()
  host.createLink({ name: MASTER, up: true, kind: { type: 'veth', peer: { name: 'ownpeer' } } })
  const before = hostState()
  let prevResult: unknown
  const call = (verb: 'ADD' | 'CHECK' | 'DEL', step: Step) => {
    const { status, stdout, json } = execute(`${folder}/${step.type}`, verb, {
      netns: '/proc/self/ns/net',
      interface: name,
      environment: { CNI_NETNS_OVERRIDE: '1' },
      config: { ...step, cniVersion: '1.0.0', ...(prevResult === undefined ? {} : { prevResult }) },
    })
    expect({ verb, type: step.type, status, stdout: status === 0 ? '' : stdout }).toMatchObject({ status: 0 })
    return json
  }
  for (const step of steps) prevResult = call('ADD', step)
  for (const step of steps) call('CHECK', step)
  for (const step of steps.toReversed()) call('DEL', step)
  removeLink(host.route, BRIDGE)
  expect(difference(before, hostState()).added.filter(line => /own[01]\b|10\.66/.test(line))).toEqual([])
}

for (const each of lists) {
  for (const [side, folder] of [
    ['ours', ours],
    ['the Go plugin', peers],
  ] as const) {
    const title = `${each.name} in the namespace of the plugin itself, by ${side}`
    if (each.needs) testOn(each.needs, title, () => isAsInAnyOther(each, folder))
    else test(title, () => isAsInAnyOther(each, folder))
  }
}
