/**
 * What a repair can be taken back by: a file with each step's way back, written before the step is taken. `catena doctor --undo`
 * goes the last one backwards.
 */
import { addOwned } from '../../filter/nftables/apply.ts'
import { elementOf } from '../../filter/nftables/elements.ts'
import { helperPath } from '../../linux/child-environment.ts'
import {
  ensureFolder,
  folderOf,
  listFolder,
  readState,
  removeFile,
  writeAtomically,
} from '../../linux/files.ts'
import { findVariant, run } from '../../linux/iptables/tools.ts'
import { status } from '../../linux/libc/status.ts'
import { createLink, findLink, type Link, setLink } from '../../linux/netlink/link.ts'
import { openRoute } from '../../linux/netlink/socket.ts'
import { createNamespace } from '../../linux/netns.ts'
import { applyRuleset } from '../../linux/nftables/engine.ts'
import type { PlacedFields, Step } from './step.ts'

export const BUNDLES = '/var/lib/cni/catena-undo'

/** The way back of a step. */
export type Undo =
  | { kind: 'file'; path: string; text: string; mode: number }
  | {
      kind: 'link'
      link: Pick<Link, 'name' | 'mtu' | 'address'> & {
        type: string
        master?: string
        alias?: string
        peer?: string
      }
    }
  | { kind: 'owner'; id: string; comment: string; elements: readonly PlacedFields[] }
  | { kind: 'nft'; document: object }
  | { kind: 'iptables'; family: 'ip' | 'ip6'; variant: 'nf_tables' | 'legacy'; input: string }
  | { kind: 'namespace'; path: string; isMounted: boolean }
  | { kind: 'nothing'; says: string }

interface Bundle {
  version: 1
  /** ISO 8601. */
  time: string
  steps: { says: string; undo: Undo }[]
}

/** The way back of a step, from what there is now. Changes nothing. */
export function wayBack(step: Step): Undo {
  switch (step.kind) {
    case 'file':
      return {
        kind: 'file',
        path: step.path,
        text: step.text,
        mode: (status(step.path)?.mode ?? 0o600) & 0o777,
      }
    case 'link':
      return linkBack(step)
    case 'owner': {
      const { id, comment, elements } = step
      return {
        kind: 'owner',
        id,
        comment,
        elements: elements.filter(({ kind }) => kind !== 'published-conditions'),
      }
    }
    case 'rules':
      return rulesBack(step)
    case 'iptables':
      return iptablesBack(step)
    case 'hook':
      return { kind: 'nothing', says: `the hook of ${step.link} led to a link that is gone` }
    case 'namespace':
      return {
        kind: 'namespace',
        path: step.path,
        isMounted: !step.path.startsWith('/') || isMounted(step.path),
      }
  }
}

const isMounted = (path: string) => (readState('/proc/self/mountinfo') ?? '').includes(` ${path} `)

function linkBack({ index }: Step & { kind: 'link' }): Undo {
  using route = openRoute()
  const found = findLink(route, index)
  if (!found?.kind) return { kind: 'nothing', says: 'the link was gone already' }
  const { name, mtu, address, kind, alias, master, parent, parentNamespace } = found
  const peer =
    parent !== undefined && parentNamespace === undefined ? findLink(route, parent)?.name : undefined
  const bridge = master === undefined ? undefined : findLink(route, master)?.name
  return {
    kind: 'link',
    link: {
      name,
      mtu,
      address,
      type: kind,
      ...(alias === undefined ? {} : { alias }),
      ...(bridge === undefined ? {} : { master: bridge }),
      ...(peer === undefined ? {} : { peer }),
    },
  }
}

/** As nft prints them, without what the kernel numbers. */
function rulesBack({ family, table, rules, chains }: Step & { kind: 'rules' }): Undo {
  const handles = rules.map(({ handle }) => handle)
  const listed = runNft(['-j', 'list', 'table', family, table])
  if (listed === undefined)
    return { kind: 'nothing', says: 'nft, which could have kept the rules, is not installed' }
  const { nftables } = JSON.parse(listed) as { nftables: Partial<Record<string, Record<string, unknown>>>[] }
  const kept = nftables.flatMap(({ rule, chain }): { add: object }[] => {
    if (chain && chains.includes(String(chain.name))) return [{ add: { chain: without(chain) } }]
    const isKept = rule && (handles.includes(Number(rule.handle)) || chains.includes(String(rule.chain)))
    return isKept ? [{ add: { rule: without(rule) } }] : []
  })
  return { kind: 'nft', document: { nftables: kept } }
}

const without = ({ handle: _, ...rest }: Record<string, unknown>) => rest

function runNft(args: readonly string[], input = ''): string | undefined {
  const nft = Bun.which('nft', { PATH: helperPath() })
  if (!nft) return undefined
  const { exitCode, stdout, stderr } = Bun.spawnSync([nft, ...args], { stdin: Buffer.from(input) })
  if (exitCode !== 0) throw new Error(`nft ${args.join(' ')}: ${stderr}`)
  return stdout.toString()
}

/** The lines of iptables-save that concern what goes. */
function iptablesBack({ family, variant, table, chains, addresses }: Step & { kind: 'iptables' }): Undo {
  const tools = findVariant(family, variant)
  if (!tools) return { kind: 'nothing', says: `the tools of iptables (${variant}) are not installed` }
  const lines = run([tools.save, '-t', table]).stdout.split('\n')
  const isOf = (line: string) =>
    chains.some(chain => line.split(' ').includes(chain)) ||
    addresses.some(address => line.startsWith('-A CNI-FORWARD ') && line.includes(` ${address}/`))
  const made = chains.filter(chain => lines.some(line => line.startsWith(`:${chain} `)))
  const rules = lines.filter(line => line.startsWith('-A ') && isOf(line))
  const input = [`*${table}`, ...made.map(chain => `:${chain} - [0:0]`), ...rules, 'COMMIT\n'].join('\n')
  return { kind: 'iptables', family, variant, input }
}

/** A bundle that grows: each step is in it before it is taken. */
export function openBundle(now: Date): { path: string; note(says: string, undo: Undo): void } {
  const time = now.toISOString()
  const path = `${BUNDLES}/${time.replaceAll(':', '-')}.json`
  const bundle: Bundle = { version: 1, time, steps: [] }
  return {
    path,
    note(says, undo) {
      bundle.steps.push({ says, undo })
      ensureFolder(BUNDLES, 0o700, { durable: true })
      writeAtomically(path, `${JSON.stringify(bundle, undefined, 1)}\n`)
    },
  }
}

/** The last bundle; undefined where there is none. */
export function lastBundle(): { path: string; bundle: Bundle } | undefined {
  const names = (listFolder(BUNDLES) ?? []).filter(name => name.endsWith('.json')).toSorted()
  const path = `${BUNDLES}/${names.at(-1)}`
  const text = names.length > 0 ? readState(path) : undefined
  return text ? { path, bundle: JSON.parse(text) as Bundle } : undefined
}

/** Takes a bundle's steps back, the last one first; answers what was done, in sentences. The bundle goes with the last of them. */
export async function takeBack({ path, bundle }: { path: string; bundle: Bundle }): Promise<string[]> {
  const done: string[] = []
  for (const { says, undo } of bundle.steps.toReversed()) {
    await putBack(undo)
    done.push(undo.kind === 'nothing' ? `not taken back: ${says} (${undo.says})` : `taken back: ${says}`)
  }
  removeFile(path)
  return done
}

async function putBack(undo: Undo): Promise<void> {
  switch (undo.kind) {
    case 'file':
      ensureFolder(folderOf(undo.path))
      return writeAtomically(undo.path, undo.text, { mode: undo.mode })
    case 'link':
      return putLinkBack(undo)
    case 'owner': {
      const elements = undo.elements.map(elementOf)
      return addOwned(
        applyRuleset,
        { owner: { id: undo.id, comment: undo.comment }, elements },
        () => 'leave',
      )
    }
    case 'nft':
      runNft(['-j', '-f', '-'], JSON.stringify(undo.document))
      return
    case 'iptables':
      return putIptablesBack(undo)
    case 'namespace':
      if (undo.isMounted) createNamespace(undo.path)
      else writeAtomically(undo.path, '', { mode: 0o444, durable: false })
      return
    case 'nothing':
  }
}

/** What its other end was in is gone: that one comes to be on the host. */
function putLinkBack({ link }: Undo & { kind: 'link' }): void {
  const { name, type, mtu, address, alias, master, peer } = link
  using route = openRoute()
  if (findLink(route, name)) return
  const kind =
    type === 'ifb'
      ? ({ type: 'ifb' } as const)
      : ({ type: 'veth', peer: { name: peer ?? `${name.slice(0, 13)}.x` } } as const)
  createLink(route, { name, kind, mtu, address, up: true })
  if (alias !== undefined) setLink(route, name, { alias })
  const bridge = master === undefined ? undefined : findLink(route, master)
  if (bridge) setLink(route, name, { master: bridge.index })
}

function putIptablesBack({ family, variant, input }: Undo & { kind: 'iptables' }): void {
  const tools = findVariant(family, variant)
  if (!tools) throw new Error(`the tools of iptables (${variant}) are not installed`)
  const { status: ended, stderr } = run([tools.restore, '--noflush', '--wait'], { input })
  if (ended !== 0) throw new Error(`${tools.restore}: ${stderr}`)
}
