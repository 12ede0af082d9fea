/** The rules of the house as functions over file names and text: who may import whom, and what may be written where. */

import { type Import, importsOf, roomOf, type Source, withoutComments } from '../tools/docs/imports.ts'

export { importsOf, type Source }

const kernel = ['chain/linux', 'chain/ip']
const contract = ['chain/plugin', 'chain/protocol', ...kernel]

const may: Record<string, readonly string[]> = {
  'chain/ip': [],
  'chain/protocol': ['chain/ip'],
  'chain/linux': ['chain/ip'],
  'chain/invoke': ['chain/protocol', ...kernel],
  'chain/trace': ['chain/protocol', ...kernel],
  'chain/plugin': ['chain/invoke', 'chain/trace', 'chain/protocol', ...kernel],
  'chain/interface': contract,
  'chain/filter': contract,
  'chain/runtime': ['chain/invoke', 'chain/protocol', ...kernel],
  'chain/observe': ['chain/runtime', 'chain/filter', ...contract],
  'chain/service': ['chain/invoke', ...contract],
  'chain/cli': [
    'chain/trace',
    'chain/observe',
    'chain/runtime',
    'chain/service',
    'chain/filter',
    ...contract,
  ],
  'tools/release': ['tools/static'],
}

/** What plugins may import beside the folder of their own name; an IPAM plugin has no business with packet filters. */
const plugins: Record<string, readonly string[]> = {
  main: ['chain/interface', 'chain/filter', ...contract],
  meta: ['chain/interface', 'chain/filter', ...contract],
  ipam: ['chain/interface', ...contract],
}

/** The rooms of ipam/dhcp, each with those that it stands on; what lies beside them is for all. */
const dhcp: Record<string, readonly string[]> = {
  rpc: [],
  link: [],
  engine: ['link'],
  v4: ['engine', 'link'],
  v6: ['engine', 'link'],
  slaac: ['v6', 'engine', 'link'],
  daemon: ['slaac', 'v6', 'v4', 'engine', 'link', 'rpc'],
}

function dhcpRoomOf(path: string): string | undefined {
  return /^ipam\/dhcp\/([a-z0-9]+)\//.exec(path)?.[1]
}

function mayImportInDhcp(from: string, to: string): boolean {
  const [here, there] = [dhcpRoomOf(from), dhcpRoomOf(to)]
  return !here || !there || here === there || (dhcp[here] ?? []).includes(there)
}

const entries = ['chain/catena.ts', 'tools/build.ts', 'tools/docs.ts', 'tools/release.ts']

/** Whether one file may import another. The files that know everything are the entries, what describes all plugins (tools/docs), and the tests. */
export function mayImport(from: string, to: string): boolean {
  const [here, there] = [roomOf(from), roomOf(to)]
  if (here === 'test' || to === 'package.json') return true // the version of all of it
  if (from === 'chain/cli/shipped.ts' && /^ipam\/dhcp\/daemon\/\S+\.(service|socket)$/.test(to)) return true // files, no code
  if (there === 'test' || to.startsWith('dist/')) return false
  if (entries.includes(from) || here === 'tools/docs') return true
  if (here === there) return mayImportInDhcp(from, to)
  const allowed = plugins[here.split('/')[0] ?? ''] ?? may[here] ?? []
  return allowed.includes(there)
}

/** Circles of files that import one another, types included: each as its paths in order, from the first of them on. */
export function circlesIn(sources: readonly Source[]): string[][] {
  const imported = new Map(
    sources.map(({ path, text }) => [
      path,
      importsOf(text).flatMap(({ specifier }) =>
        specifier.startsWith('.') ? [new URL(specifier, `file:///${path}`).pathname.slice(1)] : [],
      ),
    ]),
  )
  const circles = new Map<string, string[]>()
  const done = new Set<string>()
  const visit = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path)
    if (start >= 0) {
      const circle = trail.slice(start)
      circles.set(circle.toSorted().join(), circle)
    }
    if (start >= 0 || done.has(path)) return
    for (const next of imported.get(path) ?? []) visit(next, [...trail, path])
    done.add(path)
  }
  for (const path of imported.keys()) visit(path, [])
  return [...circles.values()]
}

/** What a plugin loads when it starts, where each module costs every call. */
const loadedByPlugins = /^(chain\/(ip|protocol|linux|invoke|plugin|interface|filter)|main|ipam|meta)\//

const costly = /^(node:|fs$|child_process$|execa(\/|$)|zod$|zod\/v4|ip-address$)/

/** zod is for refusals: schemas alone stand on it, and nothing that a plugin loads at once stands on a schema. */
function isLoadedByPlugins({ path, kind }: { path: string; kind: Import['kind'] }): boolean {
  return loadedByPlugins.test(path) && kind === 'static' && !path.endsWith('/schema.ts')
}

function importProblem({ path }: Source, { specifier, kind }: Import): string | undefined {
  if (specifier.startsWith('not a literal'))
    return /^(tools\/docs|test)\//.test(path) ? undefined : `${path} imports what is ${specifier}`
  if (specifier.startsWith('.')) {
    const target = new URL(specifier, `file:///${path}`).pathname.slice(1)
    const isSchema = target.endsWith('/schema.ts') && isLoadedByPlugins({ path, kind })
    return mayImport(path, target) && !isSchema ? undefined : `${path} imports ${target}`
  }
  const refused =
    (specifier === 'bun:ffi' && !path.startsWith('chain/linux/libc/')) ||
    (specifier.startsWith('zod') && (path.startsWith('chain/linux/') || isLoadedByPlugins({ path, kind }))) ||
    (costly.test(specifier) && loadedByPlugins.test(path) && kind !== 'dynamic')
  return refused ? `${path} imports ${specifier}` : undefined
}

interface Ban {
  what: string
  pattern: RegExp
  in: RegExp
  but?: RegExp
  /** What in a file it does not concern. */
  spares?: RegExp
}

const sources = /^(tools|chain|main|ipam|meta)\//

const bans: Ban[] = [
  {
    what: 'calls setns',
    pattern: /\b(setns|setNamespace)\b/,
    in: sources,
    but: /^chain\/(linux\/(netns|libc\/(ffi|process))|cli\/plan\/calls)\.ts$/, // the last only watches
  },
  {
    what: 'touches the process',
    pattern: /(?<!\/)\b(process\.(?!arch\b)[a-z]|console\.[a-z])/,
    in: sources,
    but: /^(tools\/|chain\/(plugin\/run\.ts$|service\/process\.ts$|cli\/|catena\.ts$)|ipam\/dhcp\/daemon\/main\.ts$)/,
    spares: /^if \(import\.meta\.main\)[\s\S]*/m, // what makes of a plugin's file an entry file
  },
  { what: 'awaits at the top level', pattern: /^(const \S+ = |let \S+ = )?await /m, in: sources },
  {
    what: 'sleeps',
    pattern: /\b(Bun\.sleep|sleepSync|setInterval)\b/,
    in: /^(main|ipam|meta|chain\/(linux|plugin|protocol))\//,
    but: /^chain\/linux\/lock\.ts$/, // no event tells that a lock is free, unless one waits for it without an end
  },
  {
    what: 'runs a program that netlink or a file stands for',
    pattern:
      /\b(spawn|spawnSync|execa|execaSync)\(\s*\[?\s*['"`](\/\S*\/)?(ip|bridge|tc|sysctl|modprobe|ethtool)['"` ]/,
    in: sources,
  },
  { what: 'leaves tests out', pattern: /\.(skip|only|todo|failing)\(/, in: /^test\// },
  {
    what: 'leaves tests out',
    pattern: /\b(test|it|describe)\.(skipIf|if|todoIf)\(/,
    in: /^test\//,
    but: /^test\/kernel\/features\.ts$/,
  },
  { what: 'plays somebody', pattern: /\b(mock|spyOn)\(|\bmock\.module\b/, in: /^test\// },
  { what: 'sleeps', pattern: /\b(Bun\.sleep|sleepSync)\b/, in: /^test\// },
]

/** Everything in a source file that the house does not allow, as sentences. */
export function problemsOf(source: Source): string[] {
  const code = withoutComments(source.text)
  return [
    ...importsOf(source.text).map(each => importProblem(source, each)),
    ...bans.map(ban => banProblem(ban, source.path, code)),
    sources.test(source.path) && !/^(#!.*\n)?\/\*\*/.test(source.text)
      ? `${source.path} does not say what it is`
      : undefined,
    /(^|\/)index\.ts$/.test(source.path) ? `${source.path} is a barrel` : undefined,
    ...lengthProblems(source),
  ].filter(each => each !== undefined)
}

function banProblem(ban: Ban, path: string, code: string): string | undefined {
  if (!ban.in.test(path) || ban.but?.test(path)) return undefined
  const found = (ban.spares ? code.replace(ban.spares, '') : code).match(ban.pattern)
  return found ? `${path} ${ban.what}: ${found[0].trim()}` : undefined
}

const LONGEST_FUNCTION = 60
const LONGEST_FILE = 400

function lengthProblems({ path, text }: Source): string[] {
  if (!sources.test(path)) return []
  const lines = text.trimEnd().split('\n')
  const long = functionLengths(lines).filter(({ length }) => length > LONGEST_FUNCTION)
  return [
    ...(lines.length > LONGEST_FILE ? [`${path} has ${lines.length} lines`] : []),
    ...long.map(({ line, length }) => `${path}:${line} is a function of ${length} lines`),
  ]
}

/** Functions by the formatter's indentation: from the line that opens one to the next that closes at its depth. */
export function functionLengths(lines: readonly string[]): { line: number; length: number }[] {
  return lines.flatMap((line, start) => {
    const opens = /^(\s*)(export |async |function |static )*(function\b.*|[\w$]+\(.*\).*|.*=>) \{$/.exec(line)
    if (!opens || /^\s*(if|for|while|switch|catch)\b/.test(line)) return []
    const indentation = opens[1] ?? ''
    const end = lines.findIndex((each, at) => at > start && each.startsWith(`${indentation}}`))
    return end < 0 ? [] : [{ line: start + 1, length: end - start + 1 }]
  })
}

/** What belongs to one machine or one way of working, in any text file of the repository. */
const foreign = [
  /\/work\/(main|shared)/,
  /\/tmp\/catena\//,
  /\bregistry\.[a-z]+js\.org/,
  /"resolved": "https?:/,
  /\bdeb\.(debian|nodesource)\.(org|com)\b/,
]

export function foreignIn({ path, text }: Source): string[] {
  return foreign.flatMap(pattern => {
    const found = text.match(pattern)
    return found ? [`${path} names ${found[0]}`] : []
  })
}

/** Rooms whose files keep their promises one by one; what a person sees is tested as a person sees it. */
const tested = /^chain\/(ip|protocol|linux|invoke|plugin|interface|filter|runtime)\//
const SHORT = 30

/** What a source may be without a test of its own name for: its promises are kept by the test of another. */
export type TestedElsewhere = Readonly<Record<string, string>>

/** The tests of a source, by where it is: `test/filter/sweep.test.ts` of `chain/filter/sweep.ts`, or all below `test/filter/sweep/`. */
function isTestOf(test: string, path: string): boolean {
  const mirror = path.replace(/^chain\//, 'test/').replace(/\.ts$/, '')
  return test === `${mirror}.test.ts` || (test.startsWith(`${mirror}/`) && test.endsWith('.test.ts'))
}

/** Sources of the chain of more than a few lines that have no test, and what is said of tests elsewhere that no longer holds. */
export function untestedIn(sources: readonly Source[], elsewhere: TestedElsewhere): string[] {
  const tests = sources.map(({ path }) => path).filter(path => /^test\/.*\.test\.ts$/.test(path))
  const hasTest = (path: string) => tests.some(test => isTestOf(test, path))
  const long = sources.filter(
    ({ path, text }) => tested.test(path) && text.trimEnd().split('\n').length > SHORT,
  )
  return [
    ...long
      .filter(({ path }) => !hasTest(path) && elsewhere[path] === undefined)
      .map(({ path }) => `${path} has no test of its own`),
    ...Object.entries(elsewhere).flatMap(([path, test]) => [
      ...(long.some(each => each.path === path) ? [] : [`${path} needs no word on its test`]),
      ...(hasTest(path) ? [`${path} has a test of its own by now`] : []),
      ...(tests.includes(test) ? [] : [`${test}, which is to test ${path}, is not there`]),
    ]),
  ]
}
