/** A node as it is most of the time: many containers of several runtimes, and nothing wrong with any of them. */
import { expect, test } from 'bun:test'
import { examineState } from '../../chain/cli/doctor/state.ts'
import { type AddOptions, bridgeChain, freshNode, seen } from '../fixtures/node.ts'

const uuid = (number: number) => `01234567-89ab-cdef-0123-${number.toString(16).padStart(12, '0')}`
const id = (number: number) => number.toString(16).padStart(64, '0')
const port = (hostPort: number) => ({ portMappings: [{ hostPort, containerPort: 80, protocol: 'tcp' }] })

/** As each runtime calls its namespaces and containers, and what it tells plugins of them. */
const runtimes: Record<string, (number: number) => AddOptions> = {
  containerd: number => ({
    containerId: id(number),
    netns: `/run/netns/cni-${uuid(number)}`,
    args: [
      ['IgnoreUnknown', '1'],
      ['K8S_POD_NAMESPACE', 'default'],
      ['K8S_POD_NAME', `pod-${number}`],
    ],
  }),
  podman: number => ({ containerId: id(number), netns: `/run/netns/netns-${uuid(number)}` }),
  'CRI-O': number => ({ containerId: id(number), netns: `/run/netns/${uuid(number)}` }),
  CNI: number => ({ containerId: `job-${number}` }),
}

test('100 containers of four runtimes, by ours and by the Go plugins, of which nothing is said', async () => {
  await using node = await freshNode()
  node.network('ours', '10.31.0.0/24')
  node.network('theirs', '10.32.0.0/24')
  node.network('limited', '10.33.0.0/24', [
    ...bridgeChain('limited', '10.33.0.0/24'),
    {
      type: 'bandwidth',
      ingressRate: 8_000_000,
      ingressBurst: 800_000,
      egressRate: 4_000_000,
      egressBurst: 400_000,
    },
    { type: 'firewall' },
  ])
  const networks = ['ours', 'ours', 'limited', 'ours', 'theirs']
  const add = (number: number) => {
    const [, options] = Object.entries(runtimes)[number % 4] ?? []
    const network = networks[number % networks.length] ?? 'ours'
    return node.add(network, `c${number}`, {
      by: network === 'theirs' ? 'go' : 'catena',
      ...options?.(number),
      ...(number % 3 === 0 ? { capabilityArgs: port(20_000 + number) } : {}),
    })
  }
  for (let number = 0; number < 100; number++) await add(number)
  expect(examineState({ node: { into: '/opt/cni/bin', root: '' }, names: [] }, { grace: 0 })).toEqual([])
  const { attachments, reservations, links, filters, namespaces, records } = seen()
  expect(attachments).toHaveLength(100)
  expect(new Set(attachments.map(({ runtime }) => runtime))).toEqual(new Set(Object.keys(runtimes)))
  expect(attachments.find(({ identity }) => identity?.pod === 'pod-4')?.name).toBe('default/pod-4')
  for (const objects of [attachments, reservations, filters, namespaces, records])
    expect(new Set(objects.map(({ label }) => label))).toEqual(new Set(['live']))
  expect(links.filter(({ role, label }) => role !== 'other' && label !== 'live')).toEqual([])
}, 60_000)
