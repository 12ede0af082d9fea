/** What a release is made of: licence texts, and the bill of materials. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { CACHE, ROOT, run } from '../static/work.ts'

type Document = Record<string, unknown>

interface Component extends Document {
  'bom-ref': string
  purl?: string
  scope?: string
}

interface Bill extends Document {
  metadata: Document & { component: Component }
  components: Component[]
  dependencies: { ref: string; dependsOn?: string[] }[]
}

/** CycloneDX, by npm from package-lock.json, with what is linked in from elsewhere; no moment and no chance in it. */
export function billOfMaterials({ version, seconds }: { version: string; seconds: number }): string {
  const words = ['npm', 'sbom', '--package-lock-only', '--omit', 'dev', '--sbom-format', 'cyclonedx']
  const bill: Bill = JSON.parse(run(words))
  const isLinkedIn = ({ purl = '' }: Component) =>
    !/oven\/bun-(darwin|windows|freebsd|linux-(x64|aarch64)(-android|-baseline)?@)/.test(
      decodeURIComponent(purl),
    )
  const components = [...bill.components.filter(isLinkedIn), ...linkedIn()]
  const known = new Set([
    ...components.map(component => component['bom-ref']),
    bill.metadata.component['bom-ref'],
  ])
  const dependencies = bill.dependencies
    .filter(({ ref }) => known.has(ref))
    .map(({ ref, dependsOn = [] }) => ({ ref, dependsOn: dependsOn.filter(each => known.has(each)) }))
  const whole = {
    ...bill,
    dependencies,
    metadata: {
      ...bill.metadata,
      timestamp: new Date(1000 * seconds).toISOString(),
      component: { ...bill.metadata.component, type: 'application', name: 'catena', version },
    },
    components,
  }
  const hash = new Bun.CryptoHasher('sha256')
    .update(JSON.stringify({ ...whole, serialNumber: '' }))
    .digest('hex')
  // a name-based UUID (RFC 9562, version 8)
  const uuid = `${hash.slice(0, 8)}-${hash.slice(8, 12)}-8${hash.slice(13, 16)}-8${hash.slice(17, 20)}-${hash.slice(20, 32)}`
  return `${JSON.stringify({ ...whole, serialNumber: `urn:uuid:${uuid}` }, null, 2)}\n`
}

function linkedIn(): Component[] {
  const source = muslFolder()
  const musl = source.replace('musl-', '')
  const gcc = run(['gcc', '-dumpfullversion']).trim()
  const component = (name: string, version: string, licence: Document): Component => ({
    'bom-ref': `${name}@${version}`,
    type: 'library',
    name,
    version,
    scope: 'required',
    licenses: [{ license: licence }],
  })
  return [
    { ...component('musl', musl, { id: 'MIT' }), purl: `pkg:deb/debian/musl@${musl}?arch=source` },
    component('libstdc++', gcc, { name: 'GPL-3.0-or-later WITH GCC-exception-3.1' }),
  ]
}

function muslFolder(): string {
  const found = readdirSync(CACHE).find(name => name.startsWith('musl-'))
  if (!found) throw new Error('the source of musl is not there: build first')
  return found
}

/** Licence texts by file name: ours, those of what is compiled and linked in, and the page that says which is which. */
export function licences(): Record<string, Uint8Array> {
  const folder = `${CACHE}/${muslFolder()}`
  const archive = readdirSync(folder).find(name => name.endsWith('.orig.tar.gz'))
  const copyright = run(['tar', '-xzOf', `${folder}/${archive}`, '--wildcards', '*/COPYRIGHT'])
  const texts: Record<string, Uint8Array> = {
    LICENSE: readFileSync(`${ROOT}/LICENSE`),
    'licences.md': readFileSync(`${ROOT}/docs/licences.md`),
    'musl-COPYRIGHT': Buffer.from(copyright),
  }
  for (const name of ['commander', 'execa', 'jsonc-parser', 'leven', 'zod']) {
    const file = readdirSync(`${ROOT}/node_modules/${name}`).find(each => /^licen[cs]e/i.test(each))
    if (file) texts[`${name}-LICENSE`] = readFileSync(`${ROOT}/node_modules/${name}/${file}`)
  }
  const gcc = readdirSync('/usr/share/doc').find(name => /^libstdc\+\+-\d+-dev$/.test(name))
  if (gcc && existsSync(`/usr/share/doc/${gcc}/copyright`))
    texts['libstdc++-COPYRIGHT'] = readFileSync(`/usr/share/doc/${gcc}/copyright`)
  return texts
}
