/** What the disk, /run or another program does to host-local: nothing is lost, nothing stays behind, and it is said. */
import { describe, expect, test } from 'bun:test'
import { chmodSync, existsSync, mkdirSync, rmSync, unlinkSync, writeFileSync } from 'node:fs'
import { execute, mustExecute, peerExecutable } from '../../fixtures/plugin.ts'
import { reboot } from '../../fixtures/reboot.ts'
import { dataFolder, on, reservations } from './fixture.ts'

describe('a data folder', () => {
  test('that is a file is named, and nothing else happens', async () => {
    using folder = dataFolder()
    writeFileSync(`${folder.path}/file`, '')
    const { json } = await on(`${folder.path}/file`).ask('ADD')
    expect(json).toMatchObject({
      code: 5,
      msg: `ipam.dataDir: cannot keep reservations in ${folder.path}/file/test-net`,
    })
    expect((await on(`${folder.path}/file`).ask('DEL')).status).toBe(0)
  })

  test.each([
    ['read-only', 'mount -t tmpfs -o ro none .', 'Read-only file system (EROFS)'],
    [
      'full',
      'mount -t tmpfs -o size=4k,nr_inodes=4 none . && cd $PWD && mkdir test-net && touch test-net/lock test-net/x',
      'No space left on device (ENOSPC)',
    ],
  ])('that is %s is an error that says so', async (_, mount, reason) => {
    using folder = dataFolder()
    Bun.spawnSync(['sh', '-c', mount], { cwd: folder.path })
    try {
      const { json } = await on(folder.path).ask('ADD')
      expect(json).toMatchObject({ code: 5, details: expect.stringContaining(reason) })
      expect(reservations(folder.path)).not.toHaveProperty(['10.1.2.2'])
    } finally {
      Bun.spawnSync(['umount', folder.path])
    }
  })

  test.each([
    { pages: 0, refused: true },
    { pages: 1, refused: true }, // for round robin, and none for the reservation
    { pages: 2, refused: false },
    { pages: 3, sets: 2, refused: true },
    { pages: 4, sets: 2, refused: false },
  ])(
    'with room for $pages files on its disk leaves whole reservations or none',
    async ({ pages, sets = 1, refused }) => {
      using folder = dataFolder()
      const mount = `mount -t tmpfs -o size=${4 * (pages + 1)}k none . && cd $PWD && echo x >filler` // a page for each file that is not empty
      Bun.spawnSync(['sh', '-c', mount], { cwd: folder.path })
      try {
        const ipam = { ranges: [[{ subnet: '10.1.2.0/24' }], [{ subnet: '10.1.3.0/24' }]].slice(0, sets) }
        const { status, json } = await on(folder.path).ask('ADD', { ipam })
        const expected = refused ? { code: 5, details: expect.stringContaining('ENOSPC') } : {}
        expect({ status, json }).toMatchObject({ status: refused ? 1 : 0, json: expected })
        const written = { '10.1.2.2': 'container-1\r\neth0', '10.1.3.2': 'container-1\r\neth0' }
        const kept = refused ? [] : Object.entries(written).slice(0, sets)
        expect(reservations(folder.path)).toEqual(Object.fromEntries(kept))
      } finally {
        Bun.spawnSync(['umount', folder.path])
      }
    },
  )

  test('that became read-only keeps its reservations, and DEL, CHECK and STATUS say what they can', async () => {
    using folder = dataFolder()
    Bun.spawnSync(['mount', '-t', 'tmpfs', 'none', folder.path])
    try {
      const { add, ask } = on(folder.path)
      await add('c1')
      Bun.spawnSync(['mount', '-o', 'remount,ro', folder.path])
      expect((await ask('CHECK', { containerId: 'c1' })).status).toBe(0)
      expect((await ask('STATUS')).status).toBe(0)
      expect((await ask('DEL', { containerId: 'unknown' })).status).toBe(0)
      expect((await ask('DEL', { containerId: 'c1' })).json).toMatchObject({
        code: 5,
        details: `delete ${folder.path}/test-net/10.1.2.2: Read-only file system (EROFS)`,
      })
      Bun.spawnSync(['mount', '-o', 'remount,rw', folder.path])
      expect((await ask('DEL', { containerId: 'c1' })).status).toBe(0)
      expect(reservations(folder.path)).toEqual({})
    } finally {
      Bun.spawnSync(['umount', folder.path])
    }
  })

  test('that fills up in the middle of an ADD gets the first address back', async () => {
    using folder = dataFolder()
    const mount = 'mount -t tmpfs -o nr_inodes=5 none . && cd $PWD && mkdir test-net && touch test-net/lock' // root, net, lock, 2 more
    Bun.spawnSync(['sh', '-c', mount], { cwd: folder.path })
    try {
      const ipam = { ranges: [[{ subnet: '10.1.2.0/24' }], [{ subnet: '10.1.3.0/24' }]] }
      const { json } = await on(folder.path).ask('ADD', { ipam })
      expect(json).toMatchObject({ code: 5, details: expect.stringContaining('ENOSPC') })
      expect(reservations(folder.path)).toEqual({})
    } finally {
      Bun.spawnSync(['umount', folder.path])
    }
  })
})

test('where nothing may be written under /run, addresses are given and freed all the same', async () => {
  using folder = dataFolder()
  rmSync('/run/catena', { recursive: true, force: true })
  writeFileSync('/run/catena', 'no folder')
  try {
    const { add, ask } = on(folder.path)
    expect([await add('c1'), await add('c2')].flat()).toEqual(['10.1.2.2', '10.1.2.3'])
    expect((await ask('ADD', { containerId: 'c1' })).json.msg).toContain('duplicate allocation')
    await ask('DEL', { containerId: 'c1' })
    expect(Object.keys(reservations(folder.path))).toEqual(['10.1.2.3'])
  } finally {
    reboot()
  }
})

test('where /run is full, every address is found and freed all the same', async () => {
  using folder = dataFolder()
  rmSync('/run/catena', { recursive: true, force: true })
  mkdirSync('/run/catena')
  Bun.spawnSync(['mount', '-t', 'tmpfs', '-o', 'size=16k,nr_inodes=9', 'none', '/run/catena'])
  try {
    const { add, ask } = on(folder.path, { ipam: { ranges: [[{ subnet: '10.1.2.0/24' }]] } })
    const ids = Array.from({ length: 40 }, (_, index) => `c${index}`)
    for (const id of ids) await add(id)
    for (const id of ids) expect((await ask('ADD', { containerId: id })).json.msg).toContain('duplicate')
    for (const id of ids) await ask('DEL', { containerId: id })
    expect(reservations(folder.path)).toEqual({})
  } finally {
    Bun.spawnSync(['umount', '/run/catena'])
    reboot()
  }
})

test('a reservation that cannot be read stays, is told of, and keeps no other from anything', async () => {
  using folder = dataFolder()
  const { add, ask } = on(folder.path, { ipam: { ranges: [[{ subnet: '10.1.2.0/29' }]] } })
  await add('c1')
  mkdirSync(`${folder.path}/test-net/10.1.2.3/theirs`, { recursive: true })
  const { status, stderr } = await ask('DEL', { containerId: 'c1' })
  expect({ status, stderr }).toEqual({
    status: 0,
    stderr: expect.stringMatching(/test-net\/10\.1\.2\.3 .*: left as it is/),
  })
  expect([await add('c2'), await add('c3'), await add('c4'), await add('c5')].flat()).toEqual(
    ['4', '5', '6', '2'].map(last => `10.1.2.${last}`),
  )
  expect((await ask('ADD', { containerId: 'c6' })).json.msg).toContain('5 of 5 are in use')
  expect((await ask('ADD', { containerId: 'c2' })).json.msg).toContain('duplicate allocation')
  expect(existsSync(`${folder.path}/test-net/10.1.2.3/theirs`)).toBeTrue()
  rmSync(`${folder.path}/test-net/10.1.2.3`, { recursive: true })
  expect(await add('c6')).toEqual(['10.1.2.3'])
  await ask('GC', { network: { 'cni.dev/valid-attachments': [] } })
  expect(reservations(folder.path)).toEqual({})
})

test('an identifier of any length is recognised', async () => {
  using folder = dataFolder()
  const { add, ask, options } = on(folder.path)
  const containerId = 'c'.repeat(5000)
  mustExecute(peerExecutable('host-local'), 'ADD', options({ containerId }))
  expect((await ask('ADD', { containerId })).json.msg).toContain('duplicate allocation')
  await ask('DEL', { containerId })
  expect(reservations(folder.path)).toEqual({})
  await add(containerId)
  mustExecute(peerExecutable('host-local'), 'DEL', options({ containerId }))
  expect(reservations(folder.path)).toEqual({})
})

test('what another program does to the files is seen at once', async () => {
  using folder = dataFolder()
  const { add, ask } = on(folder.path)
  await add('c1')
  unlinkSync(`${folder.path}/test-net/10.1.2.2`)
  writeFileSync(`${folder.path}/test-net/10.1.2.3`, 'c2\r\neth0')
  expect(await add('c1')).toEqual(['10.1.2.4'])
  expect((await ask('ADD', { containerId: 'c2' })).json.msg).toContain('10.1.2.3 has been allocated to c2')
  chmodSync(`${folder.path}/test-net/10.1.2.3`, 0o644)
  await ask('DEL', { containerId: 'c2' })
  expect(Object.keys(reservations(folder.path))).toEqual(['10.1.2.4'])
})

test('the Go plugin is refused what ours has given, and the other way round', async () => {
  using folder = dataFolder()
  const { add, ask, options } = on(folder.path, { args: 'IP=10.1.2.4' })
  await add('ours')
  expect(execute(peerExecutable('host-local'), 'ADD', options({ containerId: 'theirs' })).json.msg).toContain(
    'is not available',
  )
  await ask('DEL', { containerId: 'ours' })
  mustExecute(peerExecutable('host-local'), 'ADD', options({ containerId: 'theirs' }))
  expect((await ask('ADD', { containerId: 'ours' })).json.msg).toContain('is not available')
})
