/**
 * What `catena install` writes beside the plugins: units, an example of a network, the node's backend. A file that is there already
 * has an owner and stays, but for what an earlier installation wrote and is unchanged since. `written.json` in the folder's
 * `.catena` says which these are, and what they held before; it is there before they are.
 */
import {
  createExclusively,
  ensureFolder,
  folderOf,
  nameIn,
  readFile,
  removeFile,
  type WriteOptions,
  writeAtomically,
} from '../linux/files.ts'
import { NODE_WIDE } from '../plugin/state.ts'
import { isObject } from '../protocol/configuration.ts'
import { CniError, code } from '../protocol/error.ts'
import { examples, unitsFor } from './shipped.ts'

export interface Companions {
  /** An example of a network, by name. */
  conf?: string
  /** systemd's units for the daemon of dhcp and the warm service. */
  units?: boolean
  /** Backend of all networks of the node that name none. */
  backend?: string
}

/** Where plugins are and which folder is to become the root of the node. */
export interface Node {
  /** The folder of plugins, as it is called on the node. */
  into: string
  /** '' where the node is this one. */
  root: string
}

type Change = 'installed' | 'replaced' | 'upgraded' | 'unchanged' | 'left' | 'removed' | 'restored'

interface CompanionSpec {
  path: string
  text: string
  /** What is there may be replaced, and comes back. */
  mayReplace: boolean
}

/**
 * By path on the node: the text that was written, with that of the version before, which a kill may have left there; and what had
 * been there.
 */
type Written = Record<string, { texts: string[]; before?: string }>

export const CONFIGURATIONS = '/etc/cni/net.d'
const UNITS = '/etc/systemd/system'
export const BACKENDS = ['nftables', 'iptables']

/** Files that are asked for, with their texts. What is asked for and cannot be had is refused before anything is done. */
export function companionSpecs({ conf, units, backend }: Companions, { into, root }: Node): CompanionSpec[] {
  const specs: CompanionSpec[] = []
  if (units) {
    for (const [name, text] of Object.entries(unitsFor(into)))
      specs.push({ path: `${UNITS}/${name}`, text, mayReplace: false })
  }
  if (backend !== undefined) {
    const text = `${JSON.stringify({ ...nodeWide(root), backend: requireBackend(backend) })}\n`
    specs.push({ path: NODE_WIDE, text, mayReplace: true })
  }
  // last of all: a runtime that waits for a network begins when it is there
  if (conf !== undefined) {
    const text = Object.hasOwn(examples, conf) ? examples[conf] : undefined
    if (text === undefined) {
      throw new CniError(code.invalidEnvironment, `--conf: no example ${conf}`, {
        details: `there are ${Object.keys(examples).join(', ')}`,
      })
    }
    specs.push({ path: `${CONFIGURATIONS}/10-${conf}.conflist`, text, mayReplace: false })
  }
  return specs
}

function requireBackend(name: string): string {
  if (BACKENDS.includes(name)) return name
  throw new CniError(code.invalidEnvironment, `--backend: no backend ${name}`, {
    details: `there are ${BACKENDS.join(', ')}`,
  })
}

/** The administrator's file as it is; one that is no object is not for us to replace. */
function nodeWide(root: string): object {
  const text = readFile(`${root}${NODE_WIDE}`)
  if (text === undefined) return {}
  try {
    const document: unknown = JSON.parse(text)
    if (isObject(document)) return document
  } catch {
    // said below
  }
  throw new CniError(code.invalidConfiguration, `--backend: ${root}${NODE_WIDE} is no JSON object`, {
    details: 'mend or remove it; nothing was changed',
  })
}

/** Writes what is asked for; answers what became of each file, by its path on the node. */
export function writeCompanions(
  specs: readonly CompanionSpec[],
  node: Node,
  { dryRun }: { dryRun: boolean },
): Record<string, Change> {
  const written = readWritten(node)
  const changes: Record<string, Change> = {}
  for (const file of specs) {
    const { path, text } = file
    const found = readFile(`${node.root}${path}`)
    const change = changeFor(file, found, written[path]?.texts ?? [])
    changes[path] = change
    if (dryRun || change === 'unchanged' || change === 'left') continue
    const before = change === 'replaced' ? found : written[path]?.before
    const texts = change === 'upgraded' && found !== undefined ? [text, found] : [text]
    written[path] = before === undefined ? { texts } : { texts, before }
    note(written, node)
    ensureFolder(folderOf(`${node.root}${path}`), 0o755, { durable: true })
    if (change !== 'installed') writeAtomically(`${node.root}${path}`, text, writeOptions(path, node))
    else if (createExclusively(`${node.root}${path}`, text, writeOptions(path, node)) === 'exists')
      changes[path] = 'left'
  }
  return changes
}

/** A name that is known again: what a kill has left under it goes with the next run. */
function writeOptions(path: string, { root }: Node): WriteOptions {
  const temporary = `${root}${folderOf(path)}/.catena-${nameIn(path)}`
  removeFile(temporary)
  return { mode: 0o644, temporary }
}

function changeFor(
  { text, mayReplace }: CompanionSpec,
  found: string | undefined,
  ours: readonly string[],
): Change {
  if (found === undefined) return 'installed'
  if (found === text) return 'unchanged'
  if (ours.includes(found)) return 'upgraded'
  return mayReplace ? 'replaced' : 'left'
}

/** Takes away what was written and is unchanged, and brings back what was there. */
export function removeCompanions(node: Node, { dryRun }: { dryRun: boolean }): Record<string, Change> {
  const changes: Record<string, Change> = {}
  for (const [path, { texts, before }] of Object.entries(readWritten(node)).toReversed()) {
    const whole = `${node.root}${path}`
    const options = dryRun ? {} : writeOptions(path, node)
    const found = readFile(whole)
    if (found === undefined) continue
    const isOurs = texts.includes(found)
    changes[path] = !isOurs ? 'left' : before === undefined ? 'removed' : 'restored'
    if (dryRun || !isOurs) continue
    if (before === undefined) removeFile(whole)
    else writeAtomically(whole, before, options)
  }
  return changes
}

const noteOf = ({ into, root }: Node) => `${root}${into}/.catena/written.json`

function note(written: Written, node: Node): void {
  writeAtomically(noteOf(node), `${JSON.stringify(written)}\n`, { mode: 0o644 })
}

/** Of a note that cannot be read nothing is known to be ours: all of it stays. */
function readWritten(node: Node): Written {
  const text = readFile(noteOf(node))
  try {
    const document: unknown = JSON.parse(text ?? '{}')
    if (typeof document !== 'object' || document === null) return {}
    return Object.fromEntries(Object.entries(document).filter(([, { texts }]) => Array.isArray(texts)))
  } catch {
    return {}
  }
}
