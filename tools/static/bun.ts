/** Bun for musl, as npm packages it: of the version that package.json pins, with the bytes that package-lock.json vouches for. */
import { existsSync, mkdtempSync, readFileSync } from 'node:fs'
import { CACHE, keep, ROOT, run } from './work.ts'

interface Lock {
  packages: Record<string, { version: string; integrity?: string }>
}

/** The path of the executable of one of Bun's packages, fetched once. */
export function bunOf(name: string): string {
  const { packages } = JSON.parse(readFileSync(`${ROOT}/package-lock.json`, 'utf8')) as Lock
  const { version, integrity } = packages[`node_modules/${name}`] ?? {}
  if (!version || !integrity) throw new Error(`package-lock.json does not name ${name}`)
  const kept = `${name.replace('@oven/', '')}-${version}`
  const file = `${CACHE}/${kept}/package/bin/bun`
  if (existsSync(file)) return file
  console.error(`build: fetching ${name} ${version} (once)`)
  const folder = mkdtempSync(`${CACHE}/fetch-`)
  const archive = `${folder}/${run(['npm', 'pack', '--silent', '--pack-destination', folder, `${name}@${version}`]).trim()}`
  const [method = '', expected] = integrity.split(/-(.*)/)
  const sum = new Bun.CryptoHasher(method as 'sha512').update(readFileSync(archive)).digest('base64')
  if (sum !== expected)
    throw new Error(`${name} ${version} is not what package-lock.json names: ${method}-${sum}`)
  run(['tar', '-xzf', archive, '-C', folder])
  run(['rm', archive])
  keep(folder, kept)
  return file
}
