/**
 * Prints how large the house is: files and lines per room, the longest functions, functions with more than three parameters.
 * usage: bun test/counts.ts [root of the tree, as of another commit]
 */
import { roomOf } from '../tools/docs/imports.ts'
import { functionLengths } from './house.ts'

const root = process.argv[2] ?? `${import.meta.dir}/..`

const sources = [...new Bun.Glob('{chain,main,ipam,meta}/**/*.ts').scanSync(root)].filter(
  path => !path.includes('node_modules') && !path.endsWith('.d.ts'),
)

interface Found {
  where: string
  count: number
}

/** Parameters between a function's brackets, at their own depth: a destructured object is one. */
function countParameters(text: string): number {
  let depth = 0
  let count = text.trim() === '' ? 0 : 1
  for (const character of text.trim().replace(/,$/, '')) {
    if ('([{<'.includes(character)) depth++
    if (')]}>'.includes(character)) depth--
    if (character === ',' && depth === 0) count++
  }
  return count
}

/** The text from an opening bracket to the one that closes it. */
function bracketed(text: string, start: number): string {
  let depth = 0
  for (let at = start; at < text.length; at++) {
    if (text[at] === '(') depth++
    if (text[at] === ')' && --depth === 0) return text.slice(start + 1, at)
  }
  return ''
}

function wideFunctions(path: string, text: string): Found[] {
  const plain = text.replaceAll('=>', '  ')
  return [
    ...plain.matchAll(/\bfunction\*? (\w+)(<[^(]*>)?\(|\bconst (\w+) = (?:async )?\((?=[\w{[)])/g),
  ].flatMap(found => {
    const count = countParameters(bracketed(plain, found.index + found[0].length - 1))
    return count > 3 && count < 20 ? [{ where: `${path}: ${found[1] ?? found[3]}`, count }] : []
  })
}

const rooms = new Map<string, { files: number; lines: number; longest: number }>()
const long: Found[] = []
const wide: Found[] = []
let functions = 0

for (const path of sources.sort()) {
  const text = await Bun.file(`${root}/${path}`).text()
  const lines = text.trimEnd().split('\n')
  const room = rooms.get(roomOf(path)) ?? { files: 0, lines: 0, longest: 0 }
  room.files++
  room.lines += lines.length
  room.longest = Math.max(room.longest, lines.length)
  rooms.set(roomOf(path), room)
  const lengths = functionLengths(lines)
  functions += lengths.length
  long.push(...lengths.map(({ line, length }) => ({ where: `${path}:${line}`, count: length })))
  wide.push(...wideFunctions(path, text))
}

const mostFirst = (one: Found, other: Found) => other.count - one.count
const row = (name: string, ...numbers: (number | string)[]) =>
  `${name.padEnd(52)}${numbers.map(each => String(each).padStart(8)).join('')}`

const output = [
  row('room', 'files', 'lines', 'longest'),
  ...[...rooms].map(([name, { files, lines, longest }]) => row(name, files, lines, longest)),
  row(
    'all',
    sources.length,
    [...rooms.values()].reduce((sum, { lines }) => sum + lines, 0),
  ),
  '',
  row(`longest of ${functions} functions with a body of lines`, 'lines'),
  ...long
    .sort(mostFirst)
    .slice(0, 5)
    .map(({ where, count }) => row(where, count)),
  '',
  row(`functions with more than three parameters: ${wide.length}`, 'many'),
  ...wide.sort(mostFirst).map(({ where, count }) => row(where, count)),
]
process.stdout.write(`${output.join('\n')}\n`)
