/** STATUS's contract: a plugin that needs something of the node says 50, and in words what it is, while that is missing. */
import { expect, test } from 'bun:test'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { plugins } from '../../chain/catena.ts'
import { removeLink } from '../../chain/linux/netlink/link.ts'
import { freshNamespace, hostNamespace } from '../fixtures/namespace.ts'
import type { Outcome } from '../fixtures/plugin.ts'
import { difference } from '../fixtures/snapshot.ts'
import { type Feature, hasFeature } from '../kernel/features.ts'
import { callStep, hostState } from './attachment.ts'
import { rows, type Step, titleOf } from './rows.ts'

interface Need {
  plugin: string
  /** Without a reason: there is nothing on the node that it needs. */
  missing?: string
  step: Step
  /** Takes away what is needed; answers how to bring it back. */
  take?(): Promise<() => Promise<void>> | (() => void)
  message?: RegExp
  /** What the kernel has to have for the rest: where it has not, that is what STATUS says. */
  kernel?: readonly Feature[]
}

const ipam = { type: 'host-local', ranges: [[{ subnet: '10.44.0.0/30', rangeStart: '10.44.0.2' }]] }
const full = {
  missing: 'an address in the range',
  take: fillRange,
  message: /^no IP addresses available in range set: 10\.44\.0\.2-10\.44\.0\.2$/,
}
const noMaster = {
  missing: 'the master',
  message: /^master: failed to lookup master "none0": Link not found$/,
}

/** Reserves the only address of `ipam`. */
async function fillRange(): Promise<() => Promise<void>> {
  const filler = { network: 'status', containerId: 'filler', netns: '/run/netns/filler' }
  await callStep('ADD', { type: 'host-local', ipam }, filler)
  return async () => void (await callStep('DEL', { type: 'host-local', ipam }, filler))
}

/** A link that is in the way of the bridge's name. */
function blockBridge(): () => void {
  using host = hostNamespace()
  host.createLink({ name: 'status0', kind: { type: 'veth', peer: { name: 'status1' } } })
  return () => {
    using host = hostNamespace()
    removeLink(host.route, 'status0')
  }
}

const ALLOWLIST = '/etc/cni/tuning'

function forbidSysctls(): () => void {
  mkdirSync(ALLOWLIST, { recursive: true })
  writeFileSync(`${ALLOWLIST}/allowlist.conf`, '^net\\.core\\.none$\n')
  return () => rmSync(ALLOWLIST, { recursive: true })
}

const needs: Need[] = [
  {
    plugin: 'bridge',
    missing: 'the name for the bridge',
    step: { type: 'bridge', bridge: 'status0' },
    take: blockBridge,
    message: /status0/,
  },
  { plugin: 'bridge', step: { type: 'bridge', bridge: 'status0', ipam }, ...full },
  { plugin: 'loopback', step: { type: 'loopback' } },
  { plugin: 'ptp', step: { type: 'ptp', ipam }, ...full },
  { plugin: 'macvlan', step: { type: 'macvlan', master: 'none0', ipam }, kernel: ['macvlan'], ...noMaster },
  { plugin: 'vlan', step: { type: 'vlan', master: 'none0', vlanId: 7, ipam }, kernel: ['vlan'], ...noMaster },
  { plugin: 'ipvlan', step: { type: 'ipvlan', master: 'none0', ipam }, kernel: ['ipvlan'], ...noMaster },
  { plugin: 'dummy', step: { type: 'dummy', ipam }, kernel: ['dummy'], ...full },
  { plugin: 'tap', step: { type: 'tap', ipam }, kernel: ['tun'], ...full },
  // the device itself may be in a container, and its network ready all the same
  { plugin: 'host-device', step: { type: 'host-device', device: 'none0', ipam }, ...full },
  { plugin: 'host-local', step: { type: 'host-local', ipam }, ...full },
  { plugin: 'static', step: { type: 'static', ipam: { type: 'static', addresses: [] } } },
  {
    plugin: 'dhcp',
    missing: 'the daemon',
    step: { type: 'dhcp', ipam: { type: 'dhcp', daemonSocketPath: '/run/cni/none.sock' } },
    message: /\/run\/cni\/none\.sock/,
  },
  { plugin: 'portmap', step: { type: 'portmap' }, kernel: ['nft'] },
  { plugin: 'firewall', step: { type: 'firewall' }, kernel: ['nft'] },
  {
    plugin: 'firewall',
    missing: 'the firewalld that it is to ask',
    step: { type: 'firewall', backend: 'firewalld' },
    message: /firewalld/,
  },
  { plugin: 'bandwidth', step: { type: 'bandwidth' }, kernel: ['tbf', 'ingress', 'ifb'] },
  {
    plugin: 'flannel',
    missing: 'subnet.env',
    step: { type: 'flannel', subnetFile: '/run/flannel/none.env' },
    message: /^subnetFile: \/run\/flannel\/none\.env does not exist$/,
  },
  { plugin: 'sbr', step: { type: 'sbr' } },
  { plugin: 'vrf', step: { type: 'vrf', vrfname: 'blue' }, kernel: ['vrf'] },
  {
    plugin: 'tuning',
    missing: 'leave for a sysctl',
    step: { type: 'tuning', sysctl: { 'net.core.somaxconn': '512' } },
    take: forbidSysctls,
    message:
      /^sysctl\.net\.core\.somaxconn: Sysctl net\.core\.somaxconn is not allowed\. Only the following sysctls are allowed: \[/,
  },
]

test('every plugin of the executable says what it needs of the node, or that it needs nothing', () => {
  expect([...new Set(needs.map(({ plugin }) => plugin))].sort()).toEqual(Object.keys(plugins).sort())
})

/** Rows whose last plugin makes a link of a kind that this kernel may not have. */
const kinds = rows.filter(({ needs = [] }) =>
  needs.some(need => ['vlan', 'ipvlan', 'macvlan', 'dummy', 'vrf'].includes(need)),
)

test.each(kinds.map(row => [titleOf(row), row] as const))(
  '%s: ADD on a kernel that has no such links says 50 as STATUS does, and which module that is',
  async (_, { node: nodeOf, needs = [], plugin }) => {
    await using node = await nodeOf()
    const before = hostState()
    const network = `kinds-${plugin}`
    using container = freshNamespace('kinds')
    let outcome: Outcome | undefined
    const steps = node.steps(container)
    for (const step of steps) {
      if (outcome && outcome.status !== 0) break
      const prevResult = outcome ? { prevResult: outcome.json } : {}
      outcome = await callStep('ADD', { ...step, ...prevResult }, { network, container, netns: container })
    }
    if (needs.every(hasFeature)) expect(outcome).toMatchObject({ status: 0 })
    else
      expect(outcome?.json).toMatchObject({
        code: 50,
        msg: `failed to create ${plugin}: operation not supported: the kernel has no ${plugin} links`,
        details: expect.stringContaining('modprobe'),
      })
    for (const step of steps.toReversed())
      await callStep('DEL', step, { network, container, netns: container })
    expect(
      difference(before, hostState()).added.filter(line => /^(link (?!contract4)|file )/.test(line)),
    ).toEqual([])
  },
)

const status = (step: Step) => callStep('STATUS', step, { network: 'status' })

for (const { plugin, missing, step, take, message, kernel = [] } of needs) {
  test(`${plugin}: STATUS ${missing ? `says 50 without ${missing}` : 'is content'}, and leaves nothing`, async () => {
    const before = hostState()
    const lacks = kernel.filter(feature => !hasFeature(feature))
    const bringBack = await take?.()
    const { status: code, json } = await status(step)
    await bringBack?.()
    if (!missing && lacks.length === 0) expect({ code, json }).toEqual({ code: 0, json: undefined })
    else
      expect(json).toMatchObject({
        code: 50,
        msg: expect.stringMatching(lacks.length > 0 ? /kernel/ : (message ?? /./)),
      })
    if (bringBack) expect(json.details).toBeTruthy()
    if (bringBack && lacks.length === 0) expect(await status(step)).toMatchObject({ status: 0 })
    expect(difference(before, hostState())).toEqual({ added: [], gone: [] })
  })
}
