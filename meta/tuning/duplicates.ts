/** Finds keys that stand twice in one object of a JSON text: decoding keeps the last of them without a word. Pure. */

interface Level {
  /** The key under which this object or list stands; empty for a list's items. */
  name: string
  /** Keys so far; undefined in a list. */
  keys: Set<string> | undefined
}

/** The first key that stands twice in an object of this name, whatever its case; undefined when there is none. The text is valid JSON. */
export function duplicateIn(json: string, name: string): string | undefined {
  // as programs write it, and nearly all of it is written by programs: what decoding drops would be missing
  if (JSON.stringify(JSON.parse(json)) === json) return undefined
  const levels: Level[] = []
  let key = ''
  for (const [token, , colon] of json.matchAll(/("(?:[^"\\]|\\.)*")(\s*:)?|[{}[\]]/g)) {
    const level = levels.at(-1)
    if (token === '{' || token === '[') {
      levels.push({ name: level?.keys ? key : '', keys: token === '{' ? new Set() : undefined })
    } else if (token === '}' || token === ']') levels.pop()
    else if (colon !== undefined && level?.keys) {
      key = JSON.parse(token.slice(0, token.length - colon.length)) as string
      if (level.name.toLowerCase() === name && level.keys.has(key)) return key
      level.keys.add(key)
    }
  }
  return undefined
}
