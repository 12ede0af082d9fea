/** What iptables refuses, with what to do about it. */

import { expect, test } from 'bun:test'
import { explainIptables, withIptables } from '../../../chain/filter/iptables/failure.ts'
import { IptablesError, requireTools } from '../../../chain/linux/iptables/apply.ts'
import { hideTools } from '../../fixtures/iptables.ts'

const refused = (said: string) =>
  new IptablesError('apply iptables rules to table nat: no', { family: 'ip', said })

test.each([
  {
    name: 'a table that is not there',
    said: "iptables v1.8.9 (legacy): can't initialize iptables table `nat': Table does not exist (do you need to insmod?)\n",
    hint: 'the kernel lacks the table: load the module iptable_nat, iptable_filter or their ip6table twin, or nf_tables',
  },
  {
    name: 'nf_tables that is not there',
    said: 'iptables-restore v1.8.9 (nf_tables): Could not fetch rule set generation id: Failed to initialize nft: Protocol not supported',
    hint: 'load the module',
  },
  {
    name: 'a chain that is not there',
    said: "Chain 'CNI-HOSTPORT-DNAT' does not exist",
    hint: 'nothing has made chain CNI-HOSTPORT-DNAT yet',
  },
])('$name is told with what helps, behind the tool’s own words', ({ said, hint }) => {
  const error = explainIptables(refused(said)) as Error & { code: number; details: string }
  expect(error).toMatchObject({ code: 999, message: 'apply iptables rules to table nat: no' })
  expect(error.details.startsWith(`${said.trim()}; `)).toBe(true)
  expect(error.details).toContain(hint)
})

test('other words stand alone', () => {
  expect(explainIptables(refused(' Bad argument \n'))).toMatchObject({ details: 'Bad argument' })
})

test('tools that are not installed are told with what to install, in the caller’s words', async () => {
  using _tools = hideTools()
  await expect(withIptables(() => requireTools('ip'))).rejects.toMatchObject({
    message: 'apply iptables rules: iptables is not installed',
    details: expect.stringMatching(
      /^no iptables, .*; install the package iptables, or set the backend to nftables$/,
    ),
  })
  await expect(withIptables(() => requireTools('ip6', 'legacy'), 'install it')).rejects.toMatchObject({
    message: 'apply ip6tables-legacy rules: ip6tables-legacy is not installed',
    details: expect.stringMatching(/; install it$/),
  })
})

test('what is no refusal of iptables’ is passed on as it is, and an answer too', async () => {
  const fault = new TypeError('no such function')
  expect(explainIptables(fault)).toBe(fault)
  await expect(withIptables(() => Promise.reject(fault))).rejects.toBe(fault)
  expect(await withIptables(async () => 7)).toBe(7)
})
