/** The process is killed at every system call; what it leaves is harmless, and the next DEL or GC leaves nothing. */
import { expect, test } from 'bun:test'
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { hostLocal } from '../../../ipam/host-local.ts'
import { type Call, call, mustCall, ourExecutable } from '../../fixtures/plugin.ts'
import { reboot } from '../../fixtures/reboot.ts'
import { dataFolder } from './fixture.ts'

/** Calls that change files, and those between them. A kill elsewhere is one before or after these. */
const CALLS =
  'open,openat,flock,statx,mkdir,mkdirat,readlink,readlinkat,getdents64,write,fsetxattr,link,linkat,rename,renameat,renameat2,unlink,unlinkat,symlink,symlinkat,utimensat,fsync,close'

const environment = {
  CNI_CONTAINERID: 'victim',
  CNI_IFNAME: 'eth0',
  CNI_NETNS: '/run/netns/none',
  CNI_PATH: '/none',
}

const roomy = [[{ subnet: '10.1.2.0/29' }], [{ subnet: 'fd00::/64' }]]
/** The bystander has the only address of the second set. */
const cramped = [[{ subnet: '10.1.2.0/29' }], [{ subnet: '10.9.9.0/30' }]]

interface Scenario {
  title: string
  killed: 'ADD' | 'DEL' | 'GC'
  /** Who has addresses, beside the bystander, when the victim is called. */
  before?: string[]
  /** The machine was restarted since. */
  rebooted?: boolean
  ranges?: object
  /** What puts everything right afterwards. */
  next: 'DEL' | 'GC'
  /** Calls that must be among those at which it is killed. */
  essential: string[]
}

const scenarios: Scenario[] = [
  { title: 'an ADD', killed: 'ADD', next: 'DEL', essential: ['flock', 'write', 'link', 'unlink', 'fsync'] },
  { title: 'an ADD', killed: 'ADD', next: 'GC', essential: ['flock', 'write', 'link', 'unlink', 'fsync'] },
  {
    title: 'an ADD that has its addresses from before a reboot',
    killed: 'ADD',
    before: ['victim'],
    rebooted: true,
    next: 'DEL',
    essential: ['write', 'rename', 'symlink', 'fsync'],
  },
  {
    title: 'an ADD that gives the first address back, as the second set is full',
    killed: 'ADD',
    ranges: cramped,
    next: 'DEL',
    essential: ['link', 'unlink'],
  },
  { title: 'a DEL', killed: 'DEL', before: ['victim'], next: 'DEL', essential: ['flock', 'unlink'] },
  {
    title: 'a DEL after a reboot, which reads all',
    killed: 'DEL',
    before: ['victim'],
    rebooted: true,
    next: 'DEL',
    essential: ['getdents64', 'unlink', 'symlink'],
  },
  {
    title: 'a GC',
    killed: 'GC',
    before: ['victim', 'dead'],
    next: 'DEL',
    essential: ['getdents64', 'write', 'unlink', 'symlink'],
  },
  {
    title: 'a GC that finds nothing to free',
    killed: 'GC',
    before: ['victim'],
    next: 'DEL',
    essential: ['getdents64', 'write', 'unlink', 'symlink'],
  },
]

function configuration(dataDir: string, { ranges = roomy }: Partial<Scenario>, ...alive: string[]) {
  return {
    cniVersion: '1.1.0',
    name: 'test-net',
    ipam: { type: 'host-local', dataDir, ranges },
    'cni.dev/valid-attachments': alive.map(containerID => ({ containerID, ifname: 'eth0' })),
  }
}

/** So many are killed at once. */
const LANES = 4

interface KillPoint {
  call: string
  /** The first one is 1. */
  which: number
}

/** Runs the verb under strace; with `kill`, SIGKILL comes at that call, before the kernel carries it out. */
async function traced(
  dataDir: string,
  scenario: Scenario,
  kill?: KillPoint,
): Promise<{ calls: string[]; killed: boolean }> {
  const trace = `${dataDir}.trace`
  const inject = kill === undefined ? [] : ['-e', `inject=${kill.call}:signal=SIGKILL:when=${kill.which}`]
  const child = Bun.spawn(
    [
      'strace',
      '-E',
      'CATENA_WARM=off',
      '-o',
      trace,
      '-e',
      `trace=${CALLS}`,
      ...inject,
      ourExecutable('host-local'),
    ],
    {
      env: { ...process.env, ...environment, CNI_COMMAND: scenario.killed },
      stdin: Buffer.from(JSON.stringify(configuration(dataDir, scenario, 'bystander', 'victim'))),
      stdout: 'ignore',
      stderr: 'ignore',
    },
  )
  await child.exited
  const calls = readFileSync(trace, 'utf8')
    .split('\n')
    .filter(line => /^\w+\(/.test(line))
  rmSync(trace)
  return { calls, killed: child.signalCode === 'SIGKILL' }
}

/** What is in the network's folder but the lock and where round robin stands. */
function leftIn(dataDir: string): string[] {
  return readdirSync(`${dataDir}/test-net`).filter(name => !/^(lock|last_reserved_ip\.\d)$/.test(name))
}

/** The network as the victim finds it. */
async function inhabited(dataDir: string, scenario: Scenario): Promise<Call> {
  const options: Call = {
    config: configuration(dataDir, scenario, 'bystander'),
    netns: '/run/netns/none',
  }
  for (const containerId of ['bystander', ...(scenario.before ?? [])]) {
    await mustCall(hostLocal, 'ADD', { ...options, containerId })
  }
  if (scenario.rebooted) reboot()
  return options
}

/** The calls from the network's folder on: what comes before has touched nothing. */
async function killPoints(scenario: Scenario): Promise<KillPoint[]> {
  using folder = dataFolder()
  await inhabited(folder.path, scenario)
  const { calls } = await traced(folder.path, scenario)
  const names = calls.map(line => line.replace(/\(.*/, ''))
  const first = calls.findIndex(line => line.includes(folder.path))
  return names
    .map((call, index) => ({ call, which: names.slice(0, index + 1).filter(name => name === call).length }))
    .slice(first)
}

/** Kills once, and lets the next ones come; answers what is not as it should be. */
async function killedOnce(
  scenario: Scenario,
  point: KillPoint,
): Promise<{ killed: boolean; leaks: string[] }> {
  using folder = dataFolder()
  const where = `${point.call} ${point.which}`
  const options = await inhabited(folder.path, scenario)
  const before = leftIn(folder.path)
  const { killed } = await traced(folder.path, scenario, point)
  const leaks = leftIn(folder.path)
    .filter(name => !name.startsWith('.'))
    .map(name => ({ name, content: readFileSync(`${folder.path}/test-net/${name}`, 'latin1') }))
    .filter(({ content }) => !/^\w+\r\neth0$/.test(content))
    .map(({ name, content }) => `${where}: ${name} holds ${JSON.stringify(content)}`)
  const other = { ...options, containerId: 'other' }
  expect((await call(hostLocal, 'ADD', other)).status).toBe(scenario.ranges === cramped ? 1 : 0)
  await mustCall(hostLocal, 'DEL', other)
  await mustCall(hostLocal, scenario.next, { ...options, containerId: 'victim' })
  if (scenario.before?.includes('dead')) await mustCall(hostLocal, 'DEL', { ...options, containerId: 'dead' })
  const bystanders = before.filter(name => /^10\.1\.2\.2$|^fd00::2$|^10\.9\.9\.2$/.test(name))
  const left = leftIn(folder.path).toSorted().join(' ')
  if (left !== bystanders.toSorted().join(' ')) leaks.push(`${where}: ${left}`)
  return { killed, leaks }
}

test.each(scenarios)(
  '$title, killed at any system call: the next $next leaves no file, and others get addresses',
  async scenario => {
    const points = await killPoints(scenario)
    expect(points.map(({ call }) => call)).toEqual(expect.arrayContaining(scenario.essential))
    const left = points.values()
    const outcomes: Awaited<ReturnType<typeof killedOnce>>[] = []
    const killAll = async () => {
      for (const point of left) outcomes.push(await killedOnce(scenario, point))
    }
    // one at a time where the machine is restarted: what it remembers is shared by all
    await Promise.all(Array.from({ length: scenario.rebooted ? 1 : LANES }, killAll))
    const leaks = outcomes.flatMap(outcome => outcome.leaks)
    const kills = outcomes.filter(({ killed }) => killed).length
    expect(leaks).toEqual([])
    // the runtime's own calls are not the same in each run, so that a few points may lie behind the end
    expect(kills).toBeGreaterThan(points.length * 0.8)
    console.log(
      `${scenario.title}, killed at ${kills} system calls, then ${scenario.next}: ${leaks.length} leaks`,
    )
  },
  300_000,
)
