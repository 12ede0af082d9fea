/** A relative folder for state would be another one for each place that a runtime works in: it is refused by ADD, and DEL succeeds. */
import { expect, test } from 'bun:test'
import { existsSync } from 'node:fs'
import { hostLocal } from '../../ipam/host-local.ts'
import { flannel } from '../../meta/flannel.ts'
import { tuning } from '../../meta/tuning.ts'
import { freshNamespace } from '../fixtures/namespace.ts'
import { call } from '../fixtures/plugin.ts'

const dataDir = 'run/relative'
const cases = [
  {
    plugin: hostLocal,
    config: { ipam: { type: 'host-local', dataDir, ranges: [[{ subnet: '10.1.2.0/24' }]] } },
    key: 'ipam.dataDir',
  },
  { plugin: flannel, config: { dataDir }, key: 'dataDir' },
  { plugin: tuning, config: { dataDir, mtu: 1400, prevResult: { cniVersion: '1.1.0' } }, key: 'dataDir' },
]

test.each(cases)('$plugin.name refuses a relative $key', async ({ plugin, config, key }) => {
  using container = freshNamespace()
  const { json } = await call(plugin, 'ADD', { config, netns: container })
  expect(json).toMatchObject({ code: 7, msg: `${key}: must be an absolute path: got "${dataDir}"` })
  expect(await call(plugin, 'DEL', { config, netns: container })).toMatchObject({ status: 0 })
  expect(existsSync(dataDir)).toBeFalse()
})
