/** Network configurations: JSON objects, whose keys are matched as Go's decoder matches them, and what all of them have. Pure. */

import type { ValidAttachment } from './attachment.ts'
import { checkNetworkName } from './environment.ts'
import { CniError, code } from './error.ts'

export type JsonObject = { [key: string]: unknown }

/** An object, and not a list. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Standard input as a JSON object. Code 6 when it is none. */
export function parseConfiguration(stdin: string): JsonObject {
  let json: unknown
  try {
    json = JSON.parse(stdin)
  } catch (thrown) {
    const reason =
      stdin.trim() === '' ? 'unexpected end of JSON input' : String(thrown).replace(/^SyntaxError: /, '')
    throw new CniError(code.decoding, 'error unmarshall network config: configuration on stdin is not JSON', {
      details: reason,
      cause: thrown,
    })
  }
  if (isObject(json)) return json
  throw new CniError(
    code.decoding,
    'error unmarshall network config: configuration on stdin is not a JSON object',
    {
      details: `it is ${Array.isArray(json) ? 'an array' : json === null ? 'null' : `a ${typeof json}`}`,
    },
  )
}

/** A key's value as Go's decoder finds it: spelt exactly, else whatever its case. null counts as absent. */
export function lookup(json: JsonObject, key: string): unknown {
  if (Object.hasOwn(json, key)) return json[key] ?? undefined
  const lower = key.toLowerCase()
  let found: unknown
  for (const name of Object.keys(json))
    if (name.length === key.length && name.toLowerCase() === lower) found = json[name]
  return found ?? undefined
}

/** What every plugin's configuration has. */
export interface BaseConfiguration {
  /** "0.1.0" when the configuration names none. */
  cniVersion: string
  name: string
  prevResult: unknown
  /** GC: attachments that the runtime says are alive; undefined when it says nothing. */
  validAttachments: ValidAttachment[] | undefined
}

export function decodeBase(json: JsonObject): BaseConfiguration {
  const cniVersion = lookup(json, 'cniVersion') ?? ''
  if (typeof cniVersion !== 'string') {
    throw new CniError(code.decoding, `cniVersion: must be a string: got ${JSON.stringify(cniVersion)}`)
  }
  const name = lookup(json, 'name') ?? ''
  if (typeof name !== 'string') {
    throw new CniError(code.decoding, `name: must be a string: got ${JSON.stringify(name)}`)
  }
  checkNetworkName(name)
  return {
    cniVersion: cniVersion || '0.1.0',
    name,
    prevResult: lookup(json, 'prevResult'),
    validAttachments: decodeAttachments(json),
  }
}

/** The specification's key, and the one that libcni's first release with GC used. */
const attachmentKeys = ['cni.dev/valid-attachments', 'cni.dev/attachments']

/** null is how Go prints a list of none, so that a runtime in Go says with it that nothing is alive; without a key it says nothing. */
function decodeAttachments(json: JsonObject): BaseConfiguration['validAttachments'] {
  const list = lookup(json, attachmentKeys[0] ?? '') ?? lookup(json, attachmentKeys[1] ?? '')
  if (list === undefined) {
    for (const name of Object.keys(json)) if (attachmentKeys.includes(name.toLowerCase())) return []
    return undefined
  }
  if (!Array.isArray(list)) return undefined
  return list.filter(isObject).map(entry => ({
    containerId: String(lookup(entry, 'containerID') ?? ''),
    ifname: String(lookup(entry, 'ifname') ?? ''),
  }))
}
