/**
 * Puts back what somebody has flushed of live attachments' rules: plugin by plugin, by the code and the backend of its ADD. Whatever
 * CHECK finds is left alone.
 */
import { folderOf, readState } from '../../linux/files.ts'
import type { Attachment, NodeModel } from '../../observe/model.ts'
import type { CheckRequest, Plugin, Rules } from '../../plugin/define.ts'
import { ownerOf } from '../../plugin/owner.ts'
import { run } from '../../plugin/run.ts'
import { CniError, code, toCniError } from '../../protocol/error.ts'
import { compareVersions } from '../../protocol/version.ts'
import { inputFor, linkOf, type Turn } from '../../runtime/attach.ts'
import { cachedResult } from '../../runtime/cache.ts'
import { listFromNetwork } from '../../runtime/load.ts'
import { asOperation } from '../../runtime/lock.ts'
import {
  type Builtins,
  type CachedAttachment,
  type NetworkList,
  parseNetwork,
  parseNetworkList,
} from '../../runtime/network.ts'
import { environmentFor } from '../../runtime/step.ts'
import { lackingRules } from '../doctor/ports.ts'

/**
 * `there`: nothing was missing. `restored`: put back. `missing`: would be put back (dry run). `failed`: could not be. `foreign`: another
 * program's, which nothing is known of but that it is in the chain.
 */
export type Outcome = 'there' | 'restored' | 'missing' | 'failed' | 'foreign'

/** What one plugin of a chain has in packet filters. */
export interface Part {
  plugin: string
  outcome: Outcome
  /** CHECK's sentence. */
  missing?: string
  error?: { code: number; msg: string; details?: string }
}

export interface RestoredAttachment {
  network: string
  containerId: string
  ifname: string
  netns: string
  /** For people. */
  name: string
  /** Whether plugins of this executable made it: nothing is put back of others'. */
  isOurs: boolean
  parts: Part[]
  /** Of another program's attachment: what neither nftables nor iptables has for it. */
  lacking?: string[]
}

export interface Restoration {
  version: 1
  dryRun: boolean
  attachments: RestoredAttachment[]
  /** Containers that are not known to be alive: left alone. */
  leftAlone: { network: string; containerId: string; ifname: string; label: string; evidence: string[] }[]
}

export interface Restorer {
  load(type: string): Promise<Plugin> | undefined
  builtins: Builtins
  dryRun: boolean
  /** One network's alone. */
  network?: string | undefined
}

type Cached = Attachment & { cache: NonNullable<Attachment['cache']>; netns: string }

const isCached = (attachment: Attachment): attachment is Cached =>
  attachment.cache !== undefined && attachment.netns !== undefined

/** Goes through a node's attachments, one after the other. */
export async function restore(node: NodeModel, restorer: Restorer): Promise<Restoration> {
  const { network, dryRun } = restorer
  const known = node.attachments.filter(
    each => each.cache && (network === undefined || each.network === network),
  )
  const attachments: RestoredAttachment[] = []
  for (const attachment of known.filter(isCached))
    if (attachment.label === 'live') attachments.push(await restoreOne(node, attachment, restorer))
  const leftAlone = known
    .filter(({ label }) => label !== 'live')
    .map(({ network: of, containerId, ifname, label, evidence }) => ({
      network: of,
      containerId,
      ifname,
      label,
      evidence,
    }))
  return { version: 1, dryRun, attachments, leftAlone }
}

/** Whether something is not there, or will not be when this has ended. */
export const isIncomplete = ({ attachments }: Restoration): boolean =>
  attachments.some(
    ({ parts, lacking = [] }) =>
      lacking.length > 0 || parts.some(({ outcome }) => outcome === 'missing' || outcome === 'failed'),
  )

async function restoreOne(
  node: NodeModel,
  attachment: Cached,
  restorer: Restorer,
): Promise<RestoredAttachment> {
  const { network, containerId, ifname, netns, name } = attachment
  const told = { network, containerId, ifname, netns, name }
  if (!isOurs(node, attachment))
    return { ...told, isOurs: false, parts: [], lacking: lackingRules(node, attachment) }
  const parts = await asOperation({ network, containerId }, () => partsOf(attachment, restorer), {
    optional: true,
  })
  return { ...told, isOurs: true, parts }
}

/** The alias of the host's end says so, or a record of a plugin that made no end: rules, which do as well, may all be gone. */
function isOurs({ records }: NodeModel, attachment: Attachment): boolean {
  if (attachment.sources.includes('alias')) return true
  const { id } = ownerOf(attachment)
  return records.some(({ about, key }) => key === id && (about === 'ports' || about === 'firewall'))
}

async function partsOf({ cache, netns }: Cached, restorer: Restorer): Promise<Part[]> {
  const attachment = { ...cache.attachment, netns }
  let list: NetworkList
  let previous: Turn['previous']
  try {
    list = withCheck(listOf(attachment))
    previous = cachedResult(attachment, list)
  } catch (thrown) {
    return [{ plugin: '', ...failure(thrown) }]
  }
  const isAlive = () => readState(cache.path) !== undefined && linkOf(attachment) !== undefined
  const parts: Part[] = []
  for (const plugin of list.plugins) {
    const loaded = await restorer.load(plugin.type)
    if (!loaded) parts.push({ plugin: plugin.type, outcome: 'foreign' })
    else if (loaded.rules)
      parts.push(await restorePart(loaded, { list, plugin, attachment, previous }, { isAlive, restorer }))
  }
  return parts
}

/** Of versions before 0.4.0, which have no CHECK, the same in that version: the shape of their results has not changed. */
const withCheck = (list: NetworkList): NetworkList =>
  compareVersions(list.cniVersion, '0.4.0') < 0 ? { ...list, cniVersion: '0.4.0' } : list

function listOf({ configuration, network }: CachedAttachment): NetworkList {
  try {
    return parseNetworkList(configuration)
  } catch (thrown) {
    try {
      return listFromNetwork(parseNetwork(configuration))
    } catch {
      const { message } = toCniError(thrown)
      throw new CniError(code.decoding, `the configuration of ${network} in the cache: ${message}`, {
        cause: thrown,
      })
    }
  }
}

/** Runs a plugin as CHECK does, with its turn, and has it look at its rules alone. */
async function restorePart(
  plugin: Plugin,
  turn: Turn,
  { isAlive, restorer }: { isAlive(): boolean; restorer: Restorer },
): Promise<Part> {
  let found: Omit<Part, 'plugin'> = { outcome: 'there' }
  const check = async (request: CheckRequest<unknown>) => {
    // whoever deletes it has had a turn before this one: nothing may be left behind then
    if (!isAlive()) return
    const rules = await plugin.rules?.(request as Parameters<NonNullable<Plugin['rules']>>[0])
    if (rules) found = await putBack(rules, restorer.dryRun)
  }
  let answer = ''
  const status = await run({ ...plugin, check } as Plugin, {
    env: environmentFor('CHECK', turn.attachment, {
      path: [folderOf(restorer.builtins.executable)], // which nothing is started from
    }),
    stdin: () => JSON.stringify(inputFor(turn)),
    stdout: text => {
      answer += text
    },
    stderr: () => {},
    builtins: restorer.builtins,
  })
  if (status !== 0) {
    const { code: number, msg, details } = JSON.parse(answer) as NonNullable<Part['error']>
    found = { outcome: 'failed', error: { code: number, msg, ...(details ? { details } : {}) } }
  }
  return { plugin: plugin.name, ...found }
}

async function putBack(rules: Rules, dryRun: boolean): Promise<Omit<Part, 'plugin'>> {
  const missing = await rules.check()
  if (missing === undefined) return { outcome: 'there' }
  if (dryRun) return { outcome: 'missing', missing }
  try {
    // nothing is undone: that would forget the backend too, and what is there serves the container, and goes by DEL
    await rules.add(() => {})
    const still = await rules.check()
    if (still === undefined) return { outcome: 'restored', missing }
    throw new CniError(code.internal, `it was put back, and is missing again: ${still}`, {
      details: 'does another program flush the packet filter at this moment?',
    })
  } catch (thrown) {
    return { missing, ...failure(thrown) }
  }
}

function failure(thrown: unknown): Pick<Part, 'error'> & { outcome: 'failed' } {
  const { code: number, message, details } = toCniError(thrown)
  return { outcome: 'failed', error: { code: number, msg: message, ...(details ? { details } : {}) } }
}
