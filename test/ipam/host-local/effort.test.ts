/** What an ADD does does not grow with what is reserved: counted in system calls, since a clock depends on the machine. */
import { expect, test } from 'bun:test'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { ourExecutable } from '../../fixtures/plugin.ts'
import { reboot } from '../../fixtures/reboot.ts'
import { dataFolder } from './fixture.ts'

const address = (index: number) => `10.1.${index >> 8}.${index & 255}`

/** A network in which another program has reserved the first addresses. */
function fill(dataDir: string, taken: number): void {
  mkdirSync(`${dataDir}/test-net`)
  for (let index = 2; index < taken + 2; index++) {
    writeFileSync(`${dataDir}/test-net/${address(index)}`, `c${index}\r\neth0`, { mode: 0o600 })
  }
  writeFileSync(`${dataDir}/test-net/last_reserved_ip.0`, address(taken + 1), { mode: 0o600 })
}

/** The calls on the network's folder of an ADD, and what it answers. */
function traceAdd(dataDir: string, containerId: string): { calls: string[]; stdout: string } {
  const trace = `${dataDir}/trace`
  const config = {
    cniVersion: '1.1.0',
    name: 'test-net',
    ipam: { dataDir, ranges: [[{ subnet: '10.1.0.0/16' }]] },
  }
  const environment = {
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: containerId,
    CNI_IFNAME: 'eth0',
    CNI_NETNS: '/run/netns/none',
    CNI_PATH: '/none',
    CATENA_WARM: 'off', // its own calls are counted
  }
  const { stdout } = Bun.spawnSync(
    ['strace', '-o', trace, '-e', 'trace=file,getdents64', ourExecutable('host-local')],
    { env: { ...process.env, ...environment }, stdin: Buffer.from(JSON.stringify(config)) },
  )
  const calls = readFileSync(trace, 'utf8').split('\n')
  rmSync(trace)
  return {
    calls: calls.filter(line => line.includes(dataDir) || line.startsWith('getdents64')),
    stdout: stdout.toString(),
  }
}

const reads = (calls: readonly string[]) => calls.filter(line => /open.*\/test-net\/10\./.test(line))

test('with 20,000 addresses taken, an ADD opens no reservation and calls the system hardly more often than with none', () => {
  const counts = [0, 20_000].map(taken => {
    using folder = dataFolder()
    reboot()
    fill(folder.path, taken)
    const first = traceAdd(folder.path, 'first')
    const second = traceAdd(folder.path, 'second')
    expect(JSON.parse(second.stdout).ips).toEqual([
      { address: `${address(taken + 3)}/16`, gateway: '10.1.0.1' },
    ])
    // what another program has changed is read once, and never again
    expect([reads(first.calls).length, reads(second.calls).length]).toEqual([taken, 0])
    return second.calls.length
  })
  expect(counts[1]).toBeLessThan((counts[0] ?? 0) + 10)
}, 60_000)

test('a full /16 is refused after one listing and a look at a few, the next time without listing, and says how full it is', () => {
  using folder = dataFolder()
  fill(folder.path, 65_533)
  for (const listings of [2, 1]) {
    const { calls, stdout } = traceAdd(folder.path, 'late')
    expect(JSON.parse(stdout).msg).toContain('10.1.0.1-10.1.255.254: 65533 of 65533 are in use')
    expect(reads(calls)).toEqual([])
    expect(calls.length).toBeLessThan(1000)
    // one that stops after a few names, to know that there are many
    expect(calls.filter(line => /open.*\/test-net".*O_DIRECTORY/.test(line))).toHaveLength(listings)
  }
  rmSync(`${folder.path}/test-net/${address(40_000)}`)
  expect(JSON.parse(traceAdd(folder.path, 'late').stdout).ips[0].address).toBe(`${address(40_000)}/16`)
}, 60_000)
