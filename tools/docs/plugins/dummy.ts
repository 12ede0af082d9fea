/** The page on dummy. */
import type { Page } from '../page.ts'

export const page: Page = {
  line: 'Makes an interface that leads nowhere, for addresses that belong to the container itself.',
  keys: { 'ipam.type': 'Required. The plugin that gives addresses.' },
  makes: ['A dummy link of the name CNI_IFNAME in the container. DEL takes it away, and the addresses.'],
  look: [{ run: 'ip -n web -d link show eth0', shows: 'dummy' }],
  refusals: [
    { change: { ipam: undefined }, code: 7, says: 'ipam', remedy: 'Name the plugin that gives addresses.' },
  ],
  notes: ['STATUS says 50 where the kernel has no dummy links.'],
  differs: [
    'DEL works without `ipam`.',
    'CHECK looks at routes too.',
    'STATUS says 50 when the kernel has no dummy links.',
    'GC.',
  ],
  example: {
    plugins: [{ type: 'dummy', ipam: { type: 'host-local', ranges: [[{ subnet: '10.36.0.0/24' }]] } }],
    needs: ['dummy'],
  },
}
