/** Tables of the kernel's older ip_tables, in the form of those of nf_tables: what they match and do becomes expressions. */
import { encodeText } from '../../linux/bytes.ts'
import { type Extension, readWholeLegacyTable, type WholeLegacyRule } from '../../linux/iptables/legacy.ts'
import { legacyTables } from '../../linux/iptables/removal.ts'
import { nested, text, uint32Big } from '../../linux/netlink/codec.ts'
import type { Chain } from '../../linux/nftables/list.ts'
import type { Expression, WholeRule } from '../../linux/nftables/whole-rules.ts'
import type { Table } from './outcome.ts'

/** NF_IP_PRI_*, of table nat by hook. */
const PRIORITIES: Readonly<Record<string, number>> = { raw: -300, mangle: -150, filter: 0, security: 50 }
const NAT_PRIORITIES = [-100, 100, 0, -100, 100] // prerouting, input, forward, output, postrouting

export function readLegacyTables(): Table[] {
  return (['ip', 'ip6'] as const).flatMap(family =>
    legacyTables(family)
      .filter(Boolean)
      .flatMap(name => {
        const table = readWholeLegacyTable(family, name)
        if (!table) return []
        const chains = table.hooks.map(
          ({ hook, chain, drops }): Chain => ({
            table: name,
            name: chain,
            handle: 0,
            hook,
            priority: (name === 'nat' ? NAT_PRIORITIES[hook] : PRIORITIES[name]) ?? 0,
            policy: drops ? 0 : 1,
            type: name === 'nat' ? 'nat' : 'filter',
          }),
        )
        const rules = new Map(
          table.chains.map(chain => [
            chain,
            table.rulesIn(chain).map((rule, at) => wholeRule(rule, chain, at)),
          ]),
        )
        return [{ family, isLegacy: true, name, chains, rules, find: () => undefined }]
      }),
  )
}

const GOTO = 2 // IPT_F_GOTO, IP6T_F_GOTO
const GOTO_PLACE = { ip: 82, ip6: 131 } as const

/** Numbered as `iptables --line-numbers` does. */
function wholeRule(
  { head, matches, target, counters }: WholeLegacyRule,
  chain: string,
  at: number,
): WholeRule {
  return {
    chain,
    handle: at + 1,
    comment: '',
    expressions: [
      { name: 'head', data: new Map([[1, head]]) },
      ...matches.map(match => extension('match', match)),
      counter(counters),
      targetOf(target, (head[GOTO_PLACE[head.length < 100 ? 'ip' : 'ip6']] ?? 0) & GOTO),
    ],
  }
}

function big32(value: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(4))
  view.setUint32(0, value)
  return new Uint8Array(view.buffer)
}

function extension(name: 'match' | 'target', of: Extension): Expression {
  return {
    name,
    data: new Map([
      [1, encodeText(`${of.name}\0`)],
      [2, big32(of.revision)],
      [3, of.info],
    ]),
  }
}

function counter({ packets, bytes }: WholeLegacyRule['counters']): Expression {
  const of = (value: bigint) => {
    const view = new DataView(new ArrayBuffer(8))
    view.setBigUint64(0, value)
    return new Uint8Array(view.buffer)
  }
  return {
    name: 'counter',
    data: new Map([
      [1, of(bytes)],
      [2, of(packets)],
    ]),
  }
}

/** XT_RETURN is -5, every other verdict -code - 1; nf_tables has jumps at -3, gotos at -4 and returns at -5. */
function targetOf(target: WholeLegacyRule['target'], goes: number): Expression {
  if ('name' in target) return target.name === 'ERROR' ? immediate(0) : extension('target', target)
  if ('chain' in target) return immediate(goes ? -4 : -3, target.chain)
  return immediate(target.verdict === -5 ? -5 : -target.verdict - 1)
}

function immediate(code: number, chain?: string): Expression {
  const verdict = nested(2, uint32Big(1, code >>> 0), ...(chain === undefined ? [] : [text(2, chain)]))
  return {
    name: 'immediate',
    data: new Map([
      [1, big32(0)],
      [2, verdict],
    ]),
  }
}
