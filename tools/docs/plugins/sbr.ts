/** The page on sbr. */
import type { Page } from '../page.ts'

export const page: Page = {
  line: 'Routes by source: answers leave the container by the interface whose address was asked.',
  keys: {
    table:
      'A table that is filled already, for instance by the routes of `ipam`; absent: one for each address, from 100 on.',
    'gateways[]': { says: 'Gateways instead of prevResult’s, one of each family at most.', since: '0.2.0' },
    addSourceHints: {
      says: 'Routes to the interface’s own networks stay in the main table too, with its addresses as source.',
      since: '0.2.0',
    },
  },
  makes: [
    'In the container a routing table for each address of the interface, with its routes out of the main table, and a rule that leads packets of that source there.',
    'DEL takes away the rules. What the tables hold goes with the interface.',
  ],
  look: [
    { run: 'ip -n web rule show', shows: 'from 10.42.0.2 lookup 100' },
    { run: 'ip -n web route show table 100', shows: 'default via 10.42.0.1 dev eth0' },
  ],
  refusals: [{ change: { table: 254 }, code: 7, says: 'table', remedy: '253 to 255 are the kernel’s own.' }],
  differs: [
    'IPv6.',
    'All or nothing.',
    'DEL takes what is left and never creates a file at the namespace’s path.',
  ],
  example: {
    plugins: [
      {
        type: 'ptp',
        ipam: { type: 'host-local', ranges: [[{ subnet: '10.42.0.0/24' }]], routes: [{ dst: '0.0.0.0/0' }] },
      },
      { type: 'sbr' },
    ],
  },
}
