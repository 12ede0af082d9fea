/** The page on loopback. */
import type { Page } from '../page.ts'

export const page: Page = {
  line: 'Brings a container’s `lo` up.',
  keys: {},
  makes: ['`lo` is up, whatever CNI_IFNAME says. DEL sets it down.'],
  look: [{ run: 'ip -n web address show lo', shows: 'LOOPBACK,UP' }],
  refusals: [],
  differs: ['Prints the result in the configuration’s version.'],
  example: { plugins: [{ type: 'loopback' }] },
}
