/** What bridge and ptp have in packet filters: put there, looked for, and taken away, by either backend. */
import { afterEach, beforeAll, describe, expect, test } from 'bun:test'
import {
  addRules,
  type MasqueradeSpec,
  requireBackend,
  rulesAtAdd,
  sweepRules,
  sweepStaleRules,
} from '../../chain/filter/masquerade.ts'
import { errno } from '../../chain/linux/libc/errno.ts'
import { applyRuleset } from '../../chain/linux/nftables/engine.ts'
import { type Engine, NftError } from '../../chain/linux/nftables/nft.ts'
import { attachmentOf } from '../fixtures/attachment.ts'
import { elements } from '../fixtures/bridge.ts'
import { silentIo } from '../fixtures/io.ts'
import { choose, hideTools, saved } from '../fixtures/iptables.ts'
import { hostNamespace } from '../fixtures/namespace.ts'
import { clearHost, forgetRules, nodeWide } from './backend/place.ts'

beforeAll(clearHost)
afterEach(forgetRules)

const sweep = { roles: ['masquerade', 'frames'] } as const
const attachment = attachmentOf('one')
const sources = [{ address: '10.1.0.2', network: '10.1.0.0/16' }]
const frames = [{ family: 'bridge', kind: 'guarded-port', key: ['veth0'] }] as const
const specOf = (more: Partial<MasqueradeSpec> = {}): MasqueradeSpec => ({
  attachment,
  sources,
  backend: undefined,
  ...more,
})

const inNftables = ['ip masquerade_source 10.1.0.2', 'ip masquerade_local 10.1.0.2 [object Object]']
const inIptables = () => saved('nf_tables').filter(line => line.startsWith('-A'))

function adding(engine: Engine = applyRuleset) {
  const undone: (() => unknown)[] = []
  const io = silentIo({})
  return {
    request: { args: '', engine, io, undo: (_: string, step: () => unknown) => void undone.push(step) },
    io,
    undone,
    fail: async () => {
      for (const step of undone.toReversed()) await step()
    },
  }
}

const missing = (spec: MasqueradeSpec) => rulesAtAdd({ engine: applyRuleset }, spec, sweep).check()

describe('by nftables', () => {
  test('addresses and frames are there, CHECK finds them, and DEL takes them', async () => {
    const spec = specOf({ elements: frames })
    await addRules(adding().request, spec, sweep)
    expect(elements().sort()).toEqual([...inNftables, 'bridge guarded_port veth0'].sort())
    expect(await missing(spec)).toBeUndefined()
    await sweepRules(applyRuleset, attachmentOf('two'), sweep)
    expect(await missing(spec)).toBeUndefined()
    await sweepRules(applyRuleset, attachment, sweep)
    expect(hostNamespace().run('nft', 'list', 'ruleset')).toBe('')
    expect(await missing(spec)).toContain('is missing')
  })

  test('nothing is made where nothing is asked for', async () => {
    const { request, undone } = adding(() => Promise.reject(new Error('asked')))
    await addRules(request, specOf({ sources: [] }), sweep)
    expect(undone).toEqual([])
    expect(await missing(specOf({ sources: [] }))).toBeUndefined()
  })

  test('frames alone need no decision about a backend', async () => {
    using _node = nodeWide('nonsense')
    await addRules(adding().request, specOf({ sources: [], elements: frames }), sweep)
    expect(elements()).toEqual(['bridge guarded_port veth0'])
  })

  test('an ADD that fails later leaves nothing', async () => {
    const failing = adding()
    await addRules(failing.request, specOf({ elements: frames }), sweep)
    await failing.fail()
    expect(elements()).toEqual([])
  })

  test('a retry finds what it had before in its way, and has it again', async () => {
    const spec = specOf({ elements: frames })
    await addRules(adding().request, spec, sweep)
    const before = elements().sort()
    await addRules(adding().request, spec, sweep)
    expect(elements().sort()).toEqual(before)
  })

  test('GC takes the rules of dead attachments of the network, and no others', async () => {
    const attachments = {
      '10.1.0.2': attachmentOf('dead'),
      '10.1.0.3': attachmentOf('alive'),
      '10.1.0.4': attachmentOf('dead', { network: 'other-net' }),
    }
    for (const [address, attachment] of Object.entries(attachments))
      await addRules(
        adding().request,
        specOf({ attachment, sources: [{ address, network: '10.1.0.0/16' }] }),
        sweep,
      )
    const valid = [{ containerId: 'alive', ifname: 'eth0' }]
    await sweepStaleRules({ engine: applyRuleset, network: 'test-net', valid }, sweep)
    const left = elements().filter(each => each.includes('source'))
    expect(left.sort()).toEqual(['ip masquerade_source 10.1.0.3', 'ip masquerade_source 10.1.0.4'])
  })
})

describe('by iptables', () => {
  test('addresses are there and frames in nftables; what ADD chose is what CHECK looks at', async () => {
    using _choice = choose('nf_tables')
    const spec = specOf({ backend: 'iptables', elements: frames })
    await addRules(adding().request, spec, sweep)
    expect(elements()).toEqual(['bridge guarded_port veth0'])
    expect(inIptables()).toHaveLength(3)
    // the configuration has changed its mind since: the rules have not
    for (const backend of ['iptables', 'nftables', ''] as const)
      expect(await missing({ ...spec, backend })).toBeUndefined()
    hostNamespace().run('nft', 'flush', 'set', 'bridge', 'catena', 'guarded_port')
    expect(await missing(spec)).toContain('guarded_port')
    await sweepRules(applyRuleset, attachment, sweep)
    expect([elements(), inIptables()]).toEqual([[], []])
  })

  test('of an ADD that was killed on another node’s terms nothing stays beside nftables', async () => {
    using _choice = choose('nf_tables')
    await addRules(adding().request, specOf({ backend: 'iptables' }), sweep)
    await addRules(adding().request, specOf({ backend: 'nftables' }), sweep)
    expect([elements().sort(), inIptables()]).toEqual([inNftables.toSorted(), []])
  })
})

describe('where the chosen backend does not work', () => {
  const lacking: Engine = (commands, generation) => {
    const command = commands.find(({ kind }) => kind === 'set')
    return command
      ? Promise.reject(new NftError('no', 'no', { errno: errno.EINVAL, command }))
      : applyRuleset(commands, generation)
  }

  test('the other one stands in, and it is said', async () => {
    using _choice = choose('nf_tables')
    const { request, io } = adding(lacking)
    await addRules(request, specOf(), sweep)
    expect(inIptables()).toHaveLength(3)
    expect(io.said()).toMatch(/^nf_tables of this kernel .*, so iptables stands in: no\n$/)
    expect(await missing(specOf())).toBeUndefined()
  })

  test('unless the configuration insists', async () => {
    using _choice = choose('nf_tables')
    const { request } = adding(lacking)
    await expect(addRules(request, specOf({ backend: 'nftables' }), sweep)).rejects.toThrow(
      'nf_tables of this kernel',
    )
    expect(inIptables()).toEqual([])
  })
})

describe('STATUS', () => {
  const ask = async (config: { ipMasq: boolean; ipMasqBackend?: MasqueradeSpec['backend'] }) => {
    const io = silentIo({})
    await requireBackend({ config, engine: applyRuleset, io })
    return io.said()
  }

  test('says by what, where it is not named', async () => {
    expect(await ask({ ipMasq: true })).toBe(
      'addresses are masqueraded by nftables, because nothing on this node uses iptables\n',
    )
    expect(await ask({ ipMasq: true, ipMasqBackend: 'nftables' })).toBe('')
    using _node = nodeWide('nonsense')
    expect(await ask({ ipMasq: false })).toBe('')
  })

  test('is code 50 where the tools of the backend that is named are not installed', async () => {
    using _tools = hideTools()
    await expect(ask({ ipMasq: true, ipMasqBackend: 'iptables' })).rejects.toMatchObject({
      code: 50,
      message: expect.stringContaining('iptables is not installed'),
      details: expect.stringContaining('install the package iptables, or set the backend to nftables'),
    })
  })
})
