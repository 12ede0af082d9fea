/** The process is killed at every system call; what it leaves is harmless, and the next DEL or GC leaves nothing. */
import { expect, test } from 'bun:test'
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { hostLocal } from '../../../ipam/host-local.ts'
import { type Call, mustCall, ourExecutable } from '../../fixtures/plugin.ts'
import { dataFolder } from './fixture.ts'

/** Calls that change files, and those between them. A kill elsewhere is one before or after these. */
const CALLS =
  'openat,flock,statx,mkdir,mkdirat,readlink,readlinkat,getdents64,write,fsetxattr,link,linkat,rename,renameat,renameat2,unlink,unlinkat,symlink,symlinkat,utimensat,fsync,close'

const environment = {
  CNI_CONTAINERID: 'victim',
  CNI_IFNAME: 'eth0',
  CNI_NETNS: '/run/netns/none',
  CNI_PATH: '/none',
}

function configuration(dataDir: string) {
  return {
    cniVersion: '1.1.0',
    name: 'test-net',
    ipam: { type: 'host-local', dataDir, ranges: [[{ subnet: '10.1.2.0/29' }], [{ subnet: 'fd00::/64' }]] },
  }
}

interface KillPoint {
  call: string
  /** The first one is 1. */
  which: number
}

/** Runs a verb under strace; with `kill`, SIGKILL comes at that call, before the kernel carries it out. */
function traced(dataDir: string, verb: string, kill?: KillPoint): { calls: string[]; killed: boolean } {
  const trace = `${dataDir}/../trace-${process.pid}`
  const inject = kill === undefined ? [] : ['-e', `inject=${kill.call}:signal=SIGKILL:when=${kill.which}`]
  const { signalCode } = Bun.spawnSync(
    ['strace', '-o', trace, '-e', `trace=${CALLS}`, ...inject, ourExecutable('host-local')],
    {
      env: { ...process.env, ...environment, CNI_COMMAND: verb },
      stdin: Buffer.from(JSON.stringify(configuration(dataDir))),
    },
  )
  const calls = readFileSync(trace, 'utf8')
    .split('\n')
    .filter(line => /^\w+\(/.test(line))
  rmSync(trace)
  return { calls, killed: signalCode === 'SIGKILL' }
}

/** What is in the network's folder but the lock and where round robin stands. */
function leftIn(dataDir: string): string[] {
  return readdirSync(`${dataDir}/test-net`).filter(name => !/^(lock|last_reserved_ip\.\d)$/.test(name))
}

/** A network in which one container lives, and for a DEL the one that is to be deleted. */
async function inhabited(dataDir: string, verb: string): Promise<Call> {
  const options: Call = { config: configuration(dataDir), netns: '/run/netns/none' }
  await mustCall(hostLocal, 'ADD', { ...options, containerId: 'bystander' })
  if (verb === 'DEL') await mustCall(hostLocal, 'ADD', { ...options, containerId: 'victim' })
  return options
}

/** The calls from the network's folder on: what comes before has touched nothing. */
async function killPoints(verb: string): Promise<KillPoint[]> {
  using folder = dataFolder()
  await inhabited(folder.path, verb)
  const { calls } = traced(folder.path, verb)
  const names = calls.map(line => line.replace(/\(.*/, ''))
  const first = calls.findIndex(line => line.includes(folder.path))
  return names
    .map((call, index) => ({ call, which: names.slice(0, index + 1).filter(name => name === call).length }))
    .slice(first)
}

const alive = { 'cni.dev/valid-attachments': [{ containerID: 'bystander', ifname: 'eth0' }] }

test.each([
  { killed: 'ADD', next: 'DEL', essential: ['flock', 'write', 'link', 'unlink', 'fsync'] },
  { killed: 'ADD', next: 'GC', essential: ['flock', 'write', 'link', 'unlink', 'fsync'] },
  { killed: 'DEL', next: 'DEL', essential: ['flock', 'unlink'] },
] as const)(
  '$killed, killed at any system call: the next $next leaves no file, and others get addresses',
  async ({ killed, next, essential }) => {
    const points = await killPoints(killed)
    expect(points.map(({ call }) => call)).toEqual(expect.arrayContaining([...essential]))
    const leaks: string[] = []
    let kills = 0
    for (const point of points) {
      using folder = dataFolder()
      const where = `${point.call} ${point.which}`
      const options = await inhabited(folder.path, killed)
      if (traced(folder.path, killed, point).killed) kills++
      for (const name of leftIn(folder.path).filter(each => !each.startsWith('.'))) {
        const content = readFileSync(`${folder.path}/test-net/${name}`, 'latin1')
        if (!/^\w+\r\neth0$/.test(content)) leaks.push(`${where}: ${name} holds ${JSON.stringify(content)}`)
      }
      await mustCall(hostLocal, 'ADD', { ...options, containerId: 'other' })
      await mustCall(hostLocal, 'DEL', { ...options, containerId: 'other' })
      await mustCall(hostLocal, next, {
        ...options,
        containerId: 'victim',
        config: { ...configuration(folder.path), ...alive },
      })
      const left = leftIn(folder.path).toSorted().join(' ')
      if (left !== '10.1.2.2 fd00::2') leaks.push(`${where}: ${left}`)
    }
    expect(leaks).toEqual([])
    // the runtime's own calls are not the same in each run, so that a few points may lie behind the end
    expect(kills).toBeGreaterThan(points.length * 0.8)
    console.log(`${killed} killed at ${kills} system calls, then ${next}: ${leaks.length} leaks`)
  },
  300_000,
)
