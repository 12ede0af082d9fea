/** Rules with all that they do, for who carries them out himself. */
import { type AttributeMap, after, attributeMap, attributes, join, text } from '../netlink/codec.ts'
import { dump, type Transport } from '../netlink/socket.ts'
import { GET_RULE, handleOf, header, orNone, readComment, textOf } from './list.ts'
import type { Family } from './nft.ts'

/** One expression of a rule, as the kernel has it: its name and its attributes (NFTA_EXPR_*). */
export interface Expression {
  name: string
  data: AttributeMap
}

/** A rule for who carries it out himself. */
export interface WholeRule {
  chain: string
  handle: number
  comment: string
  expressions: Expression[]
}

/** The rules of a table with all that they do, in order. */
export function listWholeRules(netfilter: Transport, family: Family, table: string): WholeRule[] {
  const asked = {
    operation: `list rules of ${family} ${table}`,
    type: GET_RULE,
    payload: join(header(family), text(1, table)),
  }
  return orNone(() =>
    dump(netfilter, asked, ({ payload }) => {
      const found = attributeMap(after(payload, 4))
      const expressions = found.get(4)
      return {
        chain: textOf(found.get(2)),
        handle: handleOf(found.get(3)),
        comment: readComment(found.get(7)),
        expressions: expressions ? attributes(expressions).map(({ value }) => readExpression(value)) : [],
      }
    }),
  )
}

function readExpression(bytes: Uint8Array): Expression {
  const found = attributeMap(bytes)
  return { name: textOf(found.get(1)), data: attributeMap(found.get(2) ?? new Uint8Array(0)) }
}
