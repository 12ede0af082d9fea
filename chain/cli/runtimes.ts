/** Where the container runtimes of a node look for plugins and networks, by their own configuration files. */
import { listFolder, readFile } from '../linux/files.ts'
import { status } from '../linux/libc/status.ts'
import { isObject } from '../protocol/configuration.ts'

export interface Runtime {
  name: string
  /** Folders of plugins, in the order in which it looks. */
  plugins: readonly string[]
  /** Its folder of networks. */
  networks: string
  /** The file that says so, or what it does where none does. */
  because: string
  /** What makes its networks, where it knows others than CNI: 'cni', 'netavark'. */
  backend?: string
}

interface Kind {
  name: string
  /** Any of these is there where the runtime is. */
  signs: readonly string[]
  /** Later ones win; a name that ends with / is a folder of .conf and .toml files. */
  files: readonly string[]
  /** Of a file, what it says of folders. */
  read(document: Document): Partial<Runtime>
  /** What it does without a word of its files. */
  plugins: readonly string[]
  networks: string
  /** A file that holds the network backend it has chosen, and the program of another one. */
  recorded?: { file: string; other: string; programs: readonly string[] }
}

type Document = Record<string, unknown>

/** https://github.com/containerd/containerd/blob/main/docs/cri/config.md: version 2 and 3 of its files */
const containerdSections = [
  ['plugins', 'io.containerd.grpc.v1.cri', 'cni'],
  ['plugins', 'io.containerd.cri.v1.runtime', 'cni'],
  ['plugins', 'cri', 'cni'],
]

function readContainerd(document: Document): Partial<Runtime> {
  const cni = containerdSections.map(section => at(document, section)).find(isObject) ?? {}
  return said({ plugins: texts(cni.bin_dirs) ?? texts(cni.bin_dir), networks: text(cni.conf_dir) })
}

const kinds: readonly Kind[] = [
  {
    name: 'containerd',
    signs: ['/usr/bin/containerd', '/usr/local/bin/containerd', '/etc/containerd/config.toml'],
    files: ['/etc/containerd/config.toml', '/etc/containerd/conf.d/'],
    read: readContainerd,
    plugins: ['/opt/cni/bin'],
    networks: '/etc/cni/net.d',
  },
  {
    name: 'k3s',
    signs: ['/var/lib/rancher/k3s', '/usr/local/bin/k3s'],
    files: ['/var/lib/rancher/k3s/agent/etc/containerd/config.toml'],
    read: readContainerd,
    plugins: ['/var/lib/rancher/k3s/data/cni', '/var/lib/rancher/k3s/data/current/bin'],
    networks: '/var/lib/rancher/k3s/agent/etc/cni/net.d',
  },
  {
    name: 'CRI-O',
    signs: ['/usr/bin/crio', '/usr/local/bin/crio', '/etc/crio/crio.conf', '/etc/crio/crio.conf.d'],
    files: ['/etc/crio/crio.conf', '/etc/crio/crio.conf.d/'],
    read(document) {
      const network = at(document, ['crio', 'network'])
      if (!isObject(network)) return {}
      return said({
        plugins: texts(network.plugin_dirs) ?? texts(network.plugin_dir),
        networks: text(network.network_dir),
      })
    },
    plugins: ['/opt/cni/bin'],
    networks: '/etc/cni/net.d',
  },
  {
    name: 'podman',
    signs: ['/usr/bin/podman', '/usr/local/bin/podman'],
    files: [
      '/usr/share/containers/containers.conf',
      '/etc/containers/containers.conf',
      '/etc/containers/containers.conf.d/',
    ],
    read(document) {
      const network = at(document, ['network'])
      if (!isObject(network)) return {}
      const values = said({
        plugins: texts(network.cni_plugin_dirs),
        networks: text(network.network_config_dir),
      })
      const backend = text(network.network_backend)
      return backend ? { ...values, backend } : values
    },
    plugins: [
      '/usr/local/libexec/cni',
      '/usr/libexec/cni',
      '/usr/local/lib/cni',
      '/usr/lib/cni',
      '/opt/cni/bin',
    ],
    networks: '/etc/cni/net.d',
    recorded: {
      file: '/var/lib/containers/storage/defaultNetworkBackend',
      other: 'netavark',
      programs: ['/usr/libexec/podman/netavark', '/usr/lib/podman/netavark'],
    },
  },
  {
    name: 'nerdctl',
    signs: ['/usr/bin/nerdctl', '/usr/local/bin/nerdctl', '/etc/nerdctl/nerdctl.toml'],
    files: ['/etc/nerdctl/nerdctl.toml'],
    read: document => said({ plugins: texts(document.cni_path), networks: text(document.cni_netconfpath) }),
    plugins: ['/opt/cni/bin', '/usr/local/libexec/cni', '/usr/libexec/cni'],
    networks: '/etc/cni/net.d',
  },
]

/** The runtimes that are on a node, and files of theirs that cannot be read. */
export function findRuntimes(root: string): { runtimes: Runtime[]; unreadable: string[] } {
  const unreadable: string[] = []
  const present = kinds.filter(({ signs }) => signs.some(sign => status(`${root}${sign}`) !== undefined))
  const runtimes = present.map(({ name, files, read, plugins, networks, recorded }): Runtime => {
    let runtime: Runtime = { name, plugins, networks, because: 'as it does where its files say nothing' }
    if (recorded) runtime.backend = recordedBackend(root, recorded)
    for (const file of files.flatMap(one => filesOf(root, one))) {
      const document = parse(`${root}${file}`, unreadable)
      const values = document && read(document)
      if (values && Object.keys(values).length > 0) runtime = { ...runtime, ...values, because: file }
    }
    return runtime
  })
  return { runtimes, unreadable }
}

function recordedBackend(root: string, { file, other, programs }: NonNullable<Kind['recorded']>): string {
  const word = readFile(`${root}${file}`)?.trim()
  return word || (programs.some(program => status(`${root}${program}`)) ? other : 'cni')
}

function filesOf(root: string, name: string): string[] {
  if (!name.endsWith('/')) return [name]
  const entries = listFolder(`${root}${name}`) ?? []
  return entries
    .filter(entry => /\.(conf|toml)$/.test(entry))
    .toSorted()
    .map(entry => `${name}${entry}`)
}

function parse(path: string, unreadable: string[]): Document | undefined {
  try {
    const content = readFile(path)
    const document: unknown = content === undefined ? undefined : Bun.TOML.parse(content)
    return isObject(document) ? document : undefined
  } catch (thrown) {
    unreadable.push(`${path}: ${thrown instanceof Error ? thrown.message : thrown}`)
    return undefined
  }
}

const at = (document: unknown, path: readonly string[]): unknown =>
  path.reduce<unknown>((value, key) => (isObject(value) ? value[key] : undefined), document)

const text = (value: unknown) => (typeof value === 'string' && value !== '' ? value : undefined)

function texts(value: unknown): string[] | undefined {
  const list = (Array.isArray(value) ? value : [value]).filter(one => text(one) !== undefined)
  return list.length > 0 ? list : undefined
}

/** Without what was not said. */
function said({
  plugins,
  networks,
}: {
  plugins: string[] | undefined
  networks: string | undefined
}): Partial<Runtime> {
  return { ...(plugins ? { plugins } : {}), ...(networks ? { networks } : {}) }
}
