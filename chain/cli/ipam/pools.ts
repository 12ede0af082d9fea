/** Which addresses the networks of a node can give, by their configuration files, by what caches keep of them, and by flanneld. */
import { addressAfter, lastOf, networkOf, parseCidr } from '../../ip/address.ts'
import { fileNameFor, readFile } from '../../linux/files.ts'
import { pluginsIn } from '../../observe/files.ts'
import type { NodeModel } from '../../observe/model.ts'
import type { Plugin, Pool } from '../../plugin/define.ts'
import { decode } from '../../protocol/checks.ts'
import { isObject, type JsonObject, lookup } from '../../protocol/configuration.ts'
import { CniError } from '../../protocol/error.ts'
import { newestVersion } from '../../protocol/version.ts'

/** A folder of reservations, and what they can be of. */
export interface PoolFolder {
  network: string
  /** `<dataDir>/<network>`. */
  folder: string
  /** What says so: configuration files, "a cache". */
  sources: string[]
  pools: Pool[]
  /** What of it cannot be read, in sentences. */
  problems: string[]
}

/** A network's plugin that asks host-local, from whatever source. */
interface Asked {
  network: string
  source: string
  cniVersion: string
  config: JsonObject
}

const DATA_DIR = '/var/lib/cni/networks' // host-local's, the Go plugin's as well

const objectAt = (object: JsonObject, key: string): JsonObject => {
  const value = lookup(object, key)
  return isObject(value) ? value : {}
}

/** All folders that a configuration or a cache names, each once. */
export async function poolFolders(node: NodeModel, hostLocal: Plugin): Promise<PoolFolder[]> {
  const folders = new Map<string, PoolFolder>()
  for (const asked of [...fromFiles(node), ...fromCaches(node)]) {
    const folder = folderOf(asked)
    const known = folders.get(folder) ?? {
      network: asked.network,
      folder,
      sources: [],
      pools: [],
      problems: [],
    }
    folders.set(folder, known)
    if (asked.source !== CACHE || known.sources.length === 0) note(known.sources, asked.source)
    try {
      for (const pool of await poolsOf(asked, hostLocal))
        if (!known.pools.some(each => isSame(each, pool))) known.pools.push(pool)
    } catch (thrown) {
      if (!(thrown instanceof CniError)) throw thrown
      note(known.problems, `${asked.source}: ${thrown.message}`)
    }
  }
  return [...folders.values()]
}

const note = (list: string[], text: string) => void (list.includes(text) || list.push(text))

const isSame = (one: Pool, other: Pool) =>
  one.first.family === other.first.family &&
  one.first.value === other.first.value &&
  one.last.value === other.last.value

function fromFiles({ networks }: NodeModel): Asked[] {
  return networks.flatMap(({ path, network }) =>
    (network?.plugins ?? []).flatMap(({ raw }) => {
      const { name = '', cniVersion = '' } = network ?? {}
      return asksHostLocal(raw) ? [{ network: name, source: path, cniVersion, config: { ...raw } }] : []
    }),
  )
}

const CACHE = 'a cache'

/** A network whose file is gone still has its containers' addresses; and what a runtime has handed over stands in caches alone. */
function fromCaches({ attachments }: NodeModel): Asked[] {
  return attachments.flatMap(({ network, cache }) => {
    if (!cache) return []
    const { configuration, capabilityArgs = {} } = cache.attachment
    return pluginsIn(configuration)
      .filter(asksHostLocal)
      .map(raw => {
        const { ipRanges } = capabilityArgs
        const config = { ...raw, ...(ipRanges === undefined ? {} : { runtimeConfig: { ipRanges } }) }
        return { network, source: CACHE, cniVersion: newestVersion, config }
      })
  })
}

function asksHostLocal(raw: JsonObject): boolean {
  const type = lookup(objectAt(raw, 'ipam'), 'type')
  return type === 'host-local' || (raw.type === 'flannel' && type === undefined)
}

function folderOf({ network, config }: Asked): string {
  const given = lookup(objectAt(config, 'ipam'), 'dataDir')
  const isUsable = typeof given === 'string' && given.startsWith('/')
  return `${isUsable ? given.replace(/\/+$/, '') : DATA_DIR}/${fileNameFor(network)}`
}

async function poolsOf({ config, cniVersion }: Asked, hostLocal: Plugin): Promise<Pool[]> {
  if (config.type === 'flannel') return flannelPools(config)
  if (!hostLocal.config || !hostLocal.pools) return []
  return hostLocal.pools(await decode(hostLocal.config, config), cniVersion || newestVersion)
}

const SUBNET_FILE = '/run/flannel/subnet.env' // flanneld's

/** The node's subnets, of each family one, as flanneld wrote them. */
function flannelPools(config: JsonObject): Pool[] {
  const file = lookup(config, 'subnetFile')
  const lines = readFile(typeof file === 'string' && file !== '' ? file : SUBNET_FILE)?.split('\n') ?? []
  return lines.flatMap(line => {
    const [, text = ''] = /^FLANNEL_(?:IPV6_)?SUBNET=(\S+)$/.exec(line) ?? []
    const given = parseCidr(text)
    if (!given) return []
    const { family } = given.address
    const first = addressAfter(networkOf(given).address)
    const last = family === 4 ? addressAfter(lastOf(given), -1n) : lastOf(given)
    const subnet = { ...given, address: networkOf(given).address }
    return [{ subnet, first, last, gateway: first, size: last.value - first.value }]
  })
}
