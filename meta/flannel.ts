/** flannel: turns what flanneld says of the node's subnets into the configuration of another plugin, and runs that. */

import { openContainerIfPresent } from '../chain/interface/configure.ts'
import { readFile, removeFile } from '../chain/linux/files.ts'
import { SystemError } from '../chain/linux/libc/errno.ts'
import { findLink } from '../chain/linux/netlink/link.ts'
import { type AddRequest, type AttachmentRequest, definePlugin } from '../chain/plugin/define.ts'
import type { Added } from '../chain/plugin/delegate.ts'
import { main } from '../chain/plugin/run.ts'
import { everyStep } from '../chain/plugin/undo.ts'
import { isObject, lookup, parseConfiguration } from '../chain/protocol/configuration.ts'
import { CniError, code, toCniError } from '../chain/protocol/error.ts'
import { anyConfiguration, strict } from './flannel/checks.ts'
import { configurationOf, folderOf, type Given } from './flannel/configuration.ts'
import { listStale, recall, remember, removeTemporary, type Saved } from './flannel/state.ts'
import { parseSubnets, SubnetFileError, type Subnets } from './flannel/subnet-file.ts'
import { type DelegateConfiguration, translate } from './flannel/translate.ts'

export const flannel = definePlugin({
  name: 'flannel',
  config: anyConfiguration,
  strict,

  async add(request) {
    const { delegate } = request
    const config = await delegateConfiguration(request, await readSubnets(request))
    const isOurs = await asDelegate(config.type, () => delegate.isOurs(config.type))
    const added = keepConfiguration(request, { config, isOurs })
    return await asDelegate(config.type, () => delegate.add(config.type, config, added))
  },

  async check(request) {
    const { attachment, delegate } = request
    const saved = inFolder(request, folder => recall(folder, attachment))
    if (!saved?.config) throw unknownAttachment(request, saved)
    const config = withPrevious(request, saved.config)
    await asDelegate(config.type, () => delegate.check(config.type, config))
  },

  async del(request) {
    const { attachment, delegate } = request
    const saved = inFolder(request, folder => {
      removeTemporary(folder, attachment)
      return recall(folder, attachment)
    })
    if (saved?.config) {
      const config = withPrevious(request, saved.config)
      await asDelegate(config.type, () => delegate.del(config.type, config))
    } else await delAsConfigured(request, saved)
    if (saved) inFolder(request, () => removeFile(saved.path))
  },

  async status(request) {
    const { delegate } = request
    const config = await delegateConfiguration(request, await readSubnets(request, code.pluginNotAvailable))
    await asDelegate(config.type, () => delegate.status(config.type, config))
  },

  async gc(request) {
    const { network, valid, delegate } = request
    const stale = inFolder(request, folder => listStale(folder, { network, valid }))
    const current = await delegateConfiguration(request, await subnetsIfReadable(request))
    const attachments = valid.map(one => ({ containerID: one.containerId, ifname: one.ifname }))
    await everyStep(
      Object.fromEntries(
        groupsOf(current, stale).map(({ config, files }, index) => [
          `delegate ${config.type}${index > 0 ? ` as ${files[0]} has it` : ''}`,
          async () => {
            await delegate.gc(config.type, { ...config, 'cni.dev/valid-attachments': attachments })
            for (const file of files) removeFile(file)
          },
        ]),
      ),
    )
  },
})

/**
 * Keeps the configuration for DEL before it is used. When ADD fails, it goes only after the delegate's DEL: what is left finds
 * a later DEL then. That is not for a plugin that is not ours and failed, nor for an interface that may be another network's.
 */
function keepConfiguration(
  request: AddRequest<Given['config']>,
  { config, isOurs }: { config: DelegateConfiguration; isOurs: boolean },
): Added {
  const { attachment, delegate, netns, undo } = request
  let hasAdded = false
  inFolder(request, folder => {
    undo('delete what was half written', () => removeTemporary(folder, attachment))
    remember(folder, { attachment, config }, ({ replaced, takeBack }) =>
      undo('forget the delegate', async () => {
        const isOurRest = isOurs && !replaced && !hasInterface(netns, attachment.ifname)
        if (hasAdded || isOurRest) await delegate.del(config.type, config)
        if (hasAdded || isOurRest || replaced) takeBack()
      }),
    )
  })
  return how => {
    hasAdded ||= how === 'succeeded'
  }
}

function hasInterface(netns: string, name: string): boolean {
  using container = openContainerIfPresent(netns)
  return container !== undefined && findLink(container, name) !== undefined
}

/**
 * Where what ADD used is gone or cannot be read, what it would use now finds what it left. There may be nothing to find, and then it
 * does not matter that the delegate cannot be asked.
 */
async function delAsConfigured(
  request: Given & AttachmentRequest<unknown>,
  saved: Saved | undefined,
): Promise<void> {
  const { delegate, io } = request
  if (saved) io.stderr(`flannel: ${saved.path} is not a configuration: DEL goes by the network's\n`)
  try {
    const config = withPrevious(
      request,
      await delegateConfiguration(request, await subnetsIfReadable(request)),
    )
    await asDelegate(config.type, () => delegate.del(config.type, config))
  } catch (thrown) {
    const { message, details } = toCniError(thrown)
    io.stderr(`flannel: ${[message, details].filter(Boolean).join(': ')}\n`)
  }
}

async function delegateConfiguration(
  request: Given,
  subnets: Subnets | undefined,
): Promise<DelegateConfiguration> {
  const { network, cniVersion } = request
  return translate(await configurationOf(request), { network, cniVersion, subnets })
}

/** What flanneld says. Code 11 while it has not written its file, 7 for a broken one; or `failure` for both. */
async function readSubnets(request: Given, failure?: number): Promise<Subnets> {
  const { subnetFile } = await configurationOf(request)
  const text = readFile(subnetFile)
  if (text === undefined) {
    throw new CniError(failure ?? code.tryAgainLater, `subnetFile: ${subnetFile} does not exist`, {
      details: 'flanneld writes it when it has a subnet for this node; look at the log of its pod here',
    })
  }
  try {
    return parseSubnets(text)
  } catch (thrown) {
    if (!(thrown instanceof SubnetFileError)) throw thrown
    throw new CniError(failure ?? code.invalidConfiguration, `subnetFile: ${subnetFile}: ${thrown.message}`, {
      details: 'flanneld writes the file; look at the log of its pod on this node',
      cause: thrown,
    })
  }
}

async function subnetsIfReadable(request: Given): Promise<Subnets | undefined> {
  try {
    return await readSubnets(request)
  } catch {
    return undefined // garbage is collected whether flanneld runs or not
  }
}

/** Says whose failure it is, with its code. */
async function asDelegate<T>(type: string, body: () => Promise<T> | T): Promise<T> {
  try {
    return await body()
  } catch (thrown) {
    const { code: number, message, details } = toCniError(thrown)
    throw new CniError(number, `delegate ${type}: ${message}`, { details, cause: thrown })
  }
}

/** The configuration as ADD used it, with the result that the runtime kept, which is in the version that it asks in now. */
function withPrevious(
  { stdin, cniVersion }: AttachmentRequest<unknown>,
  config: DelegateConfiguration,
): DelegateConfiguration {
  const prevResult = lookup(parseConfiguration(stdin), 'prevResult')
  return prevResult === undefined ? config : { ...config, cniVersion, prevResult }
}

function unknownAttachment(request: Given & AttachmentRequest<unknown>, saved: Saved | undefined): CniError {
  const { containerId, ifname: name } = request.attachment
  return new CniError(
    code.internal,
    `${name} of container ${containerId} is not known in ${folderOf(request)}`,
    {
      details: saved ? `${saved.path} is not a configuration` : 'was it added with another dataDir?',
    },
  )
}

/** One call for each configuration that is in use or was; what differs between containers of one network does not count. */
function groupsOf(
  current: DelegateConfiguration,
  stale: readonly (Saved & { config: DelegateConfiguration })[],
): { config: DelegateConfiguration; files: string[] }[] {
  const groups = new Map([[keyOf(current), { config: current, files: [] as string[] }]])
  for (const { config, path } of stale) {
    const group = groups.get(keyOf(config))
    if (group) group.files.push(path)
    else groups.set(keyOf(config), { config, files: [path] })
  }
  return [...groups.values()]
}

/** Keys in order: the Go plugin sorts them. */
function keyOf({ runtimeConfig: _, cniVersion: __, ...config }: DelegateConfiguration): string {
  return JSON.stringify(config, (_key, value) =>
    isObject(value)
      ? Object.fromEntries(Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1)))
      : value,
  )
}

/** Runs what works on the folder of state. What the system refuses there is code 5, and names the folder. */
function inFolder<T>(request: Given, body: (folder: string) => T): T {
  const folder = folderOf(request)
  try {
    return body(folder)
  } catch (thrown) {
    if (!(thrown instanceof SystemError)) throw thrown
    throw new CniError(code.io, `dataDir: cannot keep delegates' configurations in ${folder}`, {
      details: thrown.message,
      cause: thrown,
    })
  }
}

if (import.meta.main) main(flannel)
