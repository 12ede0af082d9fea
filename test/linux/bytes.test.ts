import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { decodeText, encodeText, join } from '../../chain/linux/bytes.ts'

test('text becomes the bytes that Buffer makes of it, and text again', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), text => {
      expect([...encodeText(text)]).toEqual([...Buffer.from(text)])
      expect(decodeText(encodeText(text))).toBe(Buffer.from(text).toString())
    }),
  )
})

test.each([
  { name: 'a byte order mark stays', bytes: [0xef, 0xbb, 0xbf, 0x61], text: '\ufeffa' },
  { name: 'what is not UTF-8 is replaced', bytes: [0x61, 0xff, 0x62], text: 'a\ufffdb' },
  { name: 'a zero is a character', bytes: [0x61, 0, 0x62], text: 'a\0b' },
])('$name', ({ bytes, text }) => {
  expect(decodeText(new Uint8Array(bytes))).toBe(text)
})

test('parts are joined in order', () => {
  const parts = [new Uint8Array([1, 2]), new Uint8Array(0), new Uint8Array([9, 3, 9]).subarray(1, 2)]
  expect([...join(...parts)]).toEqual([1, 2, 3])
  expect(join()).toHaveLength(0)
})
