import { beforeAll, expect, test } from 'bun:test'
import { addOwned, removeOwned } from '../../../chain/filter/nftables/apply.ts'
import { chainsOf } from '../../../chain/filter/nftables/chains.ts'
import { additions, masquerade, type Owned } from '../../../chain/filter/nftables/elements.ts'
import { families, type Role } from '../../../chain/filter/nftables/layout.ts'
import { missingOwned } from '../../../chain/filter/nftables/missing.ts'
import { listOwned } from '../../../chain/filter/nftables/read.ts'
import { errno } from '../../../chain/linux/libc/errno.ts'
import { applyBatch } from '../../../chain/linux/nftables/batch.ts'
import { applyRuleset } from '../../../chain/linux/nftables/engine.ts'
import { openNetfilter } from '../../../chain/linux/nftables/netfilter.ts'
import {
  applyWithNft,
  type Command,
  type Engine,
  NftError,
  nftDocument,
} from '../../../chain/linux/nftables/nft.ts'
import { ownerOf } from '../../../chain/plugin/owner.ts'
import { guardPort } from '../../../main/bridge/rules.ts'
import { forwarded, ingressPolicy, isolatePort } from '../../../meta/firewall/rules.ts'
import { elementsOf, hairpinSources } from '../../../meta/portmap/elements.ts'
import { freshNamespace, hostNamespace, type Namespace } from '../../fixtures/namespace.ts'
import { reboot } from '../../fixtures/reboot.ts'

/** Other tests leave what the Go plugins leave: empty chains. */
beforeAll(() => void hostNamespace().run('nft', 'flush', 'ruleset'))

const everyRole: readonly Role[] = ['masquerade', 'ports', 'frames', 'firewall']

const ownerNamed = (containerId: string) => ownerOf({ network: 'test-net', containerId, ifname: 'eth0' })

/** One of each kind of element that a container may have. */
function everything(containerId: string, number: number): Owned {
  const address = `10.1.0.${number}`
  const six = `fd00::${number}`
  const fenced = ingressPolicy({ bridge: 'cni0', addresses: [address, six], isolated: true })
  return {
    owner: ownerNamed(containerId),
    elements: [
      ...masquerade([
        { address, network: '10.1.0.0/16' },
        { address: six, network: 'fd00::/64' },
      ]),
      ...elementsOf({
        protocol: 'tcp',
        hostPort: 8000 + number,
        containerPort: 80,
        address,
        hairpin: true,
      }),
      ...elementsOf({
        protocol: 'sctp',
        hostPort: 9000 + number,
        containerPort: 90,
        address: six,
        hairpin: true,
        hostAddress: '2001:db8::1',
      }),
      ...elementsOf({
        protocol: 'udp',
        hostPort: 53 + number,
        containerPort: 53,
        address,
        hairpin: true,
        hostAddress: '192.0.2.1',
        conditions: `conditions-${ownerNamed(containerId).id}`,
      }),
      ...hairpinSources(address, ['10.1.0.0/16', '127.0.0.0/8']),
      ...hairpinSources(six, ['::/0']),
      ...guardPort(`veth${number}`, `02:00:00:00:00:0${number}`),
      ...forwarded([address, six]),
      ...fenced.elements,
      ...isolatePort(`veth${number}`),
    ],
    shared: fenced.shared ?? [],
    chains: [{ family: 'ip', name: `conditions-${ownerNamed(containerId).id}`, rules: [[{ accept: null }]] }],
  }
}

const tables = families.flatMap(family => [...chainsOf(family, 'base'), ...chainsOf(family, 'forward')])
const chainsOnly = ({ owner, chains = [] }: Owned) => additions({ owner, elements: [], chains })
const elementsOnly = ({ owner, elements, shared = [] }: Owned) => additions({ owner, elements, shared })

function judged(namespace: Namespace, commands: readonly Command[]): void {
  const { exitCode, stderr } = namespace.inside(() =>
    Bun.spawnSync(['nft', '-c', '-j', '-f', '-'], {
      stdin: Buffer.from(nftDocument(commands)),
    }),
  )
  expect({ exitCode, stderr: stderr.toString() }).toEqual({ exitCode: 0, stderr: '' })
}

test.each([
  ['the tables', tables],
  ['an owner with everything', [...tables, ...additions(everything('one', 1))]],
])('nft itself takes %s', (_, commands) => {
  using namespace = freshNamespace()
  judged(namespace, commands)
})

/** Runs a body with the thread of the tests in a namespace of its own: engines work where the thread is. */
async function rulesetAfter(engine: (commands: readonly Command[]) => Promise<void> | void): Promise<string> {
  const owned = everything('one', 1)
  const host = hostNamespace()
  await applyWithNft([...tables, ...chainsOnly(owned)])
  try {
    await engine(elementsOnly(owned))
    return host.run('nft', 'list', 'ruleset')
  } finally {
    host.run('nft', 'flush', 'ruleset')
  }
}

test('elements that go over netlink are, to nft, the same as those it adds itself', async () => {
  const own = await rulesetAfter(commands => expect(applyBatch(commands)).toBe(true))
  expect(own).toBe(await rulesetAfter(applyWithNft))
  expect(own).toContain('10.1.0.1 . 127.0.0.0/8')
})

test('a batch is refused as a whole, with the command that the kernel refused and its errno', async () => {
  await applyWithNft(tables)
  try {
    const first = {
      owner: ownerNamed('one'),
      elements: masquerade([{ address: '10.1.0.1', network: '10.1.0.0/16' }]),
    }
    const clash = {
      owner: ownerNamed('two'),
      elements: [...masquerade([{ address: '10.1.0.2', network: '10.1.0.0/16' }]), ...first.elements],
    }
    applyBatch(additions(first))
    const attempt = () => applyBatch(additions(clash))
    expect(attempt).toThrow(NftError)
    expect(attempt).toThrow('create element ip catena masquerade_source')
    try {
      attempt()
    } catch (thrown) {
      expect((thrown as NftError).errno).toBe(errno.EEXIST)
    }
    using netfilter = openNetfilter()
    expect(new Set(listOwned(netfilter).map(({ owner }) => owner))).toEqual(new Set([first.owner.id]))
  } finally {
    hostNamespace().run('nft', 'flush', 'ruleset')
  }
})

test('what is read back is what was put there, and DEL by owner leaves the other owner whole', async () => {
  const one = everything('one', 1)
  const two = everything('two', 2)
  await addOwned(applyRuleset, one)
  await addOwned(applyRuleset, two)
  expect(missingOwned(one)).toEqual([])
  const sweep = (owned: Owned) =>
    removeOwned(applyRuleset, {
      roles: ['masquerade', 'ports', 'frames', 'firewall'],
      isOwner: id => id === owned.owner.id,
    })
  expect(await sweep(one)).toBe('removed')
  expect(missingOwned(two)).toEqual([])
  expect(missingOwned(one)).not.toEqual([])
  expect(await sweep(two)).toBe('removed')
  expect(hostNamespace().run('nft', 'list', 'ruleset')).toBe('')
  expect(await sweep(two)).toBe('absent')
})

test('the forward chains come with the first firewall, beside what is there; they are not missed before', async () => {
  const plain = {
    owner: ownerNamed('plain'),
    elements: masquerade([{ address: '10.1.0.1', network: '10.1.0.0/16' }]),
  }
  const walled = {
    owner: ownerNamed('walled'),
    elements: forwarded(['10.1.0.1', 'fd00::1']),
    overrides: [{ family: 'ip' as const, name: 'CNI-ADMIN' }],
  }
  const ruleset = () => hostNamespace().run('nft', 'list', 'ruleset')
  const remove = (owned: Owned, role: Role) =>
    removeOwned(applyRuleset, { roles: [role], isOwner: id => id === owned.owner.id })
  await addOwned(applyRuleset, plain)
  expect(ruleset()).not.toContain('hook forward')
  expect(missingOwned(plain)).toEqual([])
  await addOwned(applyRuleset, walled)
  expect(ruleset().match(/hook forward/g)).toHaveLength(2)
  expect(ruleset().match(/hook postrouting/g)).toHaveLength(1)
  expect([...missingOwned(plain), ...missingOwned(walled)]).toEqual([])
  await remove(walled, 'firewall')
  expect(missingOwned(plain)).toEqual([])
  await remove(plain, 'masquerade')
  expect(ruleset()).toBe('')
})

test('a retry of the same owner replaces what is left of the first try', async () => {
  const owned = everything('one', 1)
  await addOwned(applyRuleset, owned)
  await addOwned(applyRuleset, owned)
  expect(missingOwned(owned)).toEqual([])
  hostNamespace().run('nft', 'flush', 'ruleset')
})

test('two removals that each take the other for the last but one: whoever comes second takes the tables', async () => {
  const one = everything('one', 1)
  const two = everything('two', 2)
  await addOwned(applyRuleset, one)
  await addOwned(applyRuleset, two)
  const remove = (owned: Owned, engine: Engine) =>
    removeOwned(engine, { roles: everyRole, isOwner: id => id === owned.owner.id })
  const secondHasPlanned = Promise.withResolvers<void>()
  const first = remove(one, async commands => {
    await secondHasPlanned.promise
    await applyRuleset(commands)
  })
  await remove(two, async commands => {
    secondHasPlanned.resolve()
    await first
    await applyRuleset(commands)
  })
  expect(hostNamespace().run('nft', 'list', 'ruleset')).toBe('')
})

test('two removals of one owner at the same moment: whoever comes second finds it gone', async () => {
  const one = everything('one', 1)
  const neighbour = everything('two', 2)
  await addOwned(applyRuleset, one)
  await addOwned(applyRuleset, neighbour)
  const remove = ({ owner }: Owned, engine = applyRuleset) =>
    removeOwned(engine, { roles: everyRole, isOwner: id => id === owner.id })
  const overtaken: Engine = async commands => {
    await remove(one)
    await applyRuleset(commands)
  }
  expect(await remove(one, overtaken)).toBe('absent')
  expect(missingOwned(neighbour)).toEqual([])
  expect(await remove(neighbour)).toBe('removed')
})

test('a flush between looking and deleting leaves nothing to delete', async () => {
  const last = everything('one', 1)
  await addOwned(applyRuleset, last)
  const flushed: Engine = async commands => {
    hostNamespace().run('nft', 'flush', 'ruleset')
    await applyRuleset(commands)
  }
  const isOwner = (id: string) => id === last.owner.id
  expect(await removeOwned(flushed, { roles: everyRole, isOwner })).toBe('absent')
})

test('ADDs at the same moment on a host without tables all succeed', async () => {
  const all = Array.from({ length: 8 }, (_, index) => everything(`container-${index}`, index + 1))
  await Promise.all(all.map(owned => addOwned(applyRuleset, owned)))
  for (const owned of all) expect(missingOwned(owned)).toEqual([])
  hostNamespace().run('nft', 'flush', 'ruleset')
})

test('where nothing can be written, and so nothing was added, there is nothing to remove', async () => {
  const host = hostNamespace()
  reboot()
  host.run('mount', '-o', 'remount,ro', '/run')
  try {
    expect(await removeOwned(applyRuleset, { roles: everyRole, isOwner: () => true })).toBe('absent')
    await expect(addOwned(applyRuleset, everything('one', 1))).rejects.toThrow('EROFS')
  } finally {
    host.run('mount', '-o', 'remount,rw', '/run')
  }
})
