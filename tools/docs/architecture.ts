/** docs/architecture.md: the rooms, as the imports have them, and the way of one request, with the names of today's files. */
import { readFileSync } from 'node:fs'
import { importsOf, roomOf } from './imports.ts'

const ROOT = `${import.meta.dir}/../..`

/** What is in a room. Plugins are one room for each kind. */
const rooms: Readonly<Record<string, string>> = {
  'chain/ip': 'Addresses, prefixes, hardware addresses: text, numbers, bytes.',
  'chain/protocol':
    'The specification as data: environment, configuration, results of every version, errors. No input, no output.',
  'chain/linux':
    'The kernel, without a word of CNI: system calls, namespaces, netlink, nf_tables, iptables, D-Bus, files and locks.',
  'chain/invoke':
    'Finds a plugin by its type and runs it: in this process if it is this very file, as a process otherwise.',
  'chain/plugin':
    'What it is to be a plugin: definePlugin, the run from standard input to result or error, undo, delegates, owners, state.',
  'chain/interface':
    'An interface in a container: made, configured, checked, announced; its host end; sub-interfaces of a master.',
  'chain/filter':
    'What packets pass through: which backend, the one layout of our nftables tables, the Go plugins’ chains of iptables, sweeping by owner.',
  main: 'Plugins that make interfaces.',
  ipam: 'Plugins that give addresses.',
  meta: 'Plugins that change what others have made.',
  'chain/runtime': 'libcni: loads lists, runs them forwards and backwards, keeps results.',
  'chain/trace':
    'What a chain or a plugin did, as spans: who waited for whom; for the command, and for collectors of OpenTelemetry.',
  'chain/observe':
    'A node read once: networks, caches, reservations, namespaces, links, packet filters, joined into one model that says what is live.',
  'chain/service':
    'The warm service: processes that wait for calls, judge who makes them, and do them as the caller would.',
  'chain/cli': 'The command `catena`.',
  'chain/catena.ts':
    'The executable: the name that it is called by chooses the plugin or the command. It alone knows all plugins.',
}

/** A room, or one kind of plugins; undefined for what is no part of the product. */
function placeOf(path: string): string | undefined {
  if (/^(main|ipam|meta)\//.test(path)) return path.slice(0, path.indexOf('/'))
  if (!path.startsWith('chain/')) return undefined
  return path === 'chain/catena.ts' ? path : roomOf(path)
}

const readSource = (path: string) => readFileSync(`${ROOT}/${path}`, 'utf8')

function sourcePaths(): string[] {
  return ['chain', 'main', 'ipam', 'meta']
    .flatMap(folder => [...new Bun.Glob(`${folder}/**/*.ts`).scanSync({ cwd: ROOT })])
    .toSorted()
}

/** For each room those that it imports. */
export function importsOfRooms(): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>()
  for (const path of sourcePaths()) {
    const here = placeOf(path) ?? ''
    const imported = found.getOrInsertComputed(here, () => new Set())
    for (const { specifier } of importsOf(readSource(path))) {
      if (!/^\..*\.ts$/.test(specifier)) continue // a file's text is no part of a room
      const there = placeOf(new URL(specifier, `file:///${path}`).pathname.slice(1))
      if (there !== undefined && there !== here) imported.add(there)
    }
  }
  for (const room of found.keys())
    if (!(room in rooms)) throw new Error(`nothing is said about the room ${room}`)
  for (const room of Object.keys(rooms)) if (!found.has(room)) throw new Error(`there is no room ${room}`)
  return found
}

/** All that a room stands on, at whatever distance. */
function below(room: string, imports: ReadonlyMap<string, ReadonlySet<string>>): Set<string> {
  const seen = new Set<string>()
  const visit = (each: string) => {
    for (const next of imports.get(each) ?? []) {
      if (seen.has(next)) continue
      seen.add(next)
      visit(next)
    }
  }
  visit(room)
  return seen
}

/** Without the arrows that others lead to as well: the picture has lines enough. */
function arrows(imports: ReadonlyMap<string, ReadonlySet<string>>): [string, string][] {
  return [...imports].flatMap(([from, targets]) =>
    [...targets]
      .filter(to => ![...targets].some(other => other !== to && below(other, imports).has(to)))
      .toSorted()
      .map((to): [string, string] => [from, to]),
  )
}

const nodeName = (room: string) => room.replaceAll(/[^a-z]/g, '_')

function picture(imports: ReadonlyMap<string, ReadonlySet<string>>): string {
  const names = Object.keys(rooms).map(room => `  ${nodeName(room)}["${room}"]`)
  const lines = arrows(imports).map(([from, to]) => `  ${nodeName(from)} --> ${nodeName(to)}`)
  return ['```mermaid', 'flowchart TD', ...names, ...lines, '```'].join('\n')
}

function roomTable(imports: ReadonlyMap<string, ReadonlySet<string>>): string {
  const rows = Object.entries(rooms).map(([room, words]) => {
    const imported = [...(imports.get(room) ?? [])].toSorted().join(', ')
    return `| \`${room}\` | ${words} | ${imported || 'nothing of ours'} |`
  })
  return ['| room | what is in it | imports |', '|---|---|---|', ...rows].join('\n')
}

/** A step of the way: the function that does it, and, where several have its name, what its file's path holds. */
interface Step {
  name: string
  near?: string
  says: string
}

const way: readonly Step[] = [
  {
    name: 'portmap',
    near: 'meta/portmap',
    says: 'the story of the verb: what is to be published, where to, by which backend.',
  },
  {
    name: 'portMappings',
    says: 'the mapping as the plugin thinks of it: `{ protocol: "tcp", hostPort: 8080, containerPort: 80, families: [4, 6] }`. The schema, `schema.ts` beside it, has refused what cannot be.',
  },
  {
    name: 'publish',
    near: 'meta/portmap/nftables',
    says: 'the backend as a value, `{ add, check, remove }`: one target for each family and its mappings together; a host port that another has is refused here, by the name of who has it.',
  },
  {
    name: 'elementsOf',
    near: 'meta/portmap/elements',
    says: 'the elements as data, each with its kind (`published-address`, `published-port`, `hairpin`): `port_address` (`tcp . 8080 : 10.22.0.2`), `port_port` (`tcp . 8080 : 80`), and `hairpin_port` for connections that would be answered past the host.',
  },
  {
    name: 'addOwned',
    says: 'the table is read, what is there and right is left, and the rest goes to the kernel as one batch over netlink: all of it or nothing. Each element carries its owner in the comment.',
  },
]

/** The one file that exports a function or a value of that name. */
function fileOf({ name, near = '' }: Step): string {
  const pattern = new RegExp(`^export (async )?(function|const) ${name}\\b`, 'm')
  const files = sourcePaths().filter(path => path.includes(near) && pattern.test(readSource(path)))
  const [file] = files
  if (file !== undefined && files.length === 1) return file
  throw new Error(
    `${name} is exported by ${files.join(' and ') || 'no file'}: say in tools/docs/architecture.ts which is meant`,
  )
}

function wayOfOneRequest(): string {
  const steps = way.map((step, index) => {
    const file = fileOf(step)
    return `${index + 1}. [${file}](../${file}), \`${step.name}\`: ${step.says}`
  })
  return steps.join('\n')
}

/** How many files the way leads through: a stranger should not need more than five. */
export function filesOnTheWay(): string[] {
  return [...new Set(way.map(fileOf))]
}

const before = `<!-- Made by \`bun tools/docs.ts\` from the imports and tools/docs/architecture.ts: change these. -->

# Architecture

Catena is one program. Called by the name of a plugin it is that plugin; called \`catena\` it is the command. A room is what one must know
to change it, and a room knows those below it alone: who may import whom is a test ([test/house.test.ts](../test/house.test.ts)).`

const request = `## Follow one request

A runtime adds a container whose port 80 is to be 8080 of the host. It calls \`portmap\` with this on standard input:

\`\`\`json
{ "type": "portmap", "runtimeConfig": { "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }] }, "prevResult": … }
\`\`\`

What every plugin has in common comes first and is the same for all: the run reads the environment and standard input, holds the
configuration against the plugin's schema, and calls \`add\`. From there it is five files to the element in the kernel:`

const after = `The element as the kernel shows it: \`nft list map ip catena port_address\` ([more to look at](plugins/portmap.md)). DEL does not ask what
was done: it takes whatever has this owner in the comment.

## What holds everywhere

- ADD is all or nothing: each step that makes something is followed by the line that undoes it.
- DEL does not remember, it looks: every step is taken whatever became of the others, and what is missing counts as done.
- What a container has is known by its owner, two hashes of network and attachment, in a comment, a name or a file's name.
- Namespaces are entered for as long as a synchronous function runs; sockets that it opens are used from outside.
- State on disk is in the Go plugins' places and formats where they have one ([operate](operate.md) lists all), and survives a kill between any two
  system calls.
- The words that are ours are in the [glossary](glossary.md).`

export function architecturePage(): string {
  const imports = importsOfRooms()
  const caption =
    'An arrow: imports. What an arrow leads to by way of another room is left out; the table has all.'
  const parts = [
    before,
    '## The rooms',
    picture(imports),
    caption,
    roomTable(imports),
    request,
    wayOfOneRequest(),
    after,
  ]
  return `${parts.join('\n\n')}\n`
}
