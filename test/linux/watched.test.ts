/** Programs that are run to their end for somebody else, and end when he goes. */
import { expect, test } from 'bun:test'
import { readFileSync, rmSync } from 'node:fs'
import { close, O_NONBLOCK, O_RDONLY, open } from '../../chain/linux/libc/file.ts'
import { runWatched } from '../../chain/linux/watched.ts'

const env = { PATH: process.env.PATH }
const run = (script: string, more: object = {}, caller?: number) =>
  runWatched({ args: ['sh', '-c', script], env, input: '', ...more }, caller)

/** Not when it has ended and is only to be reaped. */
function isAlive(pid: string): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

/** A connection to a caller who goes after so many seconds. */
async function callerFor(seconds: number) {
  const path = `/run/caller-${process.pid}`
  Bun.spawnSync(['mkfifo', path])
  const descriptor = open(path, O_RDONLY | O_NONBLOCK)
  const child = Bun.spawn(['sh', '-c', `exec 3>${path}; echo there; exec sleep ${seconds}`], {
    stdout: 'pipe',
  })
  await child.stdout.getReader().read()
  return {
    descriptor,
    async [Symbol.asyncDispose]() {
      child.kill()
      await child.exited
      close(descriptor)
      rmSync(path)
    },
  }
}

test('a program has its input, its environment and what it inherits, and says what it has to', async () => {
  await using caller = await callerFor(60)
  const inherited = open('/proc/self/status', O_RDONLY)
  const told = run(
    'cat; echo "$WORD" >&2; readlink /proc/self/fd/3; exit 3',
    { input: 'in', env: { ...env, WORD: 'err' }, inherited },
    caller.descriptor,
  )
  close(inherited)
  expect(told).toMatchObject({ status: 3, stderr: 'err\n' })
  expect(told.stdout).toMatch(/^in\/proc\/\d+\/status\n$/)
})

test('more output than a pipe holds is all there', () => {
  expect(run('head -c 300000 /dev/zero | tr "\\0" x').stdout).toHaveLength(300_000)
})

test('one that is ended by a signal says which', () => {
  expect(run('echo half; kill -SEGV $$')).toMatchObject({ status: 128, signal: 11, stdout: 'half\n' })
})

test('a caller who goes takes the program along, with all that it has started', async () => {
  await using caller = await callerFor(0.1)
  const started = performance.now()
  const { signal, stdout } = run('sleep 60 & echo $!; wait', {}, caller.descriptor)
  expect(signal).toBe(9)
  expect(performance.now() - started).toBeLessThan(10_000)
  while (isAlive(stdout.trim())) {
    expect(performance.now() - started).toBeLessThan(10_000)
    await new Promise(setImmediate)
  }
})

test('one that has ended is believed, though the caller has gone as well', async () => {
  await using caller = await callerFor(0)
  expect(run('exit 0', {}, caller.descriptor)).toMatchObject({ stdout: '' })
})

test('a program that is not there is refused, and what it was to read and to write goes in either case', () => {
  const memory = () =>
    Bun.spawnSync(['sh', '-c', `ls -l /proc/${process.pid}/fd`])
      .stdout.toString()
      .split('memfd:').length
  const before = memory() // of other tests' in this process
  expect(() => runWatched({ args: ['/none/at-all'], env, input: '' }, undefined)).toThrow('/none/at-all')
  run('true')
  expect(memory()).toBeLessThanOrEqual(before)
})

test.each([
  { call: 'pidfd_open', nth: 2 }, // the first is Bun's own
  { call: 'poll', nth: 1 },
])('one that cannot be watched ($call) has ended when that is said', ({ call, nth }) => {
  const trace = '/run/watched.trace'
  const source = JSON.stringify(`${import.meta.dir}/../../chain/linux/watched.ts`)
  const script = `const { runWatched } = await import(${source})
    const connection = 1 // any that stays
    try { runWatched({ args: ['sleep', '61'], env: process.env, input: '' }, connection) }
    catch ({ message }) { console.log(message) }`
  const refusal = ['-e', `trace=${call}`, '-e', `inject=${call}:error=EMFILE:when=${nth}+`]
  const command = ['strace', '-o', trace, ...refusal, process.execPath, '-e', script]
  const { stdout } = Bun.spawnSync(command, { timeout: 20_000 })
  rmSync(trace)
  expect(stdout.toString()).toMatch(new RegExp(`^${call}.*EMFILE`))
  expect(Bun.spawnSync(['pgrep', '-f', '^sleep 61$']).exitCode).toBe(1)
})
