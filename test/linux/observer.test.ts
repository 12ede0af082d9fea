/** Whoever watches is told what was asked of the machine, by whatever way, and what it said. */
import { expect, test } from 'bun:test'
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import {
  createExclusively,
  removeFile,
  writeAtomically,
  writeExisting,
  writeInPlace,
} from '../../chain/linux/files.ts'
import { run } from '../../chain/linux/iptables/tools.ts'
import { takeLock } from '../../chain/linux/lock.ts'
import { createLink, findLink, listLinks, removeLink } from '../../chain/linux/netlink/link.ts'
import { openRoute } from '../../chain/linux/netlink/socket.ts'
import { applyBatch } from '../../chain/linux/nftables/batch.ts'
import { linesOf, type Observed, observe, observer } from '../../chain/linux/observer.ts'

/** What was observed while the body ran, without its times. */
function watch(
  body: () => void,
): { of: string; lines: readonly string[]; changes: boolean; refusal?: string }[] {
  const seen: Observed[] = []
  using _ = observe(each => seen.push(each))
  body()
  for (const { began, ended } of seen) expect(ended).toBeGreaterThanOrEqual(began)
  return seen.map(each => ({
    of: each.of,
    lines: linesOf(each),
    changes: each.changes,
    ...(each.refusal === undefined ? {} : { refusal: each.refusal }),
  }))
}

test('of the kernel: what changes, what only looks, and what is refused', () => {
  using route = openRoute()
  const seen = watch(() => {
    createLink(route, { name: 'watched0', kind: { type: 'bridge' } })
    findLink(route, 'watched0')
    listLinks(route)
    expect(() => createLink(route, { name: 'watched0', kind: { type: 'bridge' } })).toThrow()
    removeLink(route, 'watched0')
  })
  expect(seen.map(({ of, changes }) => [of, changes])).toEqual([
    ['kernel', true],
    ['kernel', false],
    ['kernel', false],
    ['kernel', true],
    ['kernel', true],
  ])
  expect(seen[0]?.lines).toEqual(['create bridge watched0'])
  expect(seen[3]?.refusal).toContain('EEXIST')
})

test('of nf_tables: a batch’s commands', () => {
  const table = { kind: 'table', family: 'inet', name: 'watched' } as const
  const seen = watch(() => {
    applyBatch([{ verb: 'add', ...table }], undefined)
    applyBatch([{ verb: 'delete', ...table }], undefined)
    expect(() => applyBatch([{ verb: 'delete', ...table }], undefined)).toThrow()
  })
  expect(seen.filter(({ changes }) => changes)).toMatchObject([
    { of: 'nftables', lines: ['add table inet watched'] },
    { of: 'nftables', lines: ['delete table inet watched'] },
    { of: 'nftables', lines: ['delete table inet watched'], refusal: expect.stringContaining('ENOENT') },
  ])
})

test('of files: each way to write one, and its removal where there was one', () => {
  const folder = '/run/watched'
  mkdirSync(folder, { recursive: true })
  const seen = watch(() => {
    writeAtomically(`${folder}/a`, 'x')
    createExclusively(`${folder}/b`, 'x')
    writeInPlace(`${folder}/c`, 'x')
    writeExisting(`${folder}/c`, 'y')
    removeFile(`${folder}/not-there`)
    removeFile(`${folder}/a`)
  })
  rmSync(folder, { recursive: true })
  const lines = seen.flatMap(each => each.lines).filter(line => !line.includes('.catena-'))
  expect(lines).toEqual([
    `replace ${folder}/a`,
    `create ${folder}/b`,
    `write ${folder}/c`,
    `write y to ${folder}/c`,
    `remove ${folder}/a`,
  ])
  expect(seen.every(({ of, changes }) => of === 'file' && changes)).toBe(true)
})

test('of programs: their arguments, what they were to change, and what they said', () => {
  const seen = watch(() => {
    run(['sh', '-c', 'cat >/dev/null'], { input: '*filter\n-A FORWARD -j ACCEPT\nCOMMIT\n' })
    run(['sh', '-c', 'echo no such chain >&2; exit 1'])
  })
  expect(seen).toEqual([
    { of: 'program', lines: ['sh -c cat >/dev/null', '-A FORWARD -j ACCEPT'], changes: true },
    {
      of: 'program',
      lines: ['sh -c echo no such chain >&2; exit 1'],
      changes: false,
      refusal: 'no such chain\n',
    },
  ])
})

test('of locks: only those that one had to wait for', async () => {
  const path = '/run/watched-lock'
  expect(watch(() => takeLock(path)[Symbol.dispose]())).toEqual([])
  const holder = Bun.spawn(['flock', path, 'sh', '-c', 'echo held; sleep 0.2'], { stdout: 'pipe' })
  await holder.stdout.getReader().read()
  expect(watch(() => takeLock(path)[Symbol.dispose]())).toEqual([
    { of: 'lock', lines: [`wait for the lock on ${path}`], changes: false },
  ])
  await holder.exited
})

test('several watch at once, stop in any order, and afterwards none is told and nothing is put together', () => {
  const told: string[] = []
  const one = observe(() => told.push('one'))
  const other = observe(() => told.push('other'))
  writeExisting('/proc/sys/net/ipv4/ip_forward', readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8'))
  one[Symbol.dispose]()
  writeExisting('/proc/sys/net/ipv4/ip_forward', readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8'))
  other[Symbol.dispose]()
  expect(told).toEqual(['one', 'other', 'other'])
  expect(observer).toBeUndefined()
})
