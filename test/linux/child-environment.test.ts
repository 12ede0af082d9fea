/** What of a caller's environment counts for the programs that are run. */
import { afterEach, describe, expect, test } from 'bun:test'
import {
  asGiven,
  dropKept,
  helperEnvironment,
  helperPath,
  mayKeep,
  runnerForCaller,
  useChildEnvironment,
} from '../../chain/linux/child-environment.ts'

afterEach(dropKept)

const USUAL = '/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin'

test.each([
  ['', USUAL],
  ['/opt/bin:/usr/bin', `/opt/bin:/usr/bin:${USUAL}`],
  ['.:/opt/bin::bin:../x', `/opt/bin:${USUAL}`],
])('helpers are looked for where PATH "%s" is absolute, and in the usual folders', (path, searched) => {
  expect(helperPath(path)).toBe(searched)
})

test.each([
  ['\u0001D_LIBRARY_PATH', 'LD_LIBRARY_PATH'],
  ['\u0001UN_OPTIONS', 'BUN_OPTIONS'],
  ['\u0001ODE_OPTIONS', 'NODE_OPTIONS'],
  ['\u0001USL_LOCALE', 'MUSL_LOCALE'],
  ['LD_PRELOAD', 'LD_PRELOAD'],
  ['AD_LIBRARY_PATH', 'AD_LIBRARY_PATH'],
  ['\u0001THER', '\u0001THER'],
  ['\u0001', '\u0001'],
])('a name that came as %j was given as %s', (came, given) => {
  expect(asGiven({ [came]: 'value', PATH: '/bin' })).toEqual({ [given]: 'value', PATH: '/bin' })
})

test("what the executable's start has added is nobody's but its own", () => {
  expect(asGiven({ BUN_JSC_useWarmUpMarkedBlocks: '0', '\u0001UN_JSC_useJIT': '0' })).toEqual({
    BUN_JSC_useJIT: '0',
  })
})

describe('a process that does somebody else’s call', () => {
  const run = () => ({ status: 0, stdout: 'theirs', stderr: '' })

  test('has the caller’s environment for its programs, and the caller run them; then its own again', () => {
    const own = helperEnvironment()
    {
      using _call = useChildEnvironment({
        process: { pid: 1, parent: 0 },
        environment: { PATH: '/theirs' },
        run,
      })
      expect([helperEnvironment(), runnerForCaller()]).toEqual([{ PATH: '/theirs' }, run])
      expect(helperPath()).toBe(`/theirs:${USUAL}`)
    }
    expect(helperEnvironment()).toBe(own)
    expect(runnerForCaller()).toBeUndefined()
  })

  test('may keep things for the next one, until they are let go of; one that does its own may not', () => {
    let dropped = 0
    const drop = () => void dropped++
    expect(mayKeep(drop)).toBe(false)
    dropKept()
    expect(dropped).toBe(0)
    {
      using _call = useChildEnvironment({ process: { pid: 1, parent: 0 }, environment: {}, run })
      expect([mayKeep(drop), mayKeep(drop)]).toEqual([true, true])
    }
    dropKept()
    expect(dropped).toBe(1)
  })
})
