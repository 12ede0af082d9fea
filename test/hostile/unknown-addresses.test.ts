import { expect, test } from 'bun:test'
import { freshNamespace } from '../fixtures/namespace.ts'
import { execute, ours } from '../fixtures/plugin.ts'
import { reboot } from '../fixtures/reboot.ts'
import { dataFolder, on } from '../ipam/host-local/fixture.ts'
import { injected } from './injected.ts'

const ipam = { ranges: [[{ subnet: '10.1.2.0/30' }]] }

test.each([
  { what: 'cannot be entered', injection: 'setns:error=ENOMEM' },
  { what: 'does not tell its addresses', injection: 'recvfrom:error=ENOBUFS' },
  { what: 'cannot be talked to', injection: 'socket:error=ENFILE' },
  { what: 'cannot be found', injection: 'getdents64:error=EIO:when=4+' },
])('an address is not taken over when a namespace $what: unknown is not free', async ({ injection }) => {
  using folder = dataFolder()
  using container = freshNamespace()
  container.addAddress('lo', '10.1.2.2/32')
  const { add, options } = on(folder.path, { ipam })
  await add('c1')
  reboot()
  using plugin = injected(injection, 'host-local')
  const refused = execute(plugin.file, 'ADD', { ...options({ containerId: 'c2' }), path: ours })
  expect(refused).toMatchObject({ status: 1, json: { code: expect.any(Number) } })
})

test('an address that no namespace has is taken over', async () => {
  using folder = dataFolder()
  const { add, options } = on(folder.path, { ipam })
  await add('c1')
  reboot()
  expect(execute(`${ours}/host-local`, 'ADD', options({ containerId: 'c2' }))).toMatchObject({ status: 0 })
})
