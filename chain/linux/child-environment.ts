/** What of a caller's environment counts for the programs that are run. */

/** Where a node keeps its programs when PATH does not say. */
const USUAL_PATH = '/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin'

/** Where helpers are looked for: of PATH only what is absolute, for "." is a folder that somebody else may have filled. */
export function helperPath(path = Bun.env.PATH ?? ''): string {
  const absolute = path.split(':').filter(folder => folder.startsWith('/'))
  return [...absolute, USUAL_PATH].join(':')
}

/** The first letters that the start of the static executable has blanked (tools/static/start.c), by what follows them. */
const BLANK = '\u0001'
const settings = ['BUN_', 'NODE_', 'LD_', 'JSC_', 'ICU_', 'MIMALLOC_', 'MUSL_', 'SIMDUTF_']

/**
 * An environment as the caller gave it, for a process that is none of ours: names such as LD_LIBRARY_PATH, which must not
 * change this executable, have their first letter again.
 */
export function asGiven(environment: Readonly<Record<string, string>>): Record<string, string> {
  const given: Record<string, string> = {}
  for (const [name, value] of Object.entries(environment)) {
    const setting = name[0] === BLANK ? settings.find(one => name.startsWith(one.slice(1), 1)) : undefined
    given[setting ? `${setting[0]}${name.slice(1)}` : name] = value
  }
  return given
}
