/**
 * Makes the loader that embed.ts puts into an executable: musl's C library and dynamic loader with the edits of edits.ts, the
 * C++ symbols that Bun asks for linked in. Kept in .cache under a hash of all that it is made of.
 */
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { edited, edits } from './edits.ts'
import type { Target } from './targets.ts'
import { CACHE, hashOf, keep, ROOT, run } from './work.ts'

const HERE = import.meta.dir
/** The last stable Debian has musl with the corrections of CVE-2025-26519. */
const SUITE = 'trixie'
/** Of musl's own archive, as upstream published it: Debian's changes come in a second one, which its .dsc vouches for. */
const UPSTREAM = {
  file: 'musl_1.2.5.orig.tar.gz',
  sha256: 'a9a118bbe84d8764da0ea0d28b3ab3fae8477fc7e4085d90102b8596fc7c75e4',
}
/** What becomes part of musl's loader, and its names there. */
const OF_LOADER = {
  'start.c': 'embedded.c',
  'warm.c': 'warm.c',
  'early.h': 'early.h',
  'own-tls.h': 'own-tls.h',
}
const OUR_FILES = [...Object.keys(OF_LOADER), 'libstdcxx.cc', 'edits.ts', 'loader.ts']
const CXX_FLAGS = [
  ...['-O2', '-fPIC', '-fno-exceptions', '-fno-rtti', '-ftls-model=initial-exec'],
  ...['-fno-stack-protector', '-U_FORTIFY_SOURCE', '-fvisibility=hidden', '-w'],
]
/** Two segments, the first from the file's beginning, without what a loader that has no loader itself cannot have (RELRO). */
const LINK_FLAGS = [
  ...['--sort-section,alignment', '--sort-common', '--gc-sections', '--hash-style=both', '--no-undefined'],
  ...['-z,noseparate-code', '-z,norelro', '-z,max-page-size=65536', '--build-id=none', '-e,_dlstart'],
].map(flag => `-Wl,${flag}`)

/** The loader for a target and for the Bun that will stand on it. */
export function loaderFor(target: Target, bun: string): string {
  if (!Bun.which(`${target.prefix}g++`)) setUp(target)
  const source = muslSource()
  const compiler = run([`${target.prefix}g++`, '--version']).split('\n', 1)[0] ?? ''
  const asked = askedBy(bun)
  const key = hashOf([
    source,
    compiler,
    JSON.stringify(asked),
    ...OUR_FILES.map(name => readFileSync(`${HERE}/${name}`, 'utf8')),
  ])
  const file = `${CACHE}/loader-${target.machine}-${key}.so`
  if (!existsSync(file)) {
    console.error(
      `build: compiling the C library that goes into the executable (${source}, ${compiler}; once, about half a minute)`,
    )
    const work = mkdtempSync(`${CACHE}/work-`)
    try {
      unpack(source, work)
      compile(work, target)
      link(work, target, asked)
      checkComplete(`${work}/loader.so`, asked)
      renameSync(`${work}/loader.so`, file)
    } finally {
      rmSync(work, { recursive: true, force: true })
    }
  }
  return file
}

function setUp({ prefix, machine }: Target): void {
  const other = machine === 'aarch64' ? '--for-arm64' : '--for-x64'
  const words = ['bash', `${ROOT}/tools/setup.sh`, '--for-build', ...(prefix ? [other] : [])]
  const { exitCode } = Bun.spawnSync(words, { stdio: ['ignore', 'inherit', 'inherit'] })
  if (exitCode !== 0) throw new Error('there is no compiler')
}

/** Fetches musl's source once; answers the folder's name: package and version. */
function muslSource(): string {
  const found = readdirSync(CACHE).find(name => name.startsWith('musl-'))
  if (found) return found
  const folder = mkdtempSync(`${CACHE}/fetch-`)
  run(['bash', `${ROOT}/tools/debian.sh`, 'source', SUITE, 'musl', folder])
  const sum = new Bun.CryptoHasher('sha256').update(readFileSync(`${folder}/${UPSTREAM.file}`)).digest('hex')
  if (sum !== UPSTREAM.sha256)
    throw new Error(`${UPSTREAM.file} is not what musl's authors published: ${sum}`)
  const name = descriptionIn(folder).replace('musl_', 'musl-').replace('.dsc', '')
  return keep(folder, name)
}

function descriptionIn(folder: string): string {
  const description = readdirSync(folder).find(name => name.endsWith('.dsc'))
  if (!description) throw new Error(`there is no description of a Debian source package in ${folder}`)
  return description
}

function unpack(source: string, work: string): void {
  const folder = `${CACHE}/${source}`
  run(['dpkg-source', '--no-check', '-x', `${folder}/${descriptionIn(folder)}`, `${work}/musl`])
  for (const file of new Set(edits.map(edit => edit.file))) {
    writeFileSync(`${work}/musl/${file}`, edited(file, readFileSync(`${work}/musl/${file}`, 'utf8')))
  }
  for (const [file, name] of Object.entries(OF_LOADER)) {
    writeFileSync(`${work}/musl/ldso/${name}`, readFileSync(`${HERE}/${file}`))
  }
}

function compile(work: string, { prefix, machine, flags }: Target): void {
  const cwd = `${work}/musl`
  run(['./configure', '--disable-static', ...(prefix ? [`--target=${machine}`] : [])], {
    cwd,
    env: { CROSS_COMPILE: prefix },
  })
  run(['make', `-j${navigator.hardwareConcurrency}`, 'lib/libc.so'], { cwd })
  run([`${prefix}g++`, ...CXX_FLAGS, ...flags, '-c', `${HERE}/libstdcxx.cc`, '-o', `${work}/libstdcxx.o`])
}

function link(work: string, { prefix }: Target, asked: readonly string[]): void {
  const own = new Set(definedIn([`${prefix}nm`, `${work}/libstdcxx.o`]))
  const cxx = asked.filter(name => /^(_Z|__cxa_demangle|__dynamic_cast)/.test(name) && !own.has(name))
  const objects = new Bun.Glob('obj/{src,ldso}/**/*.lo').scanSync({ cwd: `${work}/musl` })
  const library = (name: string) => run([`${prefix}g++`, `-print-file-name=${name}`]).trim()
  run(
    [
      ...[`${prefix}gcc`, '-nostdlib', '-shared', '-s', ...LINK_FLAGS, '-Wl,--dynamic-list=dynamic.list'],
      ...cxx.map(name => `-Wl,-u,${name}`),
      ...['-o', `${work}/loader.so`, ...[...objects].sort(), `${work}/libstdcxx.o`],
      ...['-Wl,--start-group', library('libstdc++.a'), library('libsupc++.a'), '-lgcc', '-Wl,--end-group'],
    ],
    { cwd: `${work}/musl` },
  )
}

/** What a Bun asks its libraries for: functions and variables, and the tables of types that it has copied to itself. */
function askedBy(bun: string): string[] {
  const lines = run(['readelf', '--dyn-syms', '--wide', bun]).split('\n')
  const names = lines.flatMap(line => {
    const [, , , , binding, , section, name = ''] = line.trim().split(/\s+/)
    const bare = name.replace(/@.*/, '')
    const isAsked = section === 'UND' && binding === 'GLOBAL'
    return isAsked || bare.startsWith('_ZTVN10__cxxabiv1') ? [bare] : []
  })
  return [...new Set(names)].sort()
}

function definedIn(nm: readonly string[]): string[] {
  return run([...nm, '--defined-only', '--format=posix'])
    .split('\n')
    .map(line => line.split(' ', 1)[0]?.replace(/@.*/, '') ?? '')
}

/** Says at build time what would otherwise end the first start. */
function checkComplete(loader: string, asked: readonly string[]): void {
  const given = new Set(definedIn(['nm', '--dynamic', loader]))
  const missing = asked.filter(name => !given.has(name))
  if (missing.length > 0) throw new Error(`Bun asks for what nothing here has: ${missing.join(' ')}`)
}
