/**
 * What host-local remembers under /run is a hint: whatever becomes of any file there, DEL frees what the folder of reservations says
 * is the container's, and ADD does not give what another has.
 */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { lstatSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { ourExecutable } from '../../fixtures/plugin.ts'
import { reboot } from '../../fixtures/reboot.ts'
import { traced } from '../../hostile/injected.ts'
import { mishaps, stateFiles, VICTIM, VICTIM_TEXT } from '../../hostile/mishaps.ts'
import { dataFolder, on, reservations } from './fixture.ts'

beforeAll(() => writeFileSync(VICTIM, VICTIM_TEXT))
afterAll(() => rmSync(VICTIM))

const ranges = [[{ subnet: '10.1.2.0/28' }], [{ subnet: 'fd00::/64' }]]

/** Three containers that have their addresses, in a folder that is known. */
async function withThree(path: string) {
  reboot()
  const network = on(path, { ipam: { ranges } })
  for (const containerId of ['c1', 'c2', 'c3']) await network.add(containerId)
  return network
}

const hints = () => [...stateFiles().keys()].filter(path => path.startsWith('/run/catena/'))

describe.each(Object.keys(mishaps))('a hint that is %s', mishap => {
  test('is no reason to keep an address, nor to give it twice', async () => {
    using folder = dataFolder()
    await withThree(folder.path)
    const count = hints().length
    expect(count).toBeGreaterThanOrEqual(6) // two twins, a stamp, a list for each
    for (let at = 0; at < count; at++) {
      rmSync(`${folder.path}/test-net`, { recursive: true })
      const { add, ask } = await withThree(folder.path)
      const path = hints()[at] ?? ''
      mishaps[mishap]?.(path)
      const given = await add('c4')
      expect({ path, given }).toEqual({ path, given: ['10.1.2.5', 'fd00::5'] })
      const again = (await ask('ADD', { containerId: 'c2' })).json.msg
      expect({ path, again }).toEqual({ path, again: expect.stringContaining('duplicate allocation') })
      for (const containerId of ['c1', 'c2', 'c3', 'c4']) {
        const { status } = await ask('DEL', { containerId })
        const own = Object.values(reservations(folder.path)).filter(text => text.startsWith(containerId))
        expect({ path, containerId, status, own }).toEqual({ path, containerId, status: 0, own: [] })
      }
    }
    expect(readFileSync(VICTIM, 'utf8')).toBe(VICTIM_TEXT)
  })

  test('does not make a reservation of this boot one of an earlier boot, which a full range takes over', async () => {
    using folder = dataFolder()
    const full = { ipam: { ranges: [[{ subnet: '10.1.2.0/29' }]] } }
    const ids = ['c1', 'c2', 'c3', 'c4', 'c5']
    reboot()
    const { add, ask } = on(folder.path, full)
    for (const id of ids) await add(id)
    for (const path of hints()) {
      if (lstatSync(path, { throwIfNoEntry: false })) mishaps[mishap]?.(path)
      const { json } = await ask('ADD', { containerId: 'c6' })
      expect({ path, msg: json.msg }).toEqual({ path, msg: expect.stringContaining('5 of 5 are in use') })
    }
    expect(Object.values(reservations(folder.path)).sort()).toEqual(ids.map(id => `${id}\r\neth0`))
  })
})

/** In the folder of reservations itself. */
describe.each(Object.keys(mishaps))('a file of the folder that is %s', mishap => {
  test('keeps no call waiting, is not written through, and its address is had again', async () => {
    using folder = dataFolder()
    const names = ['10.1.2.2', 'fd00::2', 'last_reserved_ip.0', 'lock']
    for (const name of names) {
      rmSync(`${folder.path}/test-net`, { recursive: true, force: true })
      const { add, ask } = await withThree(folder.path)
      mishaps[mishap]?.(`${folder.path}/test-net/${name}`)
      const start = performance.now()
      await ask('CHECK', { containerId: 'c1' })
      await add('c4')
      for (const containerId of ['c1', 'c4']) expect((await ask('DEL', { containerId })).status).toBe(0)
      const took = performance.now() - start
      expect(took).toBeLessThan(2000)
      const left = Object.keys(reservations(folder.path))
      expect({ name, left }).toEqual({ name, left: ['10.1.2.3', '10.1.2.4', 'fd00::3', 'fd00::4'] })
      expect(await add('c5', { args: 'IP=10.1.2.2' })).toContain('10.1.2.2')
    }
    expect(readFileSync(VICTIM, 'utf8')).toBe(VICTIM_TEXT)
  })
})

test('what stands where an ADD writes for a moment is not written to', async () => {
  using folder = dataFolder()
  const { add } = await withThree(folder.path)
  symlinkSync(VICTIM, `${folder.path}/test-net/.catena-10.1.2.5`)
  expect(await add('c4')).toEqual(['10.1.2.5', 'fd00::5'])
  expect(readFileSync(VICTIM, 'utf8')).toBe(VICTIM_TEXT)
})

test('an ADD that fails at any call after a reservation has its name leaves a folder that the next DEL reads', async () => {
  using folder = dataFolder()
  const { ask, options } = await withThree(folder.path)
  for (const call of ['unlink', 'link', 'utimensat', 'symlink', 'fsync', 'close', 'write', 'fsetxattr']) {
    for (let when = 1, was = 1; was !== 0; when++) {
      const { exitCode } = failingAdd(`${call}:error=EIO:when=${when}`, options({ containerId: 'c9' }).config)
      was = exitCode
      expect((await ask('DEL', { containerId: 'c9' })).status).toBe(0)
      const left = readdirSync(`${folder.path}/test-net`).filter(name => /5$/.test(name))
      expect({ call, when, left }).toEqual({ call, when, left: [] })
      if (when > 12) break
    }
  }
}, 60_000)

function failingAdd(injection: string, config: unknown) {
  return Bun.spawnSync(traced(injection, ourExecutable('host-local')), {
    env: {
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: 'c9',
      CNI_IFNAME: 'eth0',
      CNI_NETNS: '/run/netns/none',
      CNI_PATH: '/none',
    },
    stdin: Buffer.from(JSON.stringify({ cniVersion: '1.1.0', name: 'test-net', ...(config as object) })),
  })
}
