import { expect, test } from 'bun:test'
import { parseDuration, parseFlags, UsageError } from '../../../../ipam/dhcp/daemon/flags.ts'
import { defaultTiming } from '../../../../ipam/dhcp/engine/timing.ts'

const defaults = {
  pidFile: '',
  hostPrefix: '',
  socketPath: '/run/cni/dhcp.sock',
  broadcast: false,
  timing: defaultTiming,
}

test.each([
  { args: '', options: {} },
  {
    args: '-pidfile /run/x --hostprefix=/host -socketpath /s -broadcast',
    options: { pidFile: '/run/x', hostPrefix: '/host', socketPath: '/s', broadcast: true },
  },
  { args: '-broadcast=false', options: {} },
  { args: '-socketpath= -broadcast', options: { broadcast: true } },
  // flags end where Go's end: at a word that is none, at "-" and at "--"
  { args: '-broadcast word -pidfile relative', options: { broadcast: true } },
  { args: 'word', options: {} },
  { args: '-', options: {} },
  { args: '-broadcast -- -colour', options: { broadcast: true } },
  {
    args: '-timeout 1m30s -resendmax=1.5s --resendtimeout 2h -probe 0',
    options: { timing: { timeout: 90_000, resendMax: 1500, resendTimeout: 7_200_000, probe: 0 } },
  },
])('daemon $args', ({ args, options }) => {
  expect(parseFlags(args.split(' ').filter(Boolean))).toEqual({ ...defaults, ...options })
})

test.each([
  '-colour red',
  '-pidfile relative',
  '-timeout',
  '-timeout ten',
  '-timeout 10',
  '-broadcast=maybe',
])('daemon %s is refused', args => {
  expect(() => parseFlags(args.split(' '))).toThrow(UsageError)
})

test.each([
  ['300ms', 300],
  ['1.5h', 5_400_000],
  ['1h2m3.5s', 3_723_500],
  ['2us', 0.002],
] as const)('%s is %p ms', (text, milliseconds) => {
  expect(parseDuration('timeout', text)).toBeCloseTo(milliseconds, 9)
})
