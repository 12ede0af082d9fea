/** How long a DHCP client waits: the daemon's flags, and the Go plugin's pauses between exchanges. Pure. */

/** Milliseconds. */
export interface Timing {
  /** For the first answer of an exchange; the second is waited for twice as long, the third four times. */
  timeout: number
  /** No pause is longer. */
  resendMax: number
  /** Acquiring ends after this. */
  resendTimeout: number
  /** How long others may say that an offered address is theirs; 0 does not ask. */
  probe: number
}

export const defaultTiming: Timing = {
  timeout: 10_000,
  resendMax: 62_000,
  resendTimeout: 208_000,
  probe: 200,
}

const FAST_RETRIES = 4
const FAST_PAUSE = 2000
const BASE = 4000
const JITTER = 1000

/** The pause after an exchange that came to nothing: four times 2 s, then 8, 16, 32, 64 s, each give or take a second. */
export function pauseAfter({ resendMax }: Timing, failures: number, random: () => number): number {
  let pause = FAST_PAUSE
  if (failures >= FAST_RETRIES) {
    pause = BASE
    for (let doubled = FAST_RETRIES; doubled <= failures && pause < resendMax; doubled++) pause *= 2
  }
  return Math.min(resendMax + JITTER, pause) + (random() * 2 - 1) * Math.min(JITTER, resendMax)
}
