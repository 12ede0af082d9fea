import { expect, test } from 'bun:test'
import { connectSystemBus } from '../../chain/linux/dbus/connection.ts'
import { isNotFound, SystemFailure } from '../../chain/linux/failure.ts'
import { applyPlan } from '../../chain/linux/iptables/apply.ts'
import { open } from '../../chain/linux/libc/file.ts'
import { getLink, newLink } from '../../chain/linux/netlink/link.ts'
import { openRoute, request } from '../../chain/linux/netlink/socket.ts'
import { applyRuleset } from '../../chain/linux/nftables/engine.ts'
import { applyWithNft, type Command } from '../../chain/linux/nftables/nft.ts'

async function failureOf(body: () => unknown): Promise<SystemFailure> {
  try {
    await body()
  } catch (thrown) {
    if (thrown instanceof SystemFailure) return thrown
    throw thrown
  }
  throw new Error('nothing failed')
}

const absent: Command[] = [{ verb: 'delete', kind: 'table', family: 'ip', name: 'none' }]

test.each([
  { who: 'the C library', body: () => open('/none', 0), operation: 'open /none' },
  {
    who: "the kernel's engine of nftables",
    body: () => applyRuleset(absent),
    operation: 'apply nftables rules',
    subject: 'delete table ip none',
  },
  {
    who: 'nft',
    body: () => applyWithNft(absent),
    operation: 'apply nftables rules',
    subject: 'delete table ip none',
  },
])('$who says in one shape that there is no such thing', async ({ body, operation, subject }) => {
  const failure = await failureOf(body)
  expect(isNotFound(failure)).toBe(true)
  expect(failure).toMatchObject({ operation, errno: 2 })
  expect(failure.subject).toBe(subject as never)
})

test('a link that is not there, and one that is: netlink', async () => {
  using route = openRoute()
  const nowhere = await failureOf(() => request(route, getLink('none')))
  expect({ nowhere, isFound: isNotFound(nowhere) }).toMatchObject({ nowhere: { errno: 19 }, isFound: false })
  const again = await failureOf(() => request(route, newLink({ name: 'lo', kind: { type: 'bridge' } })))
  expect({ errno: again.errno, isFound: isNotFound(again) }).toEqual({ errno: 17, isFound: false })
  expect(again.operation).toContain('lo')
})

test('iptables has no numbers, but words of its own', async () => {
  const plan = {
    family: 'ip',
    table: 'nat',
    chains: [],
    ensure: [{ chain: 'POSTROUTING', args: ['-j', 'NOWHERE-AT-ALL'] }],
    own: [],
    enter: [],
  } as const
  const failure = await failureOf(() => applyPlan(plan))
  expect(failure).toMatchObject({ operation: 'apply iptables rules', subject: 'table nat', errno: undefined })
  expect(failure.said).toContain('NOWHERE-AT-ALL')
})

test('a bus that is not there', async () => {
  const failure = await failureOf(() => connectSystemBus('unix:path=/none'))
  expect(failure).toMatchObject({ name: 'NoBusError', operation: 'talk to the system bus' })
})
