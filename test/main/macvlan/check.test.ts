/** What CHECK of macvlan notices. */
import { expect, test } from 'bun:test'
import { createLink, removeLink, setLink } from '../../../chain/linux/netlink/link.ts'
import { macvlan } from '../../../main/macvlan.ts'
import { freshNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { call, mustCall } from '../../fixtures/plugin.ts'
import { attach, callsOf, commonDamages, type Damage, dualStack, ipamWith, wiredHost } from '../support.ts'

const callFor = callsOf({ type: 'macvlan' })

const damages: Damage[] = [
  ...commonDamages,
  {
    name: 'another MTU',
    harm: container => setLink(container.route, 'eth0', { mtu: 1300 }),
    message: 'mtu: interface eth0 has MTU 1300, not 1400',
  },
  {
    name: 'another mode',
    harm: container => container.run('ip', 'link', 'set', 'eth0', 'type', 'macvlan', 'mode', 'vepa'),
    message: 'mode: container macvlan mode vepa does not match expected value: bridge',
  },
  {
    name: 'a bridge in its place',
    harm: container =>
      replace(container, () => createLink(container.route, { name: 'eth0', kind: { type: 'bridge' } })),
    message: 'Error: Container interface eth0 not of type macvlan: it is a bridge',
  },
]

function replace(container: Namespace, create: () => void): void {
  removeLink(container.route, 'eth0')
  create()
}

test.each(damages)('CHECK finds nothing wrong after ADD, and $name', async ({ harm, message }) => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  const config = { master: wired.master, mtu: 1400 }
  await using attachment = await attach(macvlan, callFor(container, pool, config))
  const request = callFor(container, pool, { ...config, prevResult: attachment.result })
  await mustCall(macvlan, 'CHECK', request)
  harm(container, wired.host)
  const { json } = await call(macvlan, 'CHECK', request)
  expect(json).toMatchObject({ code: 999, msg: expect.stringContaining(message) })
})

test('CHECK notices another master, one that is gone, and one in another place', async () => {
  using wired = wiredHost()
  using other = wiredHost([])
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  await using attachment = await attach(macvlan, callFor(container, pool, { master: wired.master }))
  const check = async (config: object) => {
    const { json } = await call(
      macvlan,
      'CHECK',
      callFor(container, pool, { prevResult: attachment.result, ...config }),
    )
    return json?.msg
  }
  expect(await check({ master: wired.master })).toBeUndefined()
  expect(await check({})).toBeUndefined() // the default route may have changed since
  expect(await check({ master: other.master })).toMatch(/^master: eth0 stands on link \d+, not on phys/)
  expect(await check({ master: 'none0' })).toBe('master: failed to lookup master "none0": Link not found')
  expect(await check({ linkInContainer: true })).toMatch(/^master: eth0 does not stand on a link of/)
})

test('CHECK takes the MTU of prevResult, where a later plugin has changed it', async () => {
  using wired = wiredHost()
  using container = freshNamespace('container')
  const pool = ipamWith(dualStack)
  const config = { master: wired.master, mtu: 1400 }
  await using attachment = await attach(macvlan, callFor(container, pool, config))
  setLink(container.route, 'eth0', { mtu: 1300 })
  const { interfaces } = attachment.result
  const prevResult = { ...attachment.result, interfaces: [{ ...interfaces[0], mtu: 1300 }] }
  await mustCall(macvlan, 'CHECK', callFor(container, pool, { ...config, prevResult }))
})
