/** `catena doctor --node`: what a node lacks for what is installed, in words. Changes nothing. */
import { toCniError } from '../protocol/error.ts'
import {
  type Builtins,
  getStatusNetworkList,
  loadNetworkFile,
  validateNetworkList,
} from '../runtime/network.ts'
import type { Node } from './companions.ts'
import type { Finding } from './finding.ts'
import { kernel, room, settings } from './host.ts'
import { installed, lookingAt, namesOfNetworks } from './installed.ts'
import { findRuntimes } from './runtimes.ts'

export interface Examination {
  node: Node
  names: readonly string[]
  builtins: Builtins
}

/** All findings. Of a node that is only a folder yet, what its files tell. */
export async function examineNode(examination: Examination): Promise<Finding[]> {
  const { node, names, builtins } = examination
  const { runtimes, unreadable } = findRuntimes(node.root)
  const findings = [
    ...installed(node, names),
    ...unreadable.map(
      (says): Finding => ({ about: 'runtime', level: 'problem', says: `cannot read ${says}` }),
    ),
    ...runtimes.flatMap(runtime => lookingAt(runtime, node)),
    ...room(node),
  ]
  if (node.root !== '') return findings
  const folders = new Set(runtimes.map(({ networks }) => networks).concat('/etc/cni/net.d'))
  return [
    ...kernel(),
    ...settings(),
    ...findings,
    ...(await features(builtins, node.into)),
    ...(await networks([...folders], builtins, node.into)),
  ]
}

/** Plugins whose STATUS tries the kernel, with the least that they can be asked with. */
const TRIALS: Readonly<Record<string, object>> = {
  bridge: { ipMasq: true },
  ptp: {
    ipMasq: true,
    ipam: { type: 'static', addresses: [{ address: '192.0.2.2/24', gateway: '192.0.2.1' }] },
  },
  macvlan: { master: 'lo' },
  ipvlan: { master: 'lo' },
  vlan: { master: 'lo', vlanId: 1 },
  tap: {},
  dummy: { ipam: { type: 'static', addresses: [{ address: '192.0.2.1/24' }] } },
  portmap: {},
  firewall: {},
  bandwidth: {},
  tuning: {},
  sbr: {},
  vrf: { vrfname: 'doctor' },
  dhcp: { ipam: { type: 'dhcp' } },
}

async function features(builtins: Builtins, into: string): Promise<Finding[]> {
  const findings: Finding[] = []
  const able: string[] = []
  for (const [type, keys] of Object.entries(TRIALS)) {
    const configuration = { cniVersion: '1.1.0', name: 'doctor', type, ...keys }
    const answer = await builtins.run(
      type,
      { CNI_COMMAND: 'STATUS', CNI_PATH: into },
      JSON.stringify(configuration),
    )
    if (!answer || answer.status === 0) able.push(type)
    else findings.push({ about: type, level: 'notice', ...wordsOf(answer.stdout) })
  }
  return [
    { about: 'kernel', level: 'fine', says: `STATUS of ${able.join(', ')} finds what they need` },
    ...findings,
  ]
}

function wordsOf(document: string): { says: string; hint?: string } {
  const { msg, details } = JSON.parse(document)
  return details ? { says: msg, hint: details } : { says: msg }
}

/** Each network of the node is asked as its runtime would ask. */
async function networks(folders: readonly string[], builtins: Builtins, into: string): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const file of folders.flatMap(folder => namesOfNetworks(folder).map(name => `${folder}/${name}`))) {
    try {
      const list = loadNetworkFile(file)
      await validateNetworkList(list, { path: [into], builtins })
      await getStatusNetworkList(list, { path: [into], builtins })
      findings.push({ about: 'network', level: 'fine', says: `${list.name} (${file}) can take containers` })
    } catch (thrown) {
      const { message, details } = toCniError(thrown)
      findings.push({
        about: 'network',
        level: 'problem',
        says: `${file}: ${message}`,
        ...(details ? { hint: details } : {}),
      })
    }
  }
  return findings
}
