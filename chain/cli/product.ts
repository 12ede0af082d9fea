/** Which Catena this is. */
import { version } from '../../package.json' with { type: 'json' }

/** Put in by the build; from source there is none. */
declare const CATENA_COMMIT: string | undefined

/** "0.2.0 (commit 0123456789ab)"; "unknown" where it was not built from a checkout. */
export function product(): string {
  const commit = typeof CATENA_COMMIT === 'undefined' ? 'unknown' : CATENA_COMMIT
  return `${version} (commit ${commit})`
}
