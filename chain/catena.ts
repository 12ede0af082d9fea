/**
 * The executable: the name it was started by chooses the plugin, or the command `catena`. The only file that knows all
 * plugins; each is loaded when it is asked for. What nearly all of them stand on is loaded with this file, in one piece: the
 * bundler would make eight of it, of which each costs a call 0.05 ms.
 */
import './linux/netlink/address.ts'
import './linux/netlink/link.ts'
import './linux/netlink/route.ts'
import './plugin/define.ts'
import './interface/owner.ts'
import './interface/configure.ts'
import './ip/address.ts'
import './plugin/configured.ts'
import './plugin/mac.ts'
import './plugin/owner.ts'
import './plugin/rules.ts'
import './plugin/state.ts'
import type { Answer, Builtins } from './invoke/invoke.ts'
import { encodeText } from './linux/bytes.ts'
import { writeAll } from './linux/libc/file.ts'
import { startedPath } from './linux/libc/process.ts'
import type { Plugin } from './plugin/define.ts'
import { keptOutput } from './plugin/io.ts'
import { processIo, run } from './plugin/run.ts'
import { supportedVersions, versionReply } from './protocol/version.ts'

interface Entry {
  /** The plugin's file, for a build of separate executables. */
  file: string
  load(): Promise<Plugin>
  /** Versions of the specification, where it does not take all: VERSION is answered without loading the plugin. */
  versions?: readonly string[]
  /** Programs in the plugin's file that stay, by the first word after its name; each answers the exit status. */
  programs?: Readonly<Record<string, (args: readonly string[]) => Promise<number>>>
}

/** Every plugin by its type. */
export const plugins: Readonly<Record<string, Entry>> = {
  bridge: { file: 'main/bridge.ts', load: async () => (await import('../main/bridge.ts')).bridge },
  loopback: { file: 'main/loopback.ts', load: async () => (await import('../main/loopback.ts')).loopback },
  ptp: { file: 'main/ptp.ts', load: async () => (await import('../main/ptp.ts')).ptp },
  macvlan: { file: 'main/macvlan.ts', load: async () => (await import('../main/macvlan.ts')).macvlan },
  'host-device': {
    file: 'main/host-device.ts',
    load: async () => (await import('../main/host-device.ts')).hostDevice,
  },
  vlan: { file: 'main/vlan.ts', load: async () => (await import('../main/vlan.ts')).vlan },
  ipvlan: { file: 'main/ipvlan.ts', load: async () => (await import('../main/ipvlan.ts')).ipvlan },
  tap: { file: 'main/tap.ts', load: async () => (await import('../main/tap.ts')).tap },
  dummy: { file: 'main/dummy.ts', load: async () => (await import('../main/dummy.ts')).dummy },
  'host-local': {
    file: 'ipam/host-local.ts',
    load: async () => (await import('../ipam/host-local.ts')).hostLocal,
  },
  dhcp: {
    file: 'ipam/dhcp.ts',
    load: async () => (await import('../ipam/dhcp.ts')).dhcp,
    programs: { daemon: async args => (await import('../ipam/dhcp/daemon/main.ts')).startDaemon(args) },
  },
  portmap: { file: 'meta/portmap.ts', load: async () => (await import('../meta/portmap.ts')).portmap },
  static: { file: 'ipam/static.ts', load: async () => (await import('../ipam/static.ts')).staticAddresses },
  bandwidth: {
    file: 'meta/bandwidth.ts',
    load: async () => (await import('../meta/bandwidth.ts')).bandwidth,
    versions: ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'],
  },
  firewall: {
    file: 'meta/firewall.ts',
    load: async () => (await import('../meta/firewall.ts')).firewall,
    versions: ['0.4.0', '1.0.0', '1.1.0'],
  },
  flannel: { file: 'meta/flannel.ts', load: async () => (await import('../meta/flannel.ts')).flannel },
  sbr: { file: 'meta/sbr.ts', load: async () => (await import('../meta/sbr.ts')).sbr },
  vrf: {
    file: 'meta/vrf.ts',
    load: async () => (await import('../meta/vrf.ts')).vrf,
    versions: ['0.3.1', '0.4.0', '1.0.0', '1.1.0'],
  },
  tuning: { file: 'meta/tuning.ts', load: async () => (await import('../meta/tuning.ts')).tuning },
}

/** The plugins of this executable, for delegation and for the runtime: run without a process. */
export const builtins: Builtins = {
  get executable() {
    return process.execPath
  },
  run(type, environment, stdin) {
    const entry = Object.hasOwn(plugins, type) ? plugins[type] : undefined
    return entry && runInProcess(entry, environment, stdin)
  },
}

const loaded = new Map<Entry, Plugin>()

/** A plugin, imported once: to import what is there costs 0.1 ms, and a worker asks at every call. */
async function loadOnce(entry: Entry): Promise<Plugin> {
  const known = loaded.get(entry)
  if (known) return known
  const plugin = await entry.load()
  loaded.set(entry, plugin)
  return plugin
}

async function runInProcess(
  entry: Entry,
  env: Readonly<Record<string, string>>,
  stdin: string,
): Promise<Answer> {
  const plugin = await loadOnce(entry)
  const { kept, ...output } = keptOutput()
  const status = await run(plugin, { env, stdin: () => stdin, ...output, builtins })
  return { status, ...kept, by: 'this process' }
}

/** The same for the runtime: what a warm service takes is done there, sooner than by the cold code of this process. */
const warmBuiltins: Builtins = {
  get executable() {
    return process.execPath
  },
  run(type, environment, stdin) {
    const entry = Object.hasOwn(plugins, type) ? plugins[type] : undefined
    return (
      entry &&
      runWarm(type, environment, stdin).then(answer => answer ?? runInProcess(entry, environment, stdin))
    )
  },
}

async function runWarm(...call: Parameters<Builtins['run']>): Promise<Answer | undefined> {
  const { callService } = await import('./service/client.ts')
  return callService(...call)
}

async function runPlugin({ load, programs = {}, versions = supportedVersions }: Entry): Promise<number> {
  if (process.env.CNI_COMMAND === 'VERSION') {
    writeAll(1, encodeText(`${JSON.stringify(versionReply(versions))}\n`))
    return 0
  }
  const [word = '', ...args] = process.argv.slice(2)
  const program = Object.hasOwn(programs, word) ? programs[word] : undefined
  return program ? program(args) : run(await load(), processIo(builtins))
}

/** All plugins, for processes that do call after call. */
export const served = {
  names: Object.keys(plugins),
  load(name: string) {
    const entry = Object.hasOwn(plugins, name) ? plugins[name] : undefined
    return entry && loadOnce(entry)
  },
  builtins,
}

async function runCommand(): Promise<number> {
  const words = process.argv.slice(2)
  if (words[0] === 'serve' && words[1] === '--worker')
    return (await import('./service/process.ts')).serveAsWorker(words.slice(2), served)
  if (process.env.CNI_COMMAND && (words.length === 0 || invokedName() !== 'catena')) return refuse()
  const { runCatena } = await import('./cli/command.ts')
  return runCatena(words, { builtins: warmBuiltins, served, pluginNames: served.names })
}

/** A runtime has called the program by a name that is no plugin's: it reads documents, not usage. */
async function refuse(): Promise<number> {
  const { unknownPlugin } = await import('./plugin/name.ts')
  writeAll(1, encodeText(unknownPlugin(invokedName(), Object.keys(plugins))))
  return 1
}

/** The last part of the path by which the program was called: argv[0] is always "bun". */
function invokedName(): string {
  return process.argv0.slice(process.argv0.lastIndexOf('/') + 1)
}

/** The plugin that the program was called as. Its own name is the usual case, which loads nothing more. */
async function invokedPlugin(): Promise<Entry | undefined> {
  const name = invokedName()
  if (Object.hasOwn(plugins, name)) return plugins[name]
  const { pluginNamed } = await import('./plugin/name.ts')
  const known = pluginNamed(process.argv0, {
    names: Object.keys(plugins),
    started: startedPath(),
    executable: process.execPath,
    searched: process.env.PATH ?? '',
  })
  return known === undefined ? undefined : plugins[known]
}

if (import.meta.main) {
  invokedPlugin()
    .then(entry => (entry ? runPlugin(entry) : runCommand()))
    .catch(async thrown => (await import('./plugin/last-words.ts')).lastWords(thrown))
    .then(status => {
      process.exitCode = status
    })
}
