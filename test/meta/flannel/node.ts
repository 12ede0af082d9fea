/** What the tests of flannel share: flanneld's file, the state, and calls with the delegates. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { hostLocal } from '../../../ipam/host-local.ts'
import { bridge } from '../../../main/bridge.ts'
import { ptp } from '../../../main/ptp.ts'
import { flannel } from '../../../meta/flannel.ts'
import { fakePlugins } from '../../fixtures/fake.ts'
import type { Namespace } from '../../fixtures/namespace.ts'
import { type Call, mustCall } from '../../fixtures/plugin.ts'

export const subnetFile = '/run/flannel/subnet.env'

export const folder = '/var/lib/cni/flannel'

export const delegates = [bridge, ptp, hostLocal]

export const ipv4 = ['FLANNEL_NETWORK=10.5.0.0/16', 'FLANNEL_SUBNET=10.5.17.1/24']

export const ipv6 = ['FLANNEL_IPV6_NETWORK=fd05::/48', 'FLANNEL_IPV6_SUBNET=fd05:0:0:17::1/64']

export const common = ['FLANNEL_MTU=1450', 'FLANNEL_IPMASQ=true']

export function flanneldWrites(...lines: string[]): void {
  mkdirSync('/run/flannel', { recursive: true })
  writeFileSync(subnetFile, `${lines.join('\n')}\n`)
}

export const stateFiles = () => (existsSync(folder) ? readdirSync(folder).sort() : [])

export const stateIn = (name: string) => JSON.parse(readFileSync(`${folder}/${name}`, 'utf8'))

/** What a delegate on CNI_PATH was given, in the order of the calls. */
export async function given(config: object, verb: 'ADD' | 'STATUS' = 'ADD', type = 'bridge') {
  using fakes = fakePlugins(type)
  await mustCall(flannel, verb, { netns: '/run/netns/some', path: fakes.path, config })
  const [seen] = fakes.calls()
  return seen?.stdin
}

export const addressed = (container: Namespace, config: object = {}, more: Call = {}): Call => ({
  netns: container,
  delegates,
  ...more,
  config: { name: 'flannel-net', ...config },
})
