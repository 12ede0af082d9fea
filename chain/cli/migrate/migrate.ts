/** Moves the rules of live attachments to another packet filter: each by the plugins that have made them, with what their ADD was given. */
import { status } from '../../linux/libc/status.ts'
import type { Attachment } from '../../observe/model.ts'
import type { AddRequest, Moved, MoveRequest, Plugin, RuleKeeper } from '../../plugin/define.ts'
import { run } from '../../plugin/run.ts'
import { isObject } from '../../protocol/configuration.ts'
import { CniError, code, toCniError } from '../../protocol/error.ts'
import { emptyResult } from '../../protocol/result.ts'
import { listFromNetwork, type NetworkList, parseNetwork, parseNetworkList } from '../../runtime/load.ts'
import { asOperation } from '../../runtime/lock.ts'
import type { Builtins, CachedAttachment } from '../../runtime/network.ts'
import { runtimeConfigFor } from '../../runtime/step.ts'

/** What has become of the rules of one plugin. `back`: they are where they were, since those of another plugin could not be moved. */
export type Fate =
  | { plugin: string; outcome: 'moved' | 'there' | 'back'; from: RuleKeeper }
  | { plugin: string; outcome: 'left' | 'failed'; why: string; details?: string }

export interface Migrated {
  network: string
  containerId: string
  ifname: string
  /** For people. */
  name: string
  /** In the order of the chain; without plugins that have no rules for it. */
  rules: Fate[]
}

export interface Migration {
  to: RuleKeeper
  /** Only says what would be done. */
  isTrial: boolean
  plugins: { load(type: string): Promise<Plugin> | undefined; builtins: Builtins }
}

/** Moves what one attachment has. Of an attachment that cannot be moved as a whole, all is put back. */
export async function migrateAttachment(attachment: Attachment, migration: Migration): Promise<Migrated> {
  const { network, containerId, ifname, name, cache } = attachment
  const rules = !cache
    ? []
    : await asOperation({ network, containerId }, async () =>
        status(cache.path) === undefined ? [] : await moveChain(attachment, cache.attachment, migration),
      )
  return { network, containerId, ifname, name, rules }
}

async function moveChain(
  { netns = '' }: Attachment,
  given: CachedAttachment,
  migration: Migration,
): Promise<Fate[]> {
  const cached = { ...given, netns }
  const list = listIn(cached)
  const fates: Fate[] = []
  for (const { type } of list.plugins) {
    const fate = await movePlugin({ list, cached, type }, migration)
    if (!fate) continue
    fates.push(fate)
    if (fate.outcome === 'failed') return await putBack(fates, { list, cached }, migration)
  }
  return fates
}

function listIn({ configuration }: CachedAttachment): NetworkList {
  const json: unknown = JSON.parse(configuration)
  return isObject(json) && 'plugins' in json
    ? parseNetworkList(configuration)
    : listFromNetwork(parseNetwork(configuration))
}

/** What has been moved before the failure goes back the same way. */
async function putBack(
  fates: readonly Fate[],
  place: { list: NetworkList; cached: CachedAttachment },
  migration: Migration,
): Promise<Fate[]> {
  const back: Fate[] = []
  for (const fate of fates) {
    if (fate.outcome !== 'moved' || migration.isTrial) {
      back.push(fate)
      continue
    }
    const { plugin, from } = fate
    const again = await movePlugin({ ...place, type: plugin }, { ...migration, to: from })
    back.push(again?.outcome === 'failed' ? again : { plugin, outcome: 'back', from })
  }
  return back
}

interface Asked {
  list: NetworkList
  cached: CachedAttachment
  type: string
}

/** undefined for a plugin that has no rules for the attachment. */
async function movePlugin(asked: Asked, migration: Migration): Promise<Fate | undefined> {
  const { type } = asked
  if (type === 'flannel')
    return { plugin: type, outcome: 'left', why: 'flannel keeps the configuration of its delegate itself' }
  const plugin = await migration.plugins.load(type)
  const move = plugin?.move
  if (!plugin || !move) return undefined
  try {
    const moved = await perform(plugin, asked, migration)
    return moved.outcome === 'none' ? undefined : { plugin: type, ...moved }
  } catch (thrown) {
    const { message, details } = toCniError(thrown)
    return { plugin: type, outcome: 'failed', why: message, ...(details ? { details } : {}) }
  }
}

/** The frame of an ADD, which keeps the plugin's other operations on the attachment off, around the plugin's `move`. */
async function perform(plugin: Plugin, asked: Asked, { to, isTrial, plugins }: Migration): Promise<Moved> {
  let moved: Moved | undefined
  let printed = ''
  const mover: Plugin = {
    ...plugin,
    async add(request: AddRequest<unknown>) {
      const more: Pick<MoveRequest<unknown>, 'to' | 'isTrial'> = { to, isTrial }
      moved = await plugin.move?.(
        Object.defineProperties(more, Object.getOwnPropertyDescriptors(request)) as never,
      )
      return emptyResult()
    },
  }
  await run(mover, {
    env: environmentFor(asked.cached),
    stdin: () => JSON.stringify(inputFor(asked)),
    stdout: text => {
      printed += text
    },
    stderr: () => {},
    builtins: plugins.builtins,
    recordedAs: 'MIGRATE',
  })
  if (moved) return moved
  throw errorIn(printed)
}

function errorIn(printed: string): CniError {
  const {
    code: number,
    msg,
    details,
  } = JSON.parse(printed) as { code: number; msg: string; details?: string }
  return new CniError(number ?? code.internal, msg, { details })
}

function environmentFor({ containerId, netns, ifname, args = [] }: CachedAttachment) {
  return {
    ...process.env,
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: containerId,
    CNI_NETNS: netns ?? '',
    CNI_IFNAME: ifname,
    CNI_ARGS: args.map(pair => pair.join('=')).join(';'),
    CNI_PATH: process.env.CNI_PATH || '/opt/cni/bin',
  }
}

function inputFor({ list, cached, type }: Asked): object {
  const plugin = list.plugins.find(each => each.type === type)
  const runtimeConfig = plugin && runtimeConfigFor(plugin, cached)
  return {
    ...plugin?.raw,
    cniVersion: list.cniVersion,
    name: list.name,
    prevResult: cached.result,
    ...(runtimeConfig ? { runtimeConfig } : {}),
  }
}
