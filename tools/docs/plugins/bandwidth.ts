/** The page on bandwidth. */
import type { Page } from '../page.ts'

const limits = (path: string, from = '') => ({
  [`${path}ingressRate`]: `To the container, bits a second; 0: no limit.${from}`,
  [`${path}ingressBurst`]: `To the container, bits that may come at once. With a rate.${from}`,
  [`${path}egressRate`]: `From the container, bits a second; 0: no limit.${from}`,
  [`${path}egressBurst`]: `From the container, bits that may come at once. With a rate.${from}`,
  [`${path}unshapedSubnets[]`]: `Traffic from and to these networks is not limited.${from}`,
  [`${path}shapedSubnets[]`]: `Only traffic from and to these is. Not together with \`unshapedSubnets\`.${from}`,
})

export const page: Page = {
  line: 'Limits how much a container receives and sends.',
  keys: {
    ...limits(''),
    ...limits('runtimeConfig.bandwidth.', ' Counts where the configuration itself has no rates.'),
  },
  makes: [
    'A queueing discipline on the host’s end of the container’s veth pair (what it receives).',
    'A link `bwp<hash>` of kind ifb on the host, with a queueing discipline, to which what it sends is led.',
    'DEL takes away both; GC the links of what is not alive.',
  ],
  look: [
    { run: 'tc qdisc show', shows: 'qdisc tbf 1: dev veth' },
    { run: 'ip -d link show type ifb', shows: 'bwp' },
  ],
  refusals: [
    {
      change: { ingressBurst: undefined },
      code: 7,
      says: 'if rate is set, burst must also be set',
      remedy: 'Add the burst: at least what comes in a few milliseconds.',
    },
    {
      change: { ingressRate: -1 },
      code: 7,
      says: 'ingressRate: must be at least 0',
      remedy: 'Bits a second; 0: no limit.',
    },
  ],
  differs: [
    'Two interfaces of one container do not collide.',
    'All or nothing.',
    'CHECK compares everything.',
    'GC.',
  ],
  example: {
    plugins: [
      { type: 'ptp', ipam: { type: 'host-local', ranges: [[{ subnet: '10.41.0.0/24' }]] } },
      {
        type: 'bandwidth',
        ingressRate: 100000000,
        ingressBurst: 8000000,
        egressRate: 100000000,
        egressBurst: 8000000,
      },
    ],
    needs: ['ifb', 'tbf', 'ingress'],
  },
}
