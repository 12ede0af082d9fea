/** Binding the C library: as much at a time as is worth it. */
import { expect, test } from 'bun:test'
import { cString, unguessable } from '../../../chain/linux/libc/ffi.ts'

const room = `${import.meta.dir}/../../../chain/linux/libc`

/** What a process of its own has bound after some lines. */
function boundAfter(lines: string): string[] {
  const script = `
    import { boundFunctions } from '${room}/ffi.ts'
    import * as file from '${room}/file.ts'
    import * as folder from '${room}/folder.ts'
    ${lines}
    console.log(JSON.stringify(boundFunctions()))`
  const child = Bun.spawnSync([process.execPath, '-e', script], { stderr: 'inherit' })
  return JSON.parse(child.stdout.toString())
}

test('nothing is bound before it is called, then what nearly every call needs, then what keeps state, then one by one', () => {
  expect(boundAfter('')).toEqual([])
  const common = boundAfter(`file.openIfPresent('/none', 0)`)
  expect(common).toHaveLength(14)
  expect(common).toContain('setns')
  const withState = boundAfter(`folder.unlink('/none')`)
  expect(withState.slice(0, common.length)).toEqual(common)
  expect(withState.slice(common.length).sort()).toEqual(
    ['fchmod', 'flock', 'fsync', 'getdents64', 'link', 'mkdir', 'rename', 'unlink'].sort(),
  )
  expect(boundAfter(`file.close(file.duplicate(2)); folder.readLink('/proc/self/exe')`)).toEqual([
    ...common,
    'dup',
    'readlink',
  ])
})

test('text ends in a zero and has none inside, which would cut a path short', () => {
  expect([...cString('eth0')]).toEqual([101, 116, 104, 48, 0])
  expect([...cString('ü')]).toEqual([0xc3, 0xbc, 0])
  expect(() => cString('/run/a\0/../b')).toThrow(new RangeError('a zero byte inside "/run/a\\u0000/../b"'))
})

test('a number that cannot be known has 32 bits and is no fraction', () => {
  const number = unguessable()
  expect([Number.isInteger(number), number >= 0, number < 2 ** 32]).toEqual([true, true, true])
})
