/** What a table of iptables holds, of either variant, and whether a packet may be dropped on its way through. */
import { afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { type FoundTable, mayDropIn, readSaved, withTable } from '../../../chain/linux/iptables/found.ts'
import { choose, clearRules, variants } from '../../fixtures/iptables.ts'
import { freshNamespace, hostNamespace } from '../../fixtures/namespace.ts'

const host = hostNamespace()
beforeAll(() => clearRules())
afterEach(() => {
  for (const tool of ['iptables-nft', 'iptables-legacy']) host.run(tool, '-w', '-P', 'FORWARD', 'ACCEPT')
  clearRules()
})

const saved = (...lines: string[]) =>
  readSaved(
    ['*filter', ':FORWARD ACCEPT [0:0]', ':SIDE - [0:0]', ':FAR - [0:0]', ...lines, 'COMMIT'].join('\n'),
  )

describe('a packet that is forwarded may be dropped', () => {
  test.each<[string, string[], boolean]>([
    ['by nothing', [], false],
    ['by DROP', ['-A FORWARD -s 10.0.0.0/8 -j DROP'], true],
    ['by REJECT', ['-A FORWARD -j REJECT --reject-with icmp-port-unreachable'], true],
    ['by an extension that is unknown here', ['-A FORWARD -j SOMETHING'], true],
    ['by NFQUEUE', ['-A FORWARD -j NFQUEUE --queue-num 1'], true],
    [
      'not by what lets it go on',
      [
        '-A FORWARD -j ACCEPT',
        '-A FORWARD -j LOG',
        '-A FORWARD -j RETURN',
        '-A FORWARD -j MARK --set-mark 1',
      ],
      false,
    ],
    ['not by a chain that nothing leads to', ['-A SIDE -j DROP'], false],
    ['in a chain that it is sent to', ['-A FORWARD -j SIDE', '-A SIDE -j DROP'], true],
    ['in a chain further on', ['-A FORWARD -g SIDE', '-A SIDE -j FAR', '-A FAR -j DROP'], true],
    [
      'not in chains that lead to one another without an end',
      ['-A FORWARD -j SIDE', '-A SIDE -j FAR', '-A FAR -j SIDE'],
      false,
    ],
  ])('%s', (_, lines, expected) => {
    expect(mayDropIn(saved(...lines), 'FORWARD')).toBe(expected)
  })

  test('not in chains that are passed over', () => {
    const table = saved('-A FORWARD -j SIDE', '-A SIDE -j DROP')
    expect(mayDropIn(table, 'FORWARD', ['SIDE'])).toBe(false)
    expect(
      mayDropIn(saved('-A FORWARD -j SIDE', '-A SIDE -j FAR', '-A FAR -j DROP'), 'FORWARD', ['FAR']),
    ).toBe(false)
  })

  test('at the end of its chain', () => {
    const table = readSaved('*filter\n:FORWARD DROP [0:0]\n:INPUT ACCEPT [0:0]\nCOMMIT\n')
    expect([mayDropIn(table, 'FORWARD'), mayDropIn(table, 'INPUT')]).toEqual([true, false])
  })
})

const seen = (found: FoundTable) => ({
  dropping: found.dropping,
  forward: found
    .rulesIn('FORWARD')
    .map(({ targets, comment, mayDrop, source }) => ({ targets, comment, mayDrop, source })),
  mayDrop: mayDropIn(found, 'FORWARD'),
})

describe.each(variants)('with the %s variant', variant => {
  const tool = variant === 'legacy' ? 'iptables-legacy' : 'iptables-nft'
  const look = <T>(read: (found: FoundTable) => T, builtin = 'FORWARD') =>
    withTable({ family: 'ip', variant, table: 'filter', builtin }, read)

  test('a table is read with its policy, and rules as far as they matter', () => {
    using _choice = choose(variant)
    host.run(tool, '-w', '-N', 'SIDE')
    host.run(
      tool,
      '-w',
      '-A',
      'FORWARD',
      '-s',
      '10.1.0.2',
      '-m',
      'comment',
      '--comment',
      'mine',
      '-j',
      'SIDE',
    )
    host.run(tool, '-w', '-A', 'FORWARD', '-j', 'MARK', '--set-mark', '1')
    host.run(tool, '-w', '-A', 'SIDE', '-j', 'REJECT')
    expect(look(({ rulesIn }) => rulesIn('SIDE').map(({ mayDrop }) => mayDrop))).toEqual([true])
    const found = look(seen)
    expect(found).toMatchObject({ dropping: [], mayDrop: true })
    expect(found?.forward).toMatchObject([
      { targets: ['SIDE'], comment: 'mine', mayDrop: false, source: '10.1.0.2' },
      { mayDrop: false },
    ])
    host.run(tool, '-w', '-P', 'FORWARD', 'DROP')
    expect(look(seen)).toMatchObject({ dropping: ['FORWARD'], mayDrop: true })
  })

  test('where there is no such table there is nothing to read', () => {
    using _choice = choose(variant)
    using container = freshNamespace()
    expect(container.inside(() => look(() => 'read'))).toBeUndefined()
  })
})
