/** `catena doctor --node`: what a node lacks for what is installed, in words. Changes nothing. */
import { folderOf, listFolder, readFile } from '../linux/files.ts'
import { close, O_RDONLY, open, readInto } from '../linux/libc/file.ts'
import { roomIn, status } from '../linux/libc/status.ts'
import { toCniError } from '../protocol/error.ts'
import {
  type Builtins,
  getStatusNetworkList,
  loadNetworkFile,
  validateNetworkList,
} from '../runtime/network.ts'
import type { Node } from './companions.ts'
import { findRuntimes, type Runtime } from './runtimes.ts'

/** `problem`: something that is there does not work; `notice`: something that can be had elsewhere cannot be had here. */
export interface Finding {
  about: string
  level: 'fine' | 'notice' | 'problem'
  says: string
  hint?: string
}

export interface Examination {
  node: Node
  names: readonly string[]
  builtins: Builtins
}

/** All findings. Of a node that is only a folder yet, what its files tell. */
export async function examineNode(examination: Examination): Promise<Finding[]> {
  const { node, builtins } = examination
  const { runtimes, unreadable } = findRuntimes(node.root)
  const findings = [
    ...installed(examination),
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

/** By the kernel's history; docs/kernels.md says what was tried. */
const NEEDED = [
  { version: [4, 20], level: 'problem', what: 'questions over netlink that the kernel filters' },
  {
    version: [5, 6],
    level: 'notice',
    what: 'published ports and masquerade by nftables; iptables stands in where its tools are',
  },
] as const

function kernel(): Finding[] {
  const release = readFile('/proc/sys/kernel/osrelease')?.trim()
  if (release === undefined) {
    const says = 'there is no /proc: the kernel cannot be asked for its version'
    return [
      {
        about: 'kernel',
        level: 'problem',
        says,
        hint: '`mount -t proc proc /proc`; plugins need it for sysctls and namespaces',
      },
    ]
  }
  const [major = 0, minor = 0] = release.split(/[.-]/).map(Number)
  const missing = NEEDED.filter(
    ({ version: [wanted, next] }) => major < wanted || (major === wanted && minor < next),
  )
  if (missing.length === 0) return [{ about: 'kernel', level: 'fine', says: `Linux ${release}` }]
  return missing.map(({ version, level, what }) => ({
    about: 'kernel',
    level,
    says: `Linux ${release} has not what is of ${version.join('.')}: ${what}`,
  }))
}

const SYSCTLS: {
  name: string
  isWrong(value: number): boolean
  level: Finding['level']
  says: string
  hint: string
}[] = [
  {
    name: 'user/max_net_namespaces',
    isWrong: value => value === 0,
    level: 'problem',
    says: 'no network namespace can be made',
    hint: 'raise it: `sysctl -w user.max_net_namespaces=10000`',
  },
  {
    name: 'net/ipv4/ip_forward',
    isWrong: value => value === 0,
    level: 'notice',
    says: 'IPv4 is not forwarded',
    hint: 'bridge with isGateway and ptp switch it on with their first container; other networks need it set',
  },
  {
    name: 'net/ipv4/conf/all/rp_filter',
    isWrong: value => value === 1,
    level: 'notice',
    says: 'packets that come in where answers do not go out are dropped',
    hint: '`sysctl -w net.ipv4.conf.all.rp_filter=2` where a container has several networks',
  },
  {
    name: 'net/bridge/bridge-nf-call-iptables',
    isWrong: value => value === 0,
    level: 'notice',
    says: 'iptables does not see what goes from port to port of a bridge',
    hint: "kube-proxy in iptables mode wants it 1 for services of a node's own pods",
  },
]

function settings(): Finding[] {
  const wrong = SYSCTLS.flatMap(({ name, isWrong, level, says, hint }): Finding[] => {
    const value = readFile(`/proc/sys/${name}`)?.trim()
    if (value === undefined || !isWrong(Number(value))) return []
    return [{ about: 'sysctl', level, says: `${name.replaceAll('/', '.')} is ${value}: ${says}`, hint }]
  })
  return [...wrong, ...connections()]
}

/** A table that is full drops every new connection, of a published port as well. */
function connections(): Finding[] {
  const [count, most] = ['count', 'max'].map(name =>
    Number(readFile(`/proc/sys/net/netfilter/nf_conntrack_${name}`)),
  )
  if (!count || !most || count < 0.9 * most) return []
  return [
    {
      about: 'sysctl',
      level: 'problem',
      says: `${count} of ${most} connections are tracked: new ones are about to be dropped`,
      hint: 'raise net.netfilter.nf_conntrack_max',
    },
  ]
}

/** e_machine of an ELF file, and what Linux calls it. */
const MACHINES: Readonly<Record<number, string>> = {
  62: 'x64',
  183: 'arm64',
  40: 'arm',
  243: 'riscv64',
  21: 'ppc64',
  22: 's390x',
  3: 'ia32',
}

/** 'x64'; 'none' of what is no ELF file, such as a script. */
function machineOf(path: string): string {
  const head = new Uint8Array(20)
  const descriptor = open(path, O_RDONLY)
  try {
    const length = readInto(descriptor, head, path)
    const view = new DataView(head.buffer)
    if (length < head.length || view.getUint32(0) !== 0x7f454c46) return 'none' // "\x7fELF"
    const machine = view.getUint16(18, head[5] === 1)
    return MACHINES[machine] ?? `machine ${machine}`
  } finally {
    close(descriptor)
  }
}

function installed({ node, names }: Examination): Finding[] {
  const folder = `${node.root}${node.into}`
  const missing = names.filter(name => status(`${folder}/${name}`) === undefined)
  const about = 'plugins'
  if (missing.length === names.length) {
    return [
      { about, level: 'problem', says: `no plugin is in ${folder}`, hint: 'install them: `catena install`' },
    ]
  }
  const present = names.filter(name => !missing.includes(name))
  const broken = present.flatMap(name => brokenAt(`${folder}/${name}`, node))
  const left: Finding[] =
    missing.length === 0 ? [] : [{ about, level: 'notice', says: `not in ${folder}: ${missing.join(', ')}` }]
  if (broken.length > 0) return [...broken, ...left]
  return [
    {
      about,
      level: 'fine',
      says: `${present.length} plugins are in ${folder}${node.root === '' ? ', and start' : ''}`,
    },
    ...left,
  ]
}

/** One start for each file, however many names it has, would do; but a name can be a script of its own. */
function brokenAt(path: string, { root }: Node): Finding[] {
  const problem = (says: string, hint: string): Finding[] => [
    { about: 'plugins', level: 'problem', says, hint },
  ]
  const found = status(path)
  if (found?.kind !== 'file') return problem(`${path} is no file`, 'remove it and install again')
  if ((found.mode & 0o111) === 0) return problem(`${path} may not be executed`, '`chmod 755` it')
  const machine = machineOf(path)
  if (root === '' && machine !== 'none' && machine !== process.arch)
    return problem(`${path} is for ${machine}, and this machine is ${process.arch}`, "install this machine's")
  if (root !== '') return []
  const answer = startedFor(path)
  return answer === undefined
    ? []
    : problem(
        `${path} cannot be started: ${answer}`,
        'a file system mounted noexec, a security module or a damaged file',
      )
}

/** Undefined where it answers VERSION. */
function startedFor(path: string): string | undefined {
  try {
    const { exitCode, stdout, stderr } = Bun.spawnSync([path], {
      env: { CNI_COMMAND: 'VERSION' },
      stdin: Buffer.from('{"cniVersion":"1.0.0"}'),
    })
    if (exitCode === 0) return undefined
    return `status ${exitCode}, ${`${stdout}${stderr}`.trim().slice(0, 200)}`
  } catch (thrown) {
    return thrown instanceof Error ? thrown.message : String(thrown)
  }
}

/** Whether a runtime finds our folder first, and a network. */
function lookingAt({ name, plugins, networks, because, backend }: Runtime, { into, root }: Node): Finding[] {
  const about = name
  if (backend !== undefined && backend !== 'cni')
    return [
      {
        about,
        level: 'notice',
        says: `its networks are made by ${backend}, not by CNI plugins`,
        hint: 'network_backend = "cni" in containers.conf makes it use them',
      },
    ]
  const findings: Finding[] = []
  const place = plugins.findIndex(folder => folder.replace(/\/+$/, '') === into)
  const before = plugins
    .slice(0, Math.max(place, 0))
    .filter(folder => status(`${root}${folder}/bridge`) !== undefined)
  const where = `${plugins.join(', ')} (${because})`
  if (place < 0) {
    findings.push({
      about,
      level: 'problem',
      says: `it looks for plugins in ${where}, not in ${into}`,
      hint: `\`catena install --into ${plugins[0]}\`, or let it look in ${into}`,
    })
  } else if (before.length > 0) {
    findings.push({
      about,
      level: 'problem',
      says: `it finds plugins in ${before.join(', ')} before those in ${into} (${because})`,
      hint: `\`catena install --into ${before[0]}\``,
    })
  } else findings.push({ about, level: 'fine', says: `it looks for plugins in ${where}` })
  if (namesOfNetworks(`${root}${networks}`).length === 0) {
    findings.push({
      about,
      level: 'notice',
      says: `no network is in ${networks}`,
      hint: '`catena install --conf bridge` writes one',
    })
  }
  return findings
}

const namesOfNetworks = (folder: string) =>
  (listFolder(folder) ?? []).filter(name => /\.(conf|conflist|json)$/.test(name)).toSorted()

/** Room for a few thousand containers' files. */
const ENOUGH = { bytes: 16 << 20, files: 1000 }

function room({ into, root }: Node): Finding[] {
  return ['/var/lib/cni', '/run', '/etc/cni', into].flatMap(path => {
    const place = `${root}${path}`
    if (root !== '' && status(place) === undefined) return [] // the folder may be a part of the node, or not be one yet
    const { bytes, files, isReadOnly, mayExecute } = roomIn(nearest(place))
    const problem = (says: string): Finding[] => [{ about: 'disk', level: 'problem', says }]
    if (path === into && !mayExecute)
      return problem(`${place} is mounted noexec: no plugin can be started there`)
    const isWritten = path === '/var/lib/cni' || path === '/run'
    if (!isWritten) return []
    if (isReadOnly) return problem(`${place} cannot be written to: it is on a read-only file system`)
    if (bytes < ENOUGH.bytes) return problem(`${place} has room for ${(bytes / 1e6).toFixed(0)} MB more`)
    if (files < ENOUGH.files) return problem(`${place} has room for ${files} more files`)
    return []
  })
}

/** The path, or what is there of the folders above. */
const nearest = (path: string): string =>
  path === '' || path === '/' ? '/' : status(path) ? path : nearest(folderOf(path))

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
