/** What is left of earlier boots and of writes that were cut off: taken back, taken over, or left alone. */
import { describe, expect, test } from 'bun:test'
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { freshNamespace, hostNamespace } from '../../fixtures/namespace.ts'
import { mustExecute, peerExecutable } from '../../fixtures/plugin.ts'
import { reboot } from '../../fixtures/reboot.ts'
import { dataFolder, on, reservations } from './fixture.ts'

describe('after a reboot', () => {
  test('a container that comes back under its ID gets its address again, and so does not a live one twice', async () => {
    using folder = dataFolder()
    const { add, ask } = on(folder.path)
    await add('c1')
    await add('c2')
    reboot()
    expect(await add('c2')).toEqual(['10.1.2.3'])
    expect((await ask('ADD', { containerId: 'c2' })).json.msg).toContain(
      'duplicate allocation is not allowed',
    )
    expect(await add('c3')).toEqual(['10.1.2.4'])
    expect(await add('c1', { args: 'IP=10.1.2.2' })).toEqual(['10.1.2.2'])
  })

  test('what is left is taken over when the range is full, and named', async () => {
    using folder = dataFolder()
    const { add, ask } = on(folder.path)
    for (const id of ['c1', 'c2', 'c3', 'c4', 'c5']) await add(id)
    reboot()
    expect((await ask('STATUS')).status).toBe(0)
    const { status, stderr, json } = await ask('ADD', { containerId: 'new' })
    expect(status).toBe(0)
    const address = json.ips[0].address.replace(/\/.*/, '')
    expect(stderr).toMatch(
      new RegExp(`${address} was reserved for container c\\d, interface eth0 before the machine started`),
    )
    expect(reservations(folder.path)[address]).toBe('new\r\neth0')
  })

  test('an address that a link of some namespace has is neither taken over nor given again', async () => {
    using folder = dataFolder()
    using container = freshNamespace()
    container.addAddress('lo', '10.1.2.2/32')
    const ipam = { ranges: [[{ subnet: '10.1.2.0/30' }]] }
    const { add, ask } = on(folder.path, { ipam })
    await add('c1')
    reboot()
    expect((await ask('STATUS')).json.code).toBe(50)
    expect((await ask('ADD', { containerId: 'c2' })).json.msg).toContain('1 of 1 are in use')
    expect((await ask('ADD', { containerId: 'c1' })).json.msg).toContain('duplicate allocation')
    expect((await ask('ADD', { containerId: 'c2', args: 'IP=10.1.2.2' })).json.msg).toContain(
      'is not available',
    )
  })

  test("an address that the host's own link has is not taken over either", async () => {
    using folder = dataFolder()
    using host = hostNamespace()
    host.run('ip', 'address', 'add', '10.1.2.2/32', 'dev', 'lo')
    try {
      const { add, ask } = on(folder.path, { ipam: { ranges: [[{ subnet: '10.1.2.0/30' }]] } })
      await add('c1')
      reboot()
      expect((await ask('ADD', { containerId: 'c2' })).json.msg).toContain('1 of 1 are in use')
    } finally {
      host.run('ip', 'address', 'del', '10.1.2.2/32', 'dev', 'lo')
    }
  })

  test('with many reservations, a container that comes back gets its address, and a living one no second', async () => {
    using folder = dataFolder()
    const ipam = { ranges: [[{ subnet: '10.1.0.0/20' }]] }
    const { add, ask, options } = on(folder.path, { ipam })
    await add('mine')
    mustExecute(peerExecutable('host-local'), 'ADD', options({ containerId: 'theirs' }))
    for (let index = 4; index < 1500; index++) {
      writeFileSync(`${folder.path}/test-net/10.1.${index >> 8}.${index & 255}`, `c${index}\r\neth0`)
    }
    expect((await ask('ADD', { containerId: 'theirs' })).json.msg).toContain(
      '10.1.0.3 has been allocated to theirs',
    )
    expect((await ask('ADD', { containerId: 'c1400' })).json.msg).toContain(
      '10.1.5.120 has been allocated to c1400',
    )
    reboot()
    expect(await add('mine')).toEqual(['10.1.0.2'])
    expect(await add('new')).toEqual(['10.1.5.220'])
  })

  test("the Go plugin's reservations are old by their age, and are not before", async () => {
    using folder = dataFolder()
    const { add, ask, options } = on(folder.path, { ipam: { ranges: [[{ subnet: '10.1.2.0/30' }]] } })
    mustExecute(peerExecutable('host-local'), 'ADD', options({ containerId: 'theirs' }))
    expect((await ask('ADD', { containerId: 'theirs' })).json.msg).toContain('duplicate allocation')
    expect((await ask('ADD', { containerId: 'ours' })).json.msg).toContain('1 of 1 are in use')
    const uptime = Number((await Bun.file('/proc/uptime').text()).split(' ')[0])
    utimesSync(`${folder.path}/test-net/10.1.2.2`, 0, Date.now() / 1000 - uptime - 60)
    expect(await add('theirs')).toEqual(['10.1.2.2'])
  })

  test('of a machine whose /run is on a disk, the kernel tells; what a power cut left there is not trusted', async () => {
    using folder = dataFolder()
    const { add, ask } = on(folder.path)
    await add('c1')
    await add('c2')
    for (const name of readdirSync('/run/catena/host-local', { recursive: true, encoding: 'utf8' })) {
      const path = `/run/catena/host-local/${name}`
      if (lstatSync(path).isFile()) truncateSync(path)
    }
    const bootId = `${folder.path}/boot_id`
    writeFileSync(bootId, '00000000-0000-0000-0000-000000000000\n')
    Bun.spawnSync(['mount', '--bind', bootId, '/proc/sys/kernel/random/boot_id'])
    try {
      expect(await add('c1')).toEqual(['10.1.2.2'])
      await ask('DEL', { containerId: 'c2' })
      expect(Object.keys(reservations(folder.path))).toEqual(['10.1.2.2'])
    } finally {
      Bun.spawnSync(['umount', '/proc/sys/kernel/random/boot_id'])
    }
  })

  test('of services only, the memory of owners is made again from the files', async () => {
    using folder = dataFolder()
    const { add, ask } = on(folder.path)
    await add('c1')
    for (const twin of ['/run/catena/boot', '/run/catena/host-local/boot']) {
      unlinkSync(twin)
      symlinkSync('0123456789abcdef', twin)
    }
    expect(await add('c1')).toEqual(['10.1.2.2'])
    await ask('DEL', { containerId: 'c1' })
    expect(reservations(folder.path)).toEqual({})
  })
})

describe('a reservation that names no owner', () => {
  test.each([
    ['is empty', ''],
    ['was cut off behind the container', 'c9\r\n'],
    ['is full of zeros', '\0\0\0\0'],
  ])('and %s counts as free, and that is said', async (_, content) => {
    using folder = dataFolder()
    const { add, ask } = on(folder.path, { ipam: { ranges: [[{ subnet: '10.1.2.0/30' }]] } })
    await add('c1')
    await ask('DEL', { containerId: 'c1' })
    writeFileSync(`${folder.path}/test-net/10.1.2.2`, content)
    const { status, stderr } = await ask('ADD', { containerId: 'c2' })
    expect(status).toBe(0)
    expect(stderr).toContain(
      `host-local: ${folder.path}/test-net/10.1.2.2 names no owner (a write was cut off)`,
    )
    expect(reservations(folder.path)).toEqual({ '10.1.2.2': 'c2\r\neth0' })
  })

  test('is found among thousands', async () => {
    using folder = dataFolder()
    mkdirSync(`${folder.path}/test-net`)
    for (let index = 1; index < 1023; index++) {
      writeFileSync(
        `${folder.path}/test-net/10.1.${index >> 8}.${index & 255}`,
        index === 700 ? '' : `c${index}\r\neth0`,
      )
    }
    const ipam = { ranges: [[{ subnet: '10.1.0.0/22' }]] }
    const { add, ask } = on(folder.path, { ipam })
    // few are looked at before an ADD says no; the DEL with which a runtime follows looks at all
    const said = [await ask('ADD'), await ask('DEL')].map(({ stderr }) => stderr).join('')
    expect(said).toContain(`${folder.path}/test-net/10.1.2.188 names no owner (a write was cut off)`)
    expect(await add('container-1')).toEqual(['10.1.2.188'])
  })
})
