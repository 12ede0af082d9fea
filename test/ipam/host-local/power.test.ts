/** A power cut: what an ADD has answered is on the disk by then, and a cut at any earlier moment leaves what counts as free. */
import { expect, test } from 'bun:test'
import { readFileSync, rmSync } from 'node:fs'
import { hostLocal } from '../../../ipam/host-local.ts'
import { mustCall, ourExecutable } from '../../fixtures/plugin.ts'
import { reboot } from '../../fixtures/reboot.ts'
import { dataFolder } from './fixture.ts'

const ranges = [[{ subnet: '10.1.2.0/29' }], [{ subnet: 'fd00::/64' }]]

/** What an ADD does to files in short: "write 10.1.2.2" is of the temporary file, "fsync 10.1.2.2" of the reservation. */
function stepsOfAdd(dataDir: string): string[] {
  const trace = `${dataDir}/../trace-${process.pid}`
  const config = { cniVersion: '1.1.0', name: 'test-net', ipam: { type: 'host-local', dataDir, ranges } }
  const environment = {
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: 'c1',
    CNI_IFNAME: 'eth0',
    CNI_NETNS: '/run/netns/none',
    CNI_PATH: '/none',
  }
  const traced = ['mkdir', 'write', 'link', 'rename', 'unlink', 'fsync', 'flock', 'close']
  const command = [
    'strace',
    '-E',
    'CATENA_WARM=off',
    '-y',
    '-o',
    trace,
    '-e',
    `trace=${traced.join()}`,
    ourExecutable('host-local'),
  ]
  Bun.spawnSync(command, {
    env: { ...process.env, ...environment },
    stdin: Buffer.from(JSON.stringify(config)),
  })
  const lines = readFileSync(trace, 'utf8').split('\n')
  rmSync(trace)
  return lines.flatMap(line => stepOf(line, dataDir) ?? [])
}

function stepOf(line: string, dataDir: string): string | undefined {
  const name = line.replace(/\(.*/, '')
  if (name === 'write' && line.startsWith('write(1<')) return 'answer'
  const path = line.match(/[<"](\/[^>"]*)[>"]/)?.[1] // the first one: what a descriptor stands for, or is named
  if (!path?.startsWith(dataDir)) return undefined
  const short = path.slice(dataDir.length + 1).replace(/^test-net\/(\.catena-)?/, '')
  const isTold = /^(lock|10\.|fd00|test-net|$)/.test(short) && (name !== 'close' || short === 'lock')
  return isTold ? `${name} ${short.replace(/ ?\(deleted\)/, '') || 'the folder above'}` : undefined
}

test('text before name, both on the disk before the answer, and the lock free while the disk works', () => {
  using folder = dataFolder()
  expect(stepsOfAdd(folder.path)).toEqual([
    'mkdir test-net',
    'fsync the folder above',
    'flock lock',
    ...['10.1.2.2', 'fd00::2'].flatMap(name => [`write ${name}`, `link ${name}`, `unlink ${name}`]),
    'close lock',
    'fsync 10.1.2.2',
    'fsync fd00::2',
    'fsync test-net',
    'answer',
  ])
})

test('what is had again after a reboot is replaced in one step, in the same order', async () => {
  using folder = dataFolder()
  const config = { ipam: { type: 'host-local', dataDir: folder.path, ranges } }
  await mustCall(hostLocal, 'ADD', { config, containerId: 'c1', netns: '/run/netns/none' })
  reboot()
  expect(stepsOfAdd(folder.path)).toEqual([
    'flock lock',
    ...['10.1.2.2', 'fd00::2'].flatMap(name => [`write ${name}`, `rename ${name}`, `unlink ${name}`]),
    'close lock',
    'fsync 10.1.2.2',
    'fsync fd00::2',
    'fsync test-net',
    'answer',
  ])
})
