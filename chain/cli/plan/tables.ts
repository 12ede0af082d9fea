/** Tables of iptables made again in the twin by its own tools: matches of theirs are in no form that the kernel takes back. */
// start-up: what plugins load of the filter stays in one piece when all of it is reached from here
import '../../filter/backend.ts'
import '../../filter/sweep.ts'
import { legacyTables } from '../../linux/iptables/removal.ts'
import { type Family, findVariant, run, type Variant } from '../../linux/iptables/tools.ts'
import { inNamespace } from '../../linux/netns.ts'

/** A table by its family and name. */
export interface TableName {
  family: string
  name: string
}

/** In the namespace that the thread is in, from another one. Answers those that could not be made. */
export function restoreByTools(host: number, refused: readonly TableName[]): string[] {
  const wanted = [
    ...refused.map(table => ({ ...table, variant: 'nf_tables' as const })),
    ...(['ip', 'ip6'] as const).flatMap(family =>
      inNamespace<string[]>(host, () => legacyTables(family).filter(Boolean)).map(name => ({
        family,
        name,
        variant: 'legacy' as const,
      })),
    ),
  ]
  return wanted.flatMap(table => (copyTable(host, table) ? [] : [`table ${table.family} ${table.name}`]))
}

function copyTable(host: number, { family, name, variant }: TableName & { variant: Variant }): boolean {
  const tools = family === 'ip' || family === 'ip6' ? findVariant(family as Family, variant) : undefined
  if (!tools) return false
  const saved = inNamespace(host, () => run([tools.save, '-t', name]))
  if (saved.status !== 0) return false
  return run([tools.restore, '-T', name], { input: saved.stdout }).status === 0
}
