/** Versions of the specification: which exist, which verbs they have, and what a plugin answers about its own. Pure. */
import { CniError, code } from './error.ts'

/** Every version that plugins take unless they say otherwise. */
export const supportedVersions: readonly string[] = [
  '0.1.0',
  '0.2.0',
  '0.3.0',
  '0.3.1',
  '0.4.0',
  '1.0.0',
  '1.1.0',
]

export const newestVersion = '1.1.0'

/** The first version that has a verb; those not named have been there always. */
const floors: Readonly<Record<string, string>> = { CHECK: '0.4.0', GC: '1.1.0', STATUS: '1.1.0' }

/** Three numbers; missing ones are 0, and no version at all is 0.1.0. Code 6 for anything else. */
export function parseVersion(version: string): [number, number, number] {
  const parts = (version === '' ? '0.1.0' : version).split('.')
  if (parts.length > 3 || !parts.every(part => /^\d+$/.test(part))) {
    throw new CniError(code.decoding, `failed to parse version "${version}"`, {
      details: 'a version has up to three numbers between dots',
    })
  }
  const [major = 0, minor = 0, patch = 0] = parts.map(Number)
  return [major, minor, patch]
}

/** Negative, zero or positive, as the first version is older, the same or newer. */
export function compareVersions(one: string, other: string): number {
  const first = parseVersion(one)
  const second = parseVersion(other)
  return first[0] - second[0] || first[1] - second[1] || first[2] - second[2]
}

/** Throws code 1 unless a plugin with these versions takes a verb for a configuration of this version. */
export function checkVersion(verb: string, version: string, supported: readonly string[]): void {
  const floor = floors[verb]
  if (floor !== undefined) {
    if (compareVersions(version, floor) < 0)
      throw incompatible(`config version does not allow ${verb}`, version, supported)
    if (!supported.some(one => compareVersions(one, version) >= 0)) {
      throw incompatible(`plugin version does not allow ${verb}`, version, supported)
    }
  }
  if (!supported.includes(version)) throw incompatible('incompatible CNI versions', version, supported)
}

function incompatible(message: string, version: string, supported: readonly string[]): CniError {
  const list = supported.map(one => `"${one}"`).join(' ')
  return new CniError(code.incompatibleVersion, message, {
    details: `config is "${version}", plugin supports [${list}]`,
  })
}

/** What VERSION prints. */
export function versionReply(supported: readonly string[]): {
  cniVersion: string
  supportedVersions: readonly string[]
} {
  return { cniVersion: newestVersion, supportedVersions: supported }
}
