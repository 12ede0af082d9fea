/**
 * Takes out of a program what ICU knows of languages that nothing of ours speaks: their names, currencies, units, sorting orders
 * and dictionaries, 9 of its 12 MB, which hardly compress. Who asks for one is given the root locale's, as ICU does where it was built
 * without; English, Unicode's properties and normalization, time zones and domain names stay.
 * Format: https://github.com/unicode-org/icu/blob/main/icu4c/source/common/ucmndata.h
 */

/** "CmnD", the format of a package of data, stands 12 bytes behind its header's beginning. */
const PACKAGE = Buffer.from('CmnD')
const FORMAT_AT = 12
const MAGIC = 0x27da
const ALIGNMENT = 16 // of an item

/** Folders of data by locale; what lies beside them is ICU's own. */
const kept = /^(root|en|en_US|en_US_POSIX|pool|res_index|ucadata|.*\.(brk|icu|nrm))(\.|$)/
const isOfLocale = /^([a-z]{2,3}(_\w+)?)\.res$/
const isInFolder = /^(brkitr|coll|curr|lang|rbnf|region|unit|zone)\//

interface Item {
  /** "coll/zh.res" */
  name: string
  nameOffset: number
  offset: number
}

/** Whether an item stays, by its name without the package's. */
export function isKept(name: string): boolean {
  const file = name.slice(name.lastIndexOf('/') + 1)
  return kept.test(file) || !(isInFolder.test(name) || isOfLocale.test(name))
}

/** Bytes of a file that are not needed. */
export interface Hole {
  offset: number
  length: number
}

/**
 * Moves the items that stay together, takes the others off the table of contents, and answers where they have been. The last item, whose
 * length nothing tells, is left where it is.
 */
export function trimLocales(file: Buffer): Hole {
  const table = tableIn(file)
  const count = file.readUInt32LE(table)
  const items = Array.from({ length: count }, (_, index) => itemAt(file, table, index))
  const end = items.at(-1)?.offset ?? 0
  let free = items[0]?.offset ?? 0
  const left = items.flatMap((item, index) => {
    if (!isKept(item.name)) return []
    const next = items[index + 1]?.offset
    if (next === undefined) return [item]
    const offset = free + ((item.offset - free) & (ALIGNMENT - 1))
    file.copyWithin(table + offset, table + item.offset, table + next)
    free = offset + next - item.offset
    return [{ ...item, offset }]
  })
  file.fill(0, table + free, table + end)
  file.writeUInt32LE(left.length, table)
  left.forEach(({ nameOffset, offset }, index) => {
    file.writeUInt32LE(nameOffset, table + 4 + 8 * index)
    file.writeUInt32LE(offset, table + 8 + 8 * index)
  })
  return { offset: table + free, length: end - free }
}

/** Where the table of contents begins, to which all offsets are relative. There has to be one package. */
function tableIn(file: Buffer): number {
  const found: number[] = []
  for (let at = file.indexOf(PACKAGE); at >= 0; at = file.indexOf(PACKAGE, at + 1)) {
    const header = at - FORMAT_AT
    if (header >= 0 && file.readUInt16LE(header + 2) === MAGIC) found.push(header + file.readUInt16LE(header))
  }
  const [table, ...more] = found
  if (table === undefined || more.length > 0)
    throw new Error(`ICU's data is in this Bun ${found.length} times, and should be there once`)
  return table
}

function itemAt(file: Buffer, table: number, index: number): Item {
  const nameOffset = file.readUInt32LE(table + 4 + 8 * index)
  const offset = file.readUInt32LE(table + 8 + 8 * index)
  const start = table + nameOffset
  const whole = file.toString('latin1', start, file.indexOf(0, start))
  return { name: whole.slice(whole.indexOf('/') + 1), nameOffset, offset }
}
