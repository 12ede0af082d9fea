/** Which file imports which, and the rooms that they are in. */

export interface Source {
  /** From the root of the repository: "main/bridge.ts". */
  path: string
  text: string
}

export interface Import {
  specifier: string
  kind: 'static' | 'type' | 'dynamic'
}

/** All imports of a text, `import type`, `export … from` and `import()` included. Bun's own scanner leaves types out. */
export function importsOf(text: string): Import[] {
  const code = withoutComments(text)
  const statements = code.matchAll(
    /^\s*(?:import|export)\s+(type\s+)?(?:[\w$\s{},*]*?\sfrom\s*)?['"]([^'"]+)['"]/gm,
  )
  const calls = code.matchAll(/\bimport\s*\(\s*([^)]*?)\s*\)/g)
  return [
    ...Array.from(
      statements,
      ([, type, specifier = '']): Import => ({ specifier, kind: type ? 'type' : 'static' }),
    ),
    ...Array.from(
      calls,
      ([, argument = '']): Import => ({
        specifier: argument.match(/^['"](.*)['"]$/)?.[1] ?? `not a literal: ${argument}`,
        kind: 'dynamic',
      }),
    ),
  ]
}

/** The code alone, line for line. Takes text in quotes as code, which is good enough for the rules here. */
export function withoutComments(text: string): string {
  return text
    .replace(/\/\*[\s\S]*?\*\//g, comment => comment.replace(/[^\n]/g, ' '))
    .replace(/(^|[\s;,{(])\/\/.*$/gm, '$1')
}

/** A room is what may import as one: "chain/linux", "main/bridge" (with the folder of that name), or an entry file. */
export function roomOf(path: string): string {
  const [top = '', next = ''] = path.split('/')
  if (top === 'test') return 'test'
  return `${top}/${top === 'chain' ? next : next.replace(/\.ts$/, '')}`
}
