import { describe, expect, test } from 'bun:test'
import { errno } from '../../../chain/linux/libc/errno.ts'
import {
  applyWithNft,
  type Command,
  describeCommand,
  NftError,
  translateMatches,
} from '../../../chain/linux/nftables/nft.ts'
import { hostNamespace, type Namespace } from '../../fixtures/namespace.ts'

const TABLE = 'engine-test'
const table: Command = { verb: 'add', kind: 'table', family: 'ip', name: TABLE }
const chain: Command = { verb: 'add', kind: 'chain', family: 'ip', table: TABLE, name: 'one' }
const ruleIn = (name: string): Command => ({
  verb: 'add',
  kind: 'rule',
  family: 'ip',
  table: TABLE,
  chain: name,
  expr: [{ accept: null }],
  comment: 'owner',
})

/** nft works where the test process is: the private host. Its table is taken away in any case. */
async function withTable(body: (host: Namespace) => Promise<void>): Promise<void> {
  using host = hostNamespace()
  try {
    await body(host)
  } finally {
    Bun.spawnSync(['nft', 'delete', 'table', 'ip', TABLE])
  }
}

const listed = (host: Namespace) => host.run('nft', 'list', 'tables')

async function refusalOf(commands: readonly Command[]): Promise<NftError> {
  try {
    await applyWithNft(commands)
  } catch (thrown) {
    if (thrown instanceof NftError) return thrown
    throw thrown
  }
  throw new Error('nothing was refused')
}

test('a ruleset is applied, and is what the kernel has then', () =>
  withTable(async host => {
    await applyWithNft([table, chain, ruleIn('one')])
    const ruleset = host.run('nft', 'list', 'table', 'ip', TABLE)
    expect(ruleset.replace(/\s+/g, ' ')).toBe(`table ip ${TABLE} { chain one { accept comment "owner" } } `)
  }))

test('a ruleset of which one statement is refused is not applied at all', () =>
  withTable(async host => {
    await refusalOf([table, chain, ruleIn('one'), ruleIn('none')])
    expect(listed(host)).not.toContain(TABLE)
  }))

describe('a refusal', () => {
  test.each([
    { name: 'the first of the statements', commands: [ruleIn('none'), table, chain], refused: 0 },
    {
      name: 'one in the middle',
      commands: [table, chain, ruleIn('one'), ruleIn('none'), ruleIn('one')],
      refused: 3,
    },
    { name: 'the last', commands: [table, chain, chain, chain, chain, ruleIn('none')], refused: 5 },
  ])('names $name, and quotes nft', ({ commands, refused }) =>
    withTable(async () => {
      const { command, said: words, message, errno: number } = await refusalOf(commands)
      expect({ command, number }).toEqual({ command: commands[refused], number: errno.ENOENT })
      expect(words).toContain('No such file or directory')
      expect(message).toBe(
        `apply nftables rules: add rule ip ${TABLE} none [{"accept":null}]: ${words.split('\n')[0]}`,
      )
    }),
  )

  test.each([
    {
      name: 'what must not exist does',
      commands: [table, { verb: 'create', kind: 'table', family: 'ip', name: TABLE }],
      number: errno.EEXIST,
    },
    {
      name: 'what is to be deleted is not there',
      commands: [{ verb: 'delete', kind: 'table', family: 'ip', name: TABLE }],
      number: errno.ENOENT,
    },
    {
      name: 'a chain is still jumped to',
      commands: [
        table,
        chain,
        { verb: 'add', kind: 'chain', family: 'ip', table: TABLE, name: 'two' },
        {
          verb: 'add',
          kind: 'rule',
          family: 'ip',
          table: TABLE,
          chain: 'one',
          expr: [{ jump: { target: 'two' } }],
        },
        { verb: 'delete', kind: 'chain', family: 'ip', table: TABLE, name: 'two' },
      ],
      number: errno.EBUSY,
    },
  ] satisfies { name: string; commands: Command[]; number: number }[])('has the errno when $name', row =>
    withTable(async () => {
      expect((await refusalOf(row.commands)).errno).toBe(row.number)
    }),
  )

  test('of what is not nft at all has no errno, and its words', () =>
    withTable(async () => {
      const nonsense: Command = {
        verb: 'add',
        kind: 'rule',
        family: 'ip',
        table: TABLE,
        chain: 'one',
        expr: [{ nonsense: 1 }],
      }
      const { errno: number, said: words, command } = await refusalOf([table, chain, nonsense])
      expect({ number, command }).toEqual({ number: undefined, command: nonsense })
      expect(words).toContain('nonsense')
    }))
})

test('no statement is no transaction: nft is not even looked for', async () => {
  expect(await applyWithNft([])).toBeUndefined()
})

test('where nft is missing, this is what is said', () => {
  // an empty file system in the place of every folder that may hold nft
  const script = `
    import { mount } from '${import.meta.dir}/../../../chain/linux/libc/process.ts'
    import { status } from '${import.meta.dir}/../../../chain/linux/libc/status.ts'
    import { applyWithNft, NftError } from '${import.meta.dir}/../../../chain/linux/nftables/nft.ts'
    for (const folder of ['/usr/sbin', '/usr/bin', '/usr/local/sbin', '/sbin', '/bin', ...process.env.PATH.split(':')])
      if (status(folder + '/nft')) mount('none', folder, { type: 'tmpfs', flags: 0 })
    try { await applyWithNft([{ verb: 'add', kind: 'table', family: 'ip', name: 'x' }]) } catch (thrown) {
      console.log(JSON.stringify({ known: thrown instanceof NftError, ...thrown, message: thrown.message }))
    }`
  const { stdout, stderr } = Bun.spawnSync(['unshare', '-m', process.execPath, '-e', script])
  expect(`${stderr}`).toBe('')
  expect(JSON.parse(`${stdout}`)).toEqual({
    name: 'NftError',
    known: true,
    message: 'apply nftables rules: nft is not installed',
    errno: errno.ENOENT,
    operation: 'apply nftables rules',
    said: expect.stringContaining('no nft in'),
  })
})

test.each([
  { command: table, words: `add table ip ${TABLE}` },
  { command: ruleIn('one'), words: `add rule ip ${TABLE} one [{"accept":null}]` },
  {
    command: { verb: 'delete', kind: 'element', family: 'ip6', table: 't', name: 'port_address', elem: [80] },
    words: 'delete element ip6 t port_address [80]',
  },
  {
    command: { verb: 'flush', kind: 'chain', family: 'ip', table: 't', name: 'c' },
    words: 'flush chain ip t c',
  },
] satisfies { command: Command; words: string }[])('a statement is told to a person: $words', row => {
  expect(describeCommand(row.command)).toBe(row.words)
})

describe('match expressions of nft', () => {
  const translate = (matches: string) => translateMatches('ip', matches)

  test('become data', async () => {
    expect(await translate('ip saddr 10.0.0.0/8 tcp dport 80')).toEqual([
      {
        match: {
          op: '==',
          left: { payload: { protocol: 'ip', field: 'saddr' } },
          right: { prefix: { addr: '10.0.0.0', len: 8 } },
        },
      },
      { match: { op: '==', left: { payload: { protocol: 'tcp', field: 'dport' } }, right: 80 } },
    ])
  })

  test('that nft does not take are refused with its words', async () => {
    await expect(translate('ip saddr nonsense!')).rejects.toThrow(
      'read the nftables expression "ip saddr nonsense!"',
    )
  })
})
