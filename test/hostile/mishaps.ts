/** What can become of a file of state, and which files there are: for tests that meddle with each. */
import {
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { filesBelow, STATE_FOLDERS } from '../fixtures/snapshot.ts'

/** A file that cannot be changed. */
export const VICTIM = '/run/victim'
export const VICTIM_TEXT = 'victim text\n'

const remove = (path: string) => rmSync(path, { recursive: true, force: true })
const isLink = (path: string) => lstatSync(path).isSymbolicLink()

/** A file's text, or a link's. */
const textOf = (path: string) => (isLink(path) ? readlinkSync(path) : readFileSync(path, 'latin1'))

/** In its place, as an open file has it; what is a link becomes another one. */
function rewrite(path: string, text: string): void {
  if (isLink(path)) {
    remove(path)
    symlinkSync(text === '' ? '.' : text, path)
  } else writeFileSync(path, text, 'latin1')
}

const replacing = (put: (path: string) => void) => (path: string) => {
  remove(path)
  put(path)
}

export const mishaps: Readonly<Record<string, (path: string) => void>> = {
  removed: remove,
  emptied: path => rewrite(path, ''),
  torn: path => rewrite(path, textOf(path).slice(0, Math.floor(textOf(path).length / 2))),
  'filled with garbage': path => rewrite(path, '\u0001{"garbage'),
  'another document': path => rewrite(path, '{}'),
  'a list': path => rewrite(path, '[null]'),
  'a word': path => rewrite(path, 'garbage'),
  'replaced by an empty file': replacing(path => writeFileSync(path, '')),
  'replaced by a folder': replacing(path => mkdirSync(path)),
  'replaced by a dangling link': replacing(path => symlinkSync('/run/none/such', path)),
  "replaced by a link to somebody's file": replacing(path => symlinkSync(VICTIM, path)),
  "replaced by another name of somebody's file": replacing(path => linkOrSymlink(path)),
  'replaced by a link loop': replacing(path => symlinkSync(path, path)),
  'replaced by a pipe': replacing(path => void Bun.spawnSync(['mkfifo', path])),
  'not to be read': path => {
    if (!isLink(path)) chmodSync(path, 0)
  },
}

/** Other file systems can have no other name of it. */
function linkOrSymlink(path: string): void {
  try {
    linkSync(VICTIM, path)
  } catch {
    symlinkSync(VICTIM, path)
  }
}

/** Every file and link of state, with what it says. */
export function stateFiles(): Map<string, string> {
  const found = STATE_FOLDERS.flatMap(filesBelow).filter(({ isFile, isLink }) => isFile || isLink)
  return new Map(found.map(({ path }) => [path, textOf(path)]))
}
