/** A single network, as a list of one. */
import { expect, test } from 'bun:test'
import {
  addNetwork,
  checkNetwork,
  delNetwork,
  getCachedResult,
  listAttachments,
  parseNetwork,
} from '../../chain/runtime/network.ts'
import { fakePlugins } from '../fixtures/fake.ts'
import { attachment, runtime } from '../fixtures/runtime.ts'

test('a single network is added, checked and deleted as a list of one, and its text is cached', async () => {
  using plugins = fakePlugins('one')
  using options = runtime(plugins)
  const network = parseNetwork('{"cniVersion": "1.1.0",  "name": "net", "type": "one"}')
  const result = await addNetwork(network, attachment, options)
  expect(getCachedResult(network, attachment, options)).toEqual(result)
  expect(listAttachments({}, options)[0]?.configuration).toBe(network.text)
  await checkNetwork(network, attachment, options)
  await delNetwork(network, attachment, options)
  expect(plugins.order()).toEqual(['one ADD', 'one CHECK', 'one DEL'])
  expect(getCachedResult(network, attachment, options)).toBeUndefined()
})
