/** `npm run release`: archives, image, bill of materials and sums. Started by tools/release.sh, in a folder that is the same everywhere. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { version } from '../package.json' with { type: 'json' }
import { imageOf, type Variant } from './release/image.ts'
import { billOfMaterials, licences } from './release/materials.ts'
import { type Entry, tar } from './release/tar.ts'
import { commitOf } from './static/commit.ts'
import { targets } from './static/targets.ts'
import { ROOT, run } from './static/work.ts'

/** zstd reads windows of 128 MB without being asked to; level 22 takes minutes. */
const ZSTD = ['zstd', '--quiet', '--ultra', '--long=27', '--force']

const processors: Readonly<Record<string, Variant['architecture']>> = { x64: 'amd64', arm64: 'arm64' }

interface Release {
  folder: string
  /** Seconds since 1970 of the commit: the time of every file. */
  seconds: number
  commit: string
  level: string
}

function release(words: readonly string[]): void {
  const { values, positionals } = parseArgs({
    args: [...words],
    allowPositionals: true,
    options: { into: { type: 'string', default: 'release' }, level: { type: 'string', default: '22' } },
  })
  const commit = commitOf()
  const seconds = commit === 'unknown' ? 0 : Number(run(['git', 'log', '-1', '--format=%ct']))
  const made: Release = { folder: values.into, seconds, commit, level: values.level }
  rmSync(made.folder, { recursive: true, force: true })
  mkdirSync(made.folder, { recursive: true })
  const names = positionals.length > 0 ? positionals : Object.keys(targets)
  const variants: Variant[] = []
  for (const name of names) {
    const built = `${made.folder}/${name}`
    run([process.execPath, 'tools/build.ts', '--quiet', '--target', name, '--into', built])
    const architecture = processors[name]
    if (architecture) variants.push({ architecture, executable: readFileSync(`${built}/catena`) })
    pack(name, built, made)
    rmSync(built, { recursive: true })
  }
  if (variants.length > 0) {
    const image = imageOf(variants, { name: `localhost/catena:${version}`, version, commit, seconds })
    writeFileSync(`${made.folder}/catena-${version}-image.tar`, image)
  }
  writeFileSync(`${made.folder}/catena-${version}.cdx.json`, billOfMaterials({ version, seconds }))
  writeSums(made.folder)
}

/** The archive of one target. */
function pack(name: string, built: string, { folder, seconds, level }: Release): void {
  const whole = `catena-${version}-linux-${name}`
  const entries = [
    ...executables(built, `${whole}/bin`),
    ...filesOf(built, name => /\.(service|socket)$/.test(name), `${whole}/systemd`),
    ...['schemas', 'completions', 'man'].flatMap(each =>
      filesOf(`${built}/${each}`, () => true, `${whole}/${each}`),
    ),
    ...Object.entries(licences()).map(
      ([file, content]): Entry => ({ name: `${whole}/licences/${file}`, mode: 0o644, content }),
    ),
    { name: `${whole}/install.md`, mode: 0o644, content: readFileSync(`${ROOT}/docs/install.md`) },
  ]
  const file = `${folder}/${whole}.tar`
  writeFileSync(file, tar([...foldersAbove(entries), ...entries], seconds))
  run([...ZSTD, `-${level}`, file, '-o', `${file}.zst`])
  rmSync(file)
}

/** One file, and links to it. */
function executables(built: string, place: string): Entry[] {
  const inode = statSync(`${built}/catena`).ino
  const links = readdirSync(built).filter(
    name => name !== 'catena' && statSync(`${built}/${name}`).ino === inode,
  )
  return [
    { name: `${place}/catena`, mode: 0o755, content: readFileSync(`${built}/catena`) },
    ...links
      .toSorted()
      .map((name): Entry => ({ name: `${place}/${name}`, mode: 0o755, linkTo: `${place}/catena` })),
  ]
}

function filesOf(folder: string, isIncluded: (name: string) => boolean, place: string): Entry[] {
  if (!existsSync(folder)) return []
  const names = readdirSync(folder).filter(isIncluded).toSorted()
  return names.map(name => ({
    name: `${place}/${name}`,
    mode: 0o644,
    content: readFileSync(`${folder}/${name}`),
  }))
}

function foldersAbove(entries: readonly Entry[]): Entry[] {
  const folders = entries.flatMap(({ name }) =>
    [...name.matchAll(/\//g)].map(({ index }) => name.slice(0, index + 1)),
  )
  return [...new Set(folders)].toSorted().map(name => ({ name, mode: 0o755 }))
}

/** As sha256sum writes and checks them. */
function writeSums(folder: string): void {
  const lines = readdirSync(folder)
    .toSorted()
    .map(name => {
      const sum = new Bun.CryptoHasher('sha256').update(readFileSync(`${folder}/${name}`)).digest('hex')
      console.log(
        `${(statSync(`${folder}/${name}`).size / 1e6).toFixed(1).padStart(7)} MB  ${folder}/${name}`,
      )
      return `${sum}  ${name}\n`
    })
  writeFileSync(`${folder}/SHA256SUMS`, lines.join(''))
}

try {
  release(process.argv.slice(2))
} catch (thrown) {
  console.error(`release: ${thrown instanceof Error ? thrown.message : thrown}`)
  process.exitCode = 1
}
