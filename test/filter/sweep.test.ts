import { afterEach, expect, test } from 'bun:test'
import { symlinkSync, unlinkSync } from 'node:fs'
import { MASQUERADE_PREFIX } from '../../chain/filter/iptables/chains.ts'
import { addMasquerade } from '../../chain/filter/iptables/masquerade.ts'
import { sweepAttachment } from '../../chain/filter/sweep.ts'
import { takeLock } from '../../chain/linux/lock.ts'
import { applyRuleset } from '../../chain/linux/nftables/engine.ts'
import { choose, clearRules } from '../fixtures/iptables.ts'

afterEach(() => clearRules())

test('a sweep that iptables refuses keeps no lock: the next one in this process goes through', async () => {
  using choice = choose('legacy')
  const attachment = { network: 'test-net', containerId: 'one', ifname: 'eth0' }
  await addMasquerade(attachment, [{ address: '10.1.0.2', network: '10.1.0.0/16' }])
  const restore = `${choice.folder}/iptables-restore`
  unlinkSync(restore)
  symlinkSync('/bin/false', restore)
  const sweep = () =>
    sweepAttachment(applyRuleset, attachment, { roles: ['masquerade'], chains: [MASQUERADE_PREFIX] })
  await expect(sweep()).rejects.toThrow('remove')
  using _free = takeLock('/run/catena/iptables/lock', { tryOnly: true })
  expect(_free).toBeDefined()
})
