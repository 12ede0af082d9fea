/** Steps of a repair as data: what each does for a person's shell, and how it is carried out. Every one looks again before it acts. */

import type { Fields } from '../../filter/nftables/elements.ts'
import { sweepElements } from '../../filter/sweep.ts'
import { readState, removeFile } from '../../linux/files.ts'
import { removeRules } from '../../linux/iptables/removal.ts'
import type { Family as InternetFamily, Variant } from '../../linux/iptables/tools.ts'
import { takeLock } from '../../linux/lock.ts'
import { findLink, removeLink } from '../../linux/netlink/link.ts'
import { removeDiscipline } from '../../linux/netlink/qdisc.ts'
import { openRoute } from '../../linux/netlink/socket.ts'
import { removeNamespace } from '../../linux/netns.ts'
import { applyRuleset } from '../../linux/nftables/engine.ts'
import type { Command, Family } from '../../linux/nftables/nft.ts'

/** An element, and the set or map that it is in. */
export type PlacedFields = Fields & { place: string }

export type Step =
  /** A file that holds what it held when it was looked at; `lock` keeps its writers off. */
  | { kind: 'file'; path: string; text: string; lock?: string }
  | { kind: 'link'; name: string; index: number }
  /** All that an owner has in our nftables tables. */
  | { kind: 'owner'; id: string; comment: string; elements: readonly PlacedFields[] }
  /** Rules and chains of nf_tables. */
  | {
      kind: 'rules'
      family: Family
      table: string
      rules: readonly { chain: string; handle: number }[]
      chains: readonly string[]
    }
  /** Chains of iptables, with what leads to them; in table filter the rules of the plugin firewall for some addresses. */
  | {
      kind: 'iptables'
      family: InternetFamily
      variant: Variant
      table: string
      chains: readonly string[]
      addresses: readonly string[]
    }
  /** The hook for incoming packets of a link. */
  | { kind: 'hook'; link: string; index: number }
  | { kind: 'namespace'; path: string }

/** The same for a shell. */
export function commandsOf(step: Step): string[] {
  switch (step.kind) {
    case 'file':
      return [`rm ${quoted(step.path)}`]
    case 'link':
      return [`ip link delete ${step.name}`]
    case 'owner':
      return step.elements.map(
        ({ family, key, place }) =>
          `nft delete element ${family} catena ${place} '{ ${key.map(keyText).join(' . ')} }'`,
      )
    case 'rules': {
      const where = `${step.family} ${step.table}`
      return [
        ...step.rules.map(
          ({ chain, handle }) => `nft delete rule ${where} ${quoted(chain)} handle ${handle}`,
        ),
        ...step.chains.flatMap(chain => [
          `nft flush chain ${where} ${chain}`,
          `nft delete chain ${where} ${chain}`,
        ]),
      ]
    }
    case 'iptables':
      return iptablesCommands(step)
    case 'hook':
      return [`tc qdisc delete dev ${step.link} ingress`]
    case 'namespace':
      return [`umount ${quoted(step.path)}; rm ${quoted(step.path)}`]
  }
}

const quoted = (text: string) => (/^[\w./:=@-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`)

function keyText(part: unknown): string {
  if (typeof part !== 'object' || part === null) return String(part)
  const { addr, len } = (part as { prefix?: { addr?: string; len?: number } }).prefix ?? {}
  return `${addr}/${len}`
}

function iptablesCommands({
  family,
  variant,
  table,
  chains,
  addresses,
}: Step & { kind: 'iptables' }): string[] {
  const tool = `${family === 'ip' ? 'iptables' : 'ip6tables'}-${variant === 'legacy' ? 'legacy' : 'nft'}`
  const pattern = [...chains, ...addresses.map(address => `${address}/`)].join('|')
  return pattern === ''
    ? []
    : [`${tool}-save -t ${table} | grep -vE '${pattern}' | ${tool}-restore -T ${table}`]
}

/** Carries a step out; answers what became of it in a word. What is no longer as it was seen is left alone. */
export async function carryOut(step: Step): Promise<'done' | 'gone' | 'changed'> {
  switch (step.kind) {
    case 'file':
      return removeUnchanged(step)
    case 'link': {
      using route = openRoute()
      const found = findLink(route, step.name)
      if (!found) return 'gone'
      if (found.index !== step.index) return 'changed'
      return removeLink(route, step.index) === 'removed' ? 'done' : 'gone'
    }
    case 'owner': {
      const removal = { roles: ['masquerade', 'ports', 'frames', 'firewall'] as const }
      const outcome = await sweepElements(applyRuleset, { ...removal, isOwner: owner => owner === step.id })
      return outcome === 'removed' ? 'done' : 'gone'
    }
    case 'rules':
      await applyRuleset(ruleCommands(step))
      return 'done'
    case 'iptables':
      return (await removeFromIptables(step)) === 'removed' ? 'done' : 'gone'
    case 'hook': {
      using route = openRoute()
      return removeDiscipline(route, step.index, 'ingress') === 'removed' ? 'done' : 'gone'
    }
    case 'namespace':
      return removeNamespace(step.path) === 'removed' ? 'done' : 'gone'
  }
}

/** A reservation's folder is locked as host-local locks it: the address is not given away between the look and the removal. */
function removeUnchanged({ path, text, lock }: Step & { kind: 'file' }): 'done' | 'gone' | 'changed' {
  using _held = lock === undefined ? undefined : takeLock(lock, { mode: 0o750 })
  const now = readState(path)
  if (now === undefined) return 'gone'
  if (now !== text) return 'changed'
  return removeFile(path) === 'removed' ? 'done' : 'gone'
}

function ruleCommands({ family, table, rules, chains }: Step & { kind: 'rules' }): Command[] {
  return [
    ...rules.map<Command>(({ chain, handle }) => ({
      verb: 'delete',
      kind: 'rule',
      family,
      table,
      chain,
      handle,
    })),
    ...chains.map<Command>(name => ({ verb: 'flush', kind: 'chain', family, table, name })),
    ...chains.map<Command>(name => ({ verb: 'delete', kind: 'chain', family, table, name })),
  ]
}

function removeFromIptables({ family, variant, table, chains, addresses }: Step & { kind: 'iptables' }) {
  return removeRules({ family, variant }, table, {
    isRemovedChain: name => chains.includes(name),
    isRemovedRule: ({ chain, source, destination }) =>
      chain === 'CNI-FORWARD' && addresses.includes(source ?? destination ?? ''),
  })
}
