/** Tar archives of a few files with nothing of the machine in them (POSIX.1-1988, ustar). */

export interface Entry {
  /** "bin/catena"; a folder ends with /. */
  name: string
  mode: number
  content?: Uint8Array
  /** Another entry that this one is a hard link to. */
  linkTo?: string
}

const BLOCK = 512

/** An archive; the entries stand in it as they are given. */
export function tar(entries: readonly Entry[], seconds: number): Uint8Array {
  const parts = entries.flatMap(entry => {
    const content = entry.content ?? new Uint8Array()
    return [header(entry, seconds), content, new Uint8Array(-content.length & (BLOCK - 1))]
  })
  return Buffer.concat([...parts, new Uint8Array(2 * BLOCK)])
}

function header({ name, mode, content, linkTo }: Entry, seconds: number): Uint8Array {
  const bytes = Buffer.alloc(BLOCK)
  const text = (offset: number, length: number, value: string) => {
    if (Buffer.byteLength(value) > length) throw new Error(`too long for a tar archive: ${value}`)
    bytes.write(value, offset, 'utf8')
  }
  const number = (offset: number, length: number, value: number) =>
    text(offset, length, `${value.toString(8).padStart(length - 1, '0')}\0`)
  text(0, 100, name)
  number(100, 8, mode)
  number(108, 8, 0) // owner and group: root
  number(116, 8, 0)
  number(124, 12, content?.length ?? 0)
  number(136, 12, seconds)
  text(148, 8, ' '.repeat(8)) // the sum counts itself as blanks
  text(156, 1, linkTo !== undefined ? '1' : name.endsWith('/') ? '5' : '0')
  text(157, 100, linkTo ?? '')
  text(257, 8, 'ustar\u000000')
  text(265, 32, 'root')
  text(297, 32, 'root')
  const sum = bytes.reduce((total, byte) => total + byte, 0)
  text(148, 8, `${sum.toString(8).padStart(6, '0')}\0 `)
  return bytes
}
