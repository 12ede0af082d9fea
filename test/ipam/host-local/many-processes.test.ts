/** Many processes on one network at once: files, answers and model agree. */
import { expect, test } from 'bun:test'
import { hostLocal } from '../../../ipam/host-local.ts'
import { mustCall, ourExecutable, peerExecutable } from '../../fixtures/plugin.ts'
import { dataFolder, reservations } from './fixture.ts'

const PROCESSES = 64

function environment(verb: string, containerId: string): Record<string, string> {
  return {
    CNI_COMMAND: verb,
    CNI_CONTAINERID: containerId,
    CNI_IFNAME: 'eth0',
    CNI_NETNS: '/run/netns/none',
    CNI_PATH: '/none',
  }
}

async function callPlugin(executable: string, verb: string, given: { containerId: string; config: object }) {
  const child = Bun.spawn([executable], {
    env: environment(verb, given.containerId),
    stdin: Buffer.from(JSON.stringify(given.config)),
    stdout: 'pipe',
    stderr: 'pipe',
  })
  const [stdout, stderr, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited])
  return { status, stdout, stderr }
}

test.each([
  ['ours alone', () => [ourExecutable('host-local')]],
  ['ours and the Go plugin', () => [ourExecutable('host-local'), peerExecutable('host-local')]],
])(
  '64 processes allocate and release at once: %s',
  async (_, executables) => {
    using folder = dataFolder()
    // 61 addresses for 64 containers, so that some find the range full
    const ipam = {
      type: 'host-local',
      dataDir: folder.path,
      ranges: [[{ subnet: '10.1.2.0/26' }], [{ subnet: 'fd00::/64' }]],
    }
    const config = { cniVersion: '1.1.0', name: 'test-net', ipam }
    const held = new Map<string, string>()
    const complaints: string[] = []
    const files = executables()

    /** A container's life: added, now and then deleted and added again. */
    const live = async (container: number) => {
      for (let round = 0; round < 5; round++) {
        const containerId = `c${container}`
        const executable = files[(container + round) % files.length] ?? ''
        const added = await callPlugin(executable, 'ADD', { containerId, config })
        if (added.stderr) complaints.push(added.stderr)
        if (added.status === 0) {
          for (const { address } of JSON.parse(added.stdout).ips) {
            const name = address.replace(/\/.*/, '')
            if (held.has(name))
              complaints.push(`${name} was given to ${held.get(name)} and to ${containerId}`)
            held.set(name, containerId)
          }
        } else if (!added.stdout.includes('no IP addresses available')) complaints.push(added.stdout)
        if (round === 4 && container % 2) return
        for (const [name, owner] of held) if (owner === containerId) held.delete(name)
        const deleted = await callPlugin(executable, 'DEL', { containerId, config })
        if (deleted.status !== 0) complaints.push(deleted.stdout)
      }
    }
    await Promise.all(Array.from({ length: PROCESSES }, (_, container) => live(container)))
    expect(complaints).toEqual([])
    expect(reservations(folder.path)).toEqual(
      Object.fromEntries(Array.from(held, ([name, owner]) => [name, `${owner}\r\neth0`])),
    )
  },
  120_000,
)

test('64 processes at once of which every other is killed at some moment: none gets what another has, and DEL leaves nothing', async () => {
  using folder = dataFolder()
  const ipam = { type: 'host-local', dataDir: folder.path, ranges: [[{ subnet: '10.1.2.0/25' }]] }
  const config = { cniVersion: '1.1.0', name: 'test-net', ipam }
  const held = new Map<string, string>()
  const complaints: string[] = []
  let kills = 0
  let usual = 100 // milliseconds that a call takes: as long as the last one took
  const containers = Array.from({ length: PROCESSES }, (_, index) => `c${index}`)

  const live = async (containerId: string, isVictim: boolean) => {
    for (const verb of ['ADD', 'DEL', 'ADD']) {
      const started = performance.now()
      const child = Bun.spawn([ourExecutable('host-local')], {
        env: environment(verb, containerId),
        stdin: Buffer.from(JSON.stringify(config)),
        stdout: 'pipe',
      })
      const timer = setTimeout(() => isVictim && child.kill('SIGKILL'), Math.random() * usual)
      const [stdout, status] = await Promise.all([child.stdout.text(), child.exited])
      clearTimeout(timer)
      if (child.signalCode === 'SIGKILL') kills++
      else usual = performance.now() - started
      if (isVictim) continue
      if (status !== 0) complaints.push(`${verb} ${containerId}: ${stdout}`)
      if (verb === 'DEL') for (const [name, owner] of held) if (owner === containerId) held.delete(name)
      if (verb !== 'ADD' || status !== 0) continue
      const name = JSON.parse(stdout).ips[0].address.replace(/\/.*/, '')
      if (held.has(name)) complaints.push(`${name} was given to ${held.get(name)} and to ${containerId}`)
      held.set(name, containerId)
    }
  }
  await Promise.all(containers.map((containerId, index) => live(containerId, index % 2 === 1)))
  expect(kills).toBeGreaterThan(PROCESSES / 4)
  expect(complaints).toEqual([])
  for (const containerId of containers.filter((_, index) => index % 2 === 1)) {
    await mustCall(hostLocal, 'DEL', { config, containerId })
  }
  expect(reservations(folder.path)).toEqual(
    Object.fromEntries(Array.from(held, ([name, owner]) => [name, `${owner}\r\neth0`])),
  )
}, 120_000)
