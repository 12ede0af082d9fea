/** Folders of reservations for the tests of host-local, and what is in them. */
import { lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { hostLocal } from '../../../ipam/host-local.ts'
import { type Call, call, mustCall, type Verb } from '../../fixtures/plugin.ts'

/** An empty data folder that goes when disposed of. */
export function dataFolder(): { path: string } & Disposable {
  const path = mkdtempSync('/var/lib/cni/host-local-')
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) }
}

/** All files below a folder: "10.1.0.2 600 id\r\neth0". */
export function tree(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map(name => {
      const status = lstatSync(`${folder}/${name}`)
      const content = status.isDirectory() ? '' : readFileSync(`${folder}/${name}`, 'latin1')
      return `${name} ${(status.mode & 0o7777).toString(8)} ${JSON.stringify(content)}`
    })
    .sort()
}

/** The addresses reserved in a network, with their owners. */
export function reservations(dataDir: string, network = 'test-net'): Record<string, string> {
  let names: string[]
  try {
    names = readdirSync(`${dataDir}/${network}`)
  } catch {
    return {}
  }
  const addresses = names.filter(name => name !== 'lock' && !name.startsWith('last_reserved_ip.'))
  return Object.fromEntries(
    addresses.sort().map(name => [name, readFileSync(`${dataDir}/${network}/${name}`, 'latin1')]),
  )
}

/** The ranges where a test names no others: 10.1.2.2 to 10.1.2.6. */
const small = [[{ subnet: '10.1.2.0/29' }]]

export interface Settings extends Call {
  ipam?: object
  network?: object
}

/** host-local on a data folder, in this process. */
export function on(dataDir: string, defaults: Settings = {}) {
  const options = (settings: Settings): Call => {
    const { ipam, network, ...rest } = { ...defaults, ...settings }
    return {
      netns: '/run/netns/none',
      config: { type: 'bridge', ipam: { type: 'host-local', dataDir, ranges: small, ...ipam }, ...network },
      ...rest,
    }
  }
  const add = async (containerId: string, settings: Settings = {}): Promise<string[]> => {
    const result = await mustCall(hostLocal, 'ADD', options({ containerId, ...settings }))
    return result.ips.map(({ address }: { address: string }) => address.replace(/\/.*/, ''))
  }
  const ask = (verb: Verb, settings: Settings = {}) => call(hostLocal, verb, options(settings))
  return { add, ask, options }
}
