/**
 * Which features of the kernel a test needs, and whether they are here. `testOn` declares a test that runs where they
 * are; test/run.sh sees to it that each one ran on some kernel.
 */
import { test } from 'bun:test'
import { appendFileSync, readFileSync } from 'node:fs'
import { errno } from '../../chain/linux/libc/errno.ts'
import { close } from '../../chain/linux/libc/file.ts'
import { status } from '../../chain/linux/libc/status.ts'
import { join, text } from '../../chain/linux/netlink/codec.ts'
import { createLink, findLink, type NewLink } from '../../chain/linux/netlink/link.ts'
import { ipvlanModes, macvlanModes } from '../../chain/linux/netlink/link-kind.ts'
import { CREATE, isRefusal, openRoute, request, type Transport } from '../../chain/linux/netlink/socket.ts'
import { inNamespace, openNewNamespace } from '../../chain/linux/netns.ts'

type Probe = (route: Transport) => boolean

const parent = 'parent0'
// linux/pkt_sched.h
const ROOT = 0xffffffff // TC_H_ROOT
const INGRESS = 0xfffffff1 // TC_H_INGRESS

/** What can be asked for. `impossible` is on no kernel: for the test of this file. */
const probes = {
  bridge: hasLink({ type: 'bridge' }),
  dummy: hasLink({ type: 'dummy' }),
  ifb: hasLink({ type: 'ifb' }),
  ipvlan: hasLink({ type: 'ipvlan', mode: ipvlanModes.l2 }),
  macvlan: hasLink({ type: 'macvlan', mode: macvlanModes.bridge }),
  vlan: hasLink({ type: 'vlan', id: 7 }),
  vrf: hasLink({ type: 'vrf', table: 7 }),
  'bridge-vlan': route => {
    if (!hasLink({ type: 'bridge', vlanFiltering: true })(route)) return false
    return findLink(route, 'probe0')?.data.vlanFiltering === true // without the feature, the setting is ignored
  },
  tun: () => status('/dev/net/tun') !== undefined,
  tbf: hasQdisc('tbf', ROOT),
  ingress: hasQdisc('ingress', INGRESS),
  nft: () => takesChain('ip', 'type filter hook input priority 0'),
  'nft-inet': () => takesChain('inet', 'type filter hook input priority 0'),
  'nft-nat': () => takesChain('ip', 'type nat hook postrouting priority 100; masquerade'),
  'iptables-nat': () =>
    Bun.spawnSync(['iptables', '-t', 'nat', '-A', 'POSTROUTING', '-j', 'MASQUERADE']).success,
  'own-clock': () => readFileSync('/proc/cpuinfo', 'utf8').includes('User Mode Linux'), // that no other goes by
  impossible: () => false,
} satisfies Record<string, Probe>

export type Feature = keyof typeof probes

function hasLink(kind: NewLink['kind']): Probe {
  return route => {
    createLink(route, { name: parent, kind: { type: 'veth', peer: { name: 'peer0' } } })
    const index = findLink(route, parent)?.index ?? 0
    const stands = ['ipvlan', 'macvlan', 'vlan'].includes(kind.type)
    try {
      createLink(route, { name: 'probe0', kind, ...(stands ? { parent: index } : {}) })
      return true
    } catch (thrown) {
      if (isRefusal(thrown, errno.EOPNOTSUPP, errno.ENODEV, errno.EINVAL)) return false
      throw thrown
    }
  }
}

/** A queueing discipline that is known refuses missing options with EINVAL; one that is not, with ENOENT. */
function hasQdisc(kind: string, above: number): Probe {
  return route => {
    const message = new DataView(new ArrayBuffer(20)) // struct tcmsg
    message.setInt32(4, findLink(route, 'lo')?.index ?? 0, true)
    message.setUint32(12, above, true)
    const payload = join(new Uint8Array(message.buffer), text(1, kind)) // TCA_KIND
    try {
      request(route, { operation: `add ${kind}`, type: 36, flags: CREATE, payload }) // RTM_NEWQDISC
    } catch (thrown) {
      return isRefusal(thrown, errno.EINVAL)
    }
    return true
  }
}

function takesChain(family: string, content: string): boolean {
  const ruleset = `table ${family} probe {\nchain probe {\n${content}\n}\n}\n`
  return Bun.spawnSync(['nft', '-f', '-'], { stdin: Buffer.from(ruleset) }).success
}

const known = new Map<Feature, boolean>()

/** Tells whether the running kernel has a feature, by using it in a namespace of its own. */
export function hasFeature(feature: Feature): boolean {
  const found = known.get(feature) ?? probe(feature)
  known.set(feature, found)
  return found
}

function probe(feature: Feature): boolean {
  const namespace = openNewNamespace()
  try {
    return inNamespace(namespace, () => {
      using route = openRoute()
      return probes[feature](route)
    })
  } finally {
    close(namespace)
  }
}

const results = process.env.CATENA_TEST_RESULTS
const kernel = process.env.CATENA_TEST_KERNEL === 'second' ? 'second' : 'first'

/** One line of the results folder: a test that ran, or that could not run on that kernel. */
export interface Outcome {
  id: string
  kernel: 'first' | 'second'
  outcome: 'ran' | 'not here'
  file: string
  missing: Feature[]
}

function record(outcome: Outcome): void {
  appendFileSync(`${results}/${kernel}.jsonl`, `${JSON.stringify(outcome)}\n`)
}

const declared = new Map<string, number>()

/** The same on both kernels: file, name, and the how-manieth of that name. */
function identify(file: string, name: string): string {
  const title = `${file} > ${name}`
  const count = (declared.get(title) ?? 0) + 1
  declared.set(title, count)
  return count === 1 ? title : `${title} (${count})`
}

let wantedIds: Set<string> | undefined

/** The second kernel is slow, and runs only what the first could not. */
function isWanted(id: string): boolean {
  if (kernel === 'first') return true
  wantedIds ??= new Set(
    readOutcomes(`${results}/first.jsonl`).flatMap(each => (each.outcome === 'not here' ? [each.id] : [])),
  )
  return wantedIds.has(id)
}

/** Reads what a run wrote; a run that wrote nothing has no file. */
export function readOutcomes(path: string): Outcome[] {
  let lines: string
  try {
    lines = readFileSync(path, 'utf8')
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw thrown
  }
  return lines.split('\n').flatMap(line => (line === '' ? [] : [JSON.parse(line) as Outcome]))
}

/**
 * Declares a test that runs where the kernel has all of the features. Where it does not, the test counts as skipped on
 * this kernel, and must then have run on the other one.
 */
export function testOn(
  features: readonly Feature[],
  name: string,
  body: () => unknown,
  timeout?: number,
): void {
  const file = Bun.main
  const id = identify(file, name)
  const title = `${name} (needs ${features.join(', ')})`
  if (!results) {
    test(title, () => {
      throw new Error('this test may need another kernel: run it by test/run.sh')
    })
    return
  }
  if (!isWanted(id)) return
  const missing = features.filter(feature => !hasFeature(feature))
  if (missing.length > 0) record({ id, kernel, outcome: 'not here', file, missing })
  const run = async () => {
    record({ id, kernel, outcome: 'ran', file, missing })
    await body()
  }
  test.skipIf(missing.length > 0)(title, run, timeout)
}
