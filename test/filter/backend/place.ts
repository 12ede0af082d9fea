/** What the tests of backends share: a host whose iptables is in use, or not, and what of a container is where. */
import { rmSync, writeFileSync } from 'node:fs'
import type { Variant } from '../../../chain/linux/iptables/tools.ts'
import { NODE_WIDE } from '../../../chain/plugin/state.ts'
import { elements, removeBridges } from '../../fixtures/bridge.ts'
import { clearRules, saved, variants } from '../../fixtures/iptables.ts'
import { hostNamespace } from '../../fixtures/namespace.ts'

export const families = ['ip', 'ip6'] as const
export type Family = (typeof families)[number]

const suffixes = { nf_tables: 'nft', legacy: 'legacy' } as const

/** Runs iptables, or ip6tables, of a variant. */
export function run(variant: Variant, family: Family, ...words: string[]): string {
  const tool = `${family === 'ip' ? 'iptables' : 'ip6tables'}-${suffixes[variant]}`
  return hostNamespace().run(tool, '-w', ...words)
}

/** An answer for the node, until it is disposed of. */
export function nodeWide(text: string | object): Disposable {
  writeFileSync(NODE_WIDE, typeof text === 'string' ? text : JSON.stringify(text))
  return { [Symbol.dispose]: () => rmSync(NODE_WIDE) }
}

/** A host without any rules, of either kind. */
export function clearHost(): void {
  clearRules()
  for (const variant of variants) {
    for (const family of families) {
      for (const chain of ['INPUT', 'FORWARD', 'OUTPUT']) run(variant, family, '-P', chain, 'ACCEPT')
    }
  }
  hostNamespace().run('nft', 'flush', 'ruleset')
  removeBridges()
}

/** The same for what nf_tables holds, and what was noted of rules: without a program for each table of iptables. */
export function forgetRules(): void {
  hostNamespace().run('nft', 'flush', 'ruleset')
  for (const folder of ['firewall', 'iptables'])
    rmSync(`/run/catena/${folder}`, { recursive: true, force: true })
}

/** A rule of somebody's that changes nothing for containers. */
export function useIptables(variant: Variant): void {
  run(variant, 'ip', '-A', 'INPUT', '-s', '203.0.113.9', '-j', 'DROP')
}

export type Where = 'nftables' | Variant

/** What holds a container's rules: our tables, or chains and rules of either variant of iptables. */
export function backendsOf(): Where[] {
  const isOwn = (line: string) => /^-A CNI-(DN-|[0-9a-f]{24}|FORWARD -s )/.test(line)
  const ofIptables = variants.filter(variant =>
    families.some(family => [...saved(variant, family), ...saved(variant, family, 'filter')].some(isOwn)),
  )
  return [...(elements().length > 0 ? (['nftables'] as const) : []), ...ofIptables]
}
