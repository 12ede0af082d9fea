/** Somebody meddles with what the runtime keeps: list, gc, check and del answer at once, DEL frees everything, and others' files stay. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createNamespace, removeNamespace } from '../../chain/linux/netns.ts'
import { removeBridges } from '../fixtures/bridge.ts'
import { ourExecutable, ours } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'
import { mishaps, stateFiles, VICTIM, VICTIM_TEXT } from './mishaps.ts'

const folder = mkdtempSync('/run/meddled-')
const name = 'meddled-net'
const plugins = [
  {
    type: 'bridge',
    bridge: 'meddled0',
    ipMasq: true,
    ipam: { type: 'host-local', ranges: [[{ subnet: '10.45.0.0/24' }]] },
  },
  { type: 'tuning', mtu: 1400 },
]
const conflist = `${folder}/10.conflist`
const namespaces = ['a', 'b', 'c'].map(each => `/run/netns/meddled-${each}`)
const [first = '', second = '', third = ''] = namespaces

beforeAll(() => {
  writeFileSync(VICTIM, VICTIM_TEXT)
  writeFileSync(conflist, JSON.stringify({ cniVersion: '1.1.0', name, plugins }))
  mkdirSync('/run/netns', { recursive: true })
  for (const path of namespaces) createNamespace(path)
})
afterAll(() => {
  for (const path of namespaces) removeNamespace(path)
  removeBridges()
  rmSync(folder, { recursive: true })
  rmSync(VICTIM)
})

/** A command of catena, which may not take long. */
function catena(...words: string[]) {
  const start = performance.now()
  const { exitCode, stdout } = Bun.spawnSync([ourExecutable('catena'), ...words], {
    env: { ...process.env, NETCONFPATH: folder, CNI_PATH: ours },
    timeout: 20_000,
  })
  const took = performance.now() - start
  expect({ words, isSoon: took < 2000 }).toEqual({ words, isSoon: true })
  return { exitCode, output: stdout.toString() }
}

const must = (...words: string[]) => {
  const { exitCode, output } = catena(...words)
  if (exitCode !== 0) throw new Error(`${words.join(' ')}: ${exitCode}: ${output}`)
  return output
}

const resultFiles = () => [...stateFiles().keys()].filter(path => path.startsWith('/var/lib/cni/results/'))
const isThere = (path: string) => lstatSync(path, { throwIfNoEntry: false }) !== undefined

describe.each(Object.keys(mishaps))('a result that is %s', mishap => {
  test('hinders neither list nor check, and goes with del', () => {
    for (const netns of namespaces) must('del', name, netns)
    must('add', name, first)
    const before = snapshot()
    const known = resultFiles()
    must('add', name, second)
    const [path = ''] = resultFiles().filter(each => !known.includes(each))
    mishaps[mishap]?.(path)
    expect(must('list', '--json')).toContain(first)
    catena('check', name, second)
    must('del', name, second)
    must('del', name, second)
    expect(isThere(path)).toBeFalse()
    expect(hostOf(difference(before, snapshot()))).toEqual({ added: [], gone: [] })
    must('del', name, first)
    expect(readFileSync(VICTIM, 'utf8')).toBe(VICTIM_TEXT)
  })

  test('does not keep gc from its work', () => {
    must('add', name, first)
    must('add', name, third)
    const [path = ''] = resultFiles()
    mishaps[mishap]?.(path)
    must('gc', name)
    for (const netns of [first, third]) must('del', name, netns) // of what it could not read, it knew nothing
    const left = [...stateFiles().keys()].filter(each => /networks\/meddled-net\/10\./.test(each))
    expect(left).toEqual([])
    expect(readFileSync(VICTIM, 'utf8')).toBe(VICTIM_TEXT)
  })
})

/** Without round robin's memory and the hints, which stay. */
function hostOf({ added, gone }: { added: string[]; gone: string[] }) {
  const isJudged = (line: string) => !/last_reserved_ip|\/run\/catena\/host-local\//.test(line)
  return { added: added.filter(isJudged), gone: gone.filter(isJudged) }
}

test.each(['replaced by a pipe', 'replaced by a link loop', 'replaced by a folder'])(
  'a configuration that is %s keeps no call waiting',
  mishap => {
    const path = `${folder}/99.conflist`
    rmSync(path, { recursive: true, force: true })
    writeFileSync(path, '{}')
    mishaps[mishap]?.(path)
    must('list')
    catena('status', 'none-such')
    must('status', name)
    rmSync(path, { recursive: true })
  },
)
