/** The machine that a node is: its kernel, its settings and its disks. */
import { folderOf, readFile } from '../linux/files.ts'
import { roomIn, status } from '../linux/libc/status.ts'
import type { Node } from './companions.ts'
import type { Finding } from './finding.ts'

/** By the kernel's history; docs/kernels.md says what was tried. */
const NEEDED = [
  { version: [4, 20], level: 'problem', what: 'questions over netlink that the kernel filters' },
  {
    version: [5, 6],
    level: 'notice',
    what: 'published ports and masquerade by nftables; iptables stands in where its tools are',
  },
] as const

/** Its version, and what of later ones it lacks. */
export function kernel(): Finding[] {
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
    ({ version: [least, next] }) => major < least || (major === least && minor < next),
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

/** Sysctls that are in the way, and a table of connections that is full. */
export function settings(): Finding[] {
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
/** Room for a few thousand containers' files. */
const ENOUGH = { bytes: 16 << 20, files: 1000 }

/** Disks that are full, read-only or without execution where it matters. */
export function room({ into, root }: Node): Finding[] {
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
