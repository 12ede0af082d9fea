/** The plugins of a node's folder: whether they can be started, and whether its runtimes find them. */
import { listFolder } from '../linux/files.ts'
import { close, O_RDONLY, open, readInto } from '../linux/libc/file.ts'
import { status } from '../linux/libc/status.ts'
import type { Node } from './companions.ts'
import type { Finding } from './finding.ts'
import type { Runtime } from './runtimes.ts'

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

/** Which of the names are there, and which of them cannot be started. */
export function installed(node: Node, names: readonly string[]): Finding[] {
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
export function lookingAt(
  { name, plugins, networks, because, backend }: Runtime,
  { into, root }: Node,
): Finding[] {
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

/** Files of networks in a folder, in the order in which a runtime takes them. */
export const namesOfNetworks = (folder: string) =>
  (listFolder(folder) ?? []).filter(name => /\.(conf|conflist|json)$/.test(name)).toSorted()
