/** CNI errors: the one error that plugins and runtime throw on purpose. Pure: no input, no output. */

/** Codes by name. 1–8, 11, 50 and 51: SPEC.md, section "Error"; 999: what Go's package skel calls internal. */
export const code = {
  incompatibleVersion: 1,
  unsupportedField: 2,
  unknownContainer: 3,
  invalidEnvironment: 4,
  io: 5,
  decoding: 6,
  invalidConfiguration: 7,
  invalidNamespace: 8,
  tryAgainLater: 11,
  pluginNotAvailable: 50,
  limitedConnectivity: 51,
  internal: 999,
} as const

/** The error document that goes to stdout (SPEC.md, "Error"). */
export interface ErrorDocument {
  cniVersion?: string
  code: number
  msg: string
  details?: string
}

/**
 * A failure for the person on call. `message` says what was being done to which object; `details` what the other
 * side (kernel, nft, a delegate) answered and what to look at.
 */
export class CniError extends Error {
  readonly code: number
  readonly details: string | undefined

  constructor(
    code: number,
    message: string,
    options: { details?: string | undefined; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause })
    this.name = 'CniError'
    this.code = code
    this.details = options.details
  }
}

/**
 * Any thrown value as a CniError: a CniError as it is, everything else with its own message: as code 11 where it says of itself
 * that it is temporary, else as code 999.
 */
export function toCniError(thrown: unknown): CniError {
  if (thrown instanceof CniError) return thrown
  if (!(thrown instanceof Error)) return new CniError(code.internal, String(thrown), { cause: thrown })
  const isTemporary = 'isTemporary' in thrown && thrown.isTemporary === true
  return new CniError(isTemporary ? code.tryAgainLater : code.internal, thrown.message, { cause: thrown })
}

/** The document that is printed for an error. */
export function errorDocument(error: CniError, cniVersion?: string): ErrorDocument {
  return {
    ...(cniVersion === undefined ? {} : { cniVersion }),
    code: error.code,
    msg: error.message,
    ...(error.details ? { details: error.details } : {}),
  }
}
