/** The page on vrf. */
import type { Page } from '../page.ts'

export const page: Page = {
  line: 'Puts the container’s interface into a routing domain (VRF) of its own.',
  keys: {
    vrfname: 'Required. Name of the VRF, which is made when it is not there.',
    table: { says: 'Its routing table; 0: the first that is free.', default: '0' },
  },
  makes: [
    'In the container a VRF link, if it is not there, and the interface as its member; addresses and routes that the kernel drops on the way are put back.',
    'DEL takes the interface out, and the VRF with its last member.',
  ],
  look: [
    { run: 'ip -n web -d link show blue', shows: 'vrf table' },
    { run: 'ip -n web link show eth0', shows: 'master blue' },
  ],
  refusals: [
    { change: { vrfname: undefined }, code: 7, says: 'vrfname', remedy: 'Name it.' },
    { change: { table: 254 }, code: 7, says: 'table', remedy: '253 to 255 are the kernel’s own.' },
  ],
  differs: ['Tables of the kernel and of others are not chosen.', 'DEL with half of it gone succeeds.'],
  example: {
    plugins: [
      { type: 'ptp', ipam: { type: 'host-local', ranges: [[{ subnet: '10.43.0.0/24' }]] } },
      { type: 'vrf', vrfname: 'blue' },
    ],
    needs: ['vrf'],
  },
}
