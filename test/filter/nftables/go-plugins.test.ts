/** What the Go plugins have left in nftables: found by what they themselves wrote, and nothing of others. */
import { afterEach, expect, test } from 'bun:test'
import {
  goPluginsMasquerade,
  goPluginsPorts,
  goPluginsSpoofCheck,
} from '../../../chain/filter/nftables/go-plugins.ts'
import type { Transport } from '../../../chain/linux/netlink/socket.ts'
import { applyRuleset } from '../../../chain/linux/nftables/engine.ts'
import { openNetfilter } from '../../../chain/linux/nftables/netfilter.ts'
import type { Command } from '../../../chain/linux/nftables/nft.ts'
import { ownerOf } from '../../../chain/plugin/owner.ts'
import { attachmentOf } from '../../fixtures/attachment.ts'
import { removeBridges } from '../../fixtures/bridge.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { mustExecute, peerExecutable, peers } from '../../fixtures/plugin.ts'
import { withoutRuleset } from '../../fixtures/ruleset.ts'

const host = hostNamespace()
withoutRuleset()
afterEach(removeBridges)

const bridge = {
  type: 'bridge',
  bridge: 'left0',
  isGateway: true,
  ipMasq: true,
  ipMasqBackend: 'nftables',
  macspoofchk: true,
}

/** A container of the Go plugins’, its address and published port by its number. */
function added(containerId: string, netns: Namespace, last: number): void {
  const given = { netns, containerId, path: peers }
  const ipam = {
    type: 'static',
    addresses: [{ address: `10.1.0.${last}/24` }, { address: `fd00::${last}/64` }],
  }
  const prevResult = mustExecute(peerExecutable('bridge'), 'ADD', { ...given, config: { ...bridge, ipam } })
  const portMappings = [{ hostPort: 8000 + last, containerPort: 80, protocol: 'tcp' }]
  const config = { type: 'portmap', backend: 'nftables', runtimeConfig: { portMappings }, prevResult }
  mustExecute(peerExecutable('portmap'), 'ADD', { ...given, config })
}

const rules = () =>
  host
    .run('nft', 'list', 'ruleset')
    .split('\n')
    .map(line => line.trim())

/** The lines of the ruleset that go when the commands are carried out. */
async function gone(commands: (netfilter: Transport) => Command[]): Promise<string[]> {
  const before = rules()
  using netfilter = openNetfilter()
  await applyRuleset(commands(netfilter))
  const after = rules()
  return before.filter(line => !after.includes(line))
}

test('each thing of a container goes, and all of the other one stays', async () => {
  using one = freshNamespace()
  using other = freshNamespace()
  added('one', one, 2)
  added('other', other, 3)
  const attachment = attachmentOf('one')
  const { id } = ownerOf(attachment)
  const masquerade = await gone(goPluginsMasquerade(owner => owner === id))
  expect(masquerade.length).toBeGreaterThanOrEqual(2)
  for (const line of masquerade)
    expect(line).toMatch(new RegExp(`(10\\.1\\.0\\.2|fd00::2)\\b.*comment "${id}, `))
  const ports = await gone(goPluginsPorts(attachment))
  expect(ports.some(line => /dport 8002 dnat .* comment "one"$/.test(line))).toBe(true)
  for (const line of ports) expect(line).toMatch(/comment "one"$/)
  const frames = await gone(goPluginsSpoofCheck(attachment))
  expect(frames).toContain('chain cni-br-iface-one-eth0 {')
  for (const line of frames) expect(line).not.toContain('other')
  const left = rules().join('\n')
  expect(left).not.toMatch(/"one"|one-eth0|10\.1\.0\.2\b/)
  expect(left).toContain('cni-br-iface-other-eth0-mac')
  for (const commands of [
    goPluginsMasquerade(owner => owner === id),
    goPluginsPorts(attachment),
    goPluginsSpoofCheck(attachment),
  ])
    expect(await gone(commands)).toEqual([])
})

test('an attachment whose name begins another’s is told apart from it', async () => {
  const chains = ['cni-br-iface-one-eth0', 'cni-br-iface-one-eth01', 'cni-br-iface-one-eth0-mac']
  host.run('nft', 'add', 'table', 'bridge', 'nat')
  for (const chain of chains) host.run('nft', 'add', 'chain', 'bridge', 'nat', chain)
  host.run('nft', 'add', 'table', 'bridge', 'mine')
  host.run('nft', 'add', 'chain', 'bridge', 'mine', 'cni-br-iface-one-eth0')
  expect(await gone(goPluginsSpoofCheck(attachmentOf('one')))).toEqual(['chain cni-br-iface-one-eth0-mac {'])
  const left = rules()
  expect(left.filter(line => line === 'chain cni-br-iface-one-eth0 {')).toHaveLength(1) // the one in mine
  expect(left).toContain('chain cni-br-iface-one-eth01 {')
})

test('on a node that they have never been on there is nothing to do', async () => {
  using netfilter = openNetfilter()
  for (const commands of [
    goPluginsMasquerade(() => true),
    goPluginsPorts(attachmentOf('one')),
    goPluginsSpoofCheck(attachmentOf('one')),
  ])
    expect(commands(netfilter)).toEqual([])
})
