/** Configurations of iptables’ backend that are refused. */
import { afterAll, afterEach, expect, test } from 'bun:test'
import { portmap } from '../../../meta/portmap.ts'
import { clearRules, saved } from '../../fixtures/iptables.ts'
import { call } from '../../fixtures/plugin.ts'
import { chained } from './iptables.ts'
import { http, removeBridges } from './place.ts'

afterEach(() => clearRules())

afterAll(removeBridges)

test.each([
  [
    { backend: 'nftables', externalSetMarkChain: 'X' },
    'externalSetMarkChain: nftables backend was requested but configuration contains iptables-specific options [externalSetMarkChain]: it is a chain of iptables',
  ],
  [
    { backend: 'nftables', conditionsV4: ['-s', '10.0.0.0/8'] },
    'conditionsV4: nftables backend was requested but configuration contains iptables-specific options [conditionsV4]: must be nftables expressions',
  ],
  [
    { backend: 'iptables', conditionsV6: ['ip6', 'saddr', '::1'] },
    'conditionsV6: iptables backend was requested but configuration contains nftables-specific options [conditionsV6]: must be iptables options',
  ],
  [
    { conditionsV4: ['-s', '10.0.0.0/8'], conditionsV6: ['ip6', 'saddr', '::1'] },
    'conditionsV6: iptables backend was requested but configuration contains nftables-specific options [conditionsV6]: must be iptables options',
  ],
  [
    { externalSetMarkChain: 'X', conditionsV4: ['ip', 'saddr', '::1'] },
    'conditionsV4: iptables backend was requested but configuration contains nftables-specific options [conditionsV4]: must be iptables options',
  ],
  [{ conditionsV4: ['-s', '10.0.0.0/8\n-F'] }, 'conditionsV4[1]: must be words, without line ends'],
  [{ backend: 'iptables', markMasqBit: 32 }, 'markMasqBit: MasqMarkBit must be between 0 and 31'],
  [{ backend: 'iptables', markMasqBit: -1 }, 'markMasqBit: MasqMarkBit must be between 0 and 31'],
  [
    { markMasqBit: 3, externalSetMarkChain: 'X' },
    'markMasqBit: Cannot specify externalSetMarkChain and markMasqBit',
  ],
  [
    { externalSetMarkChain: 'a name too long for a chain of iptables' },
    'externalSetMarkChain: must be the name of a chain',
  ],
  ...['-F', '!X', 'two words', 'a\0b', 'öööööööööööööö'].map(
    externalSetMarkChain =>
      [{ externalSetMarkChain }, 'externalSetMarkChain: must be the name of a chain'] as const,
  ),
  [{ backend: 'ipfw' }, 'backend: unrecognized backend "ipfw"'],
])('%j is refused with the path of its key', async (config, says) => {
  const { status, json } = await call(portmap, 'ADD', {
    netns: '/run/netns/none',
    config: { ...chained({ backend: undefined }, [http(8080)]), ...config },
  })
  expect({ status, code: json.code, msg: json.msg }).toEqual({
    status: 1,
    code: 7,
    msg: expect.stringContaining(says),
  })
  expect(saved('nf_tables')).toEqual([])
})
