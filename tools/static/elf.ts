/** As much of ELF (System V ABI, 64 bits, little-endian) as it takes to put one file into another. */

export const PT = { NULL: 0, LOAD: 1, DYNAMIC: 2, INTERP: 3, NOTE: 4, PHDR: 6 } as const
export const PF_W = 2

const HEADER = {
  type: 16,
  machine: 18,
  entry: 24,
  programHeaders: 32,
  sectionHeaders: 40,
  count: 56,
  sections: 60,
}
const PROGRAM_HEADER_SIZE = 56

/** A program header. */
export interface Segment {
  type: number
  flags: number
  offset: number
  address: number
  fileSize: number
  memorySize: number
  alignment: number
}

export const machineOf = (file: Buffer) => file.readUInt16LE(HEADER.machine)
export const entryOf = (file: Buffer) => Number(file.readBigUInt64LE(HEADER.entry))
/** True for a program whose addresses are fixed (ET_EXEC). */
export const isFixed = (file: Buffer) => file.readUInt16LE(HEADER.type) === 2

export function setEntry(file: Buffer, address: number): void {
  file.writeBigUInt64LE(BigInt(address), HEADER.entry)
}

export function segmentsOf(file: Buffer): Segment[] {
  const start = Number(file.readBigUInt64LE(HEADER.programHeaders))
  return Array.from({ length: file.readUInt16LE(HEADER.count) }, (_, index) => {
    const at = start + PROGRAM_HEADER_SIZE * index
    const word = (offset: number) => Number(file.readBigUInt64LE(at + offset))
    return {
      type: file.readUInt32LE(at),
      flags: file.readUInt32LE(at + 4),
      offset: word(8),
      address: word(16),
      fileSize: word(32),
      memorySize: word(40),
      alignment: word(48),
    }
  })
}

/** Writes as many program headers as the file has room for: there must not be more. */
export function setSegments(file: Buffer, segments: readonly Segment[]): void {
  const start = Number(file.readBigUInt64LE(HEADER.programHeaders))
  const room = file.readUInt16LE(HEADER.count)
  if (segments.length !== room) throw new Error(`${segments.length} program headers for the place of ${room}`)
  segments.forEach((segment, index) => {
    const { type, flags, offset, address, fileSize, memorySize, alignment } = segment
    const at = start + PROGRAM_HEADER_SIZE * index
    file.writeUInt32LE(type, at)
    file.writeUInt32LE(flags, at + 4)
    const words = [offset, address, address, fileSize, memorySize, alignment]
    words.forEach((word, position) => void file.writeBigUInt64LE(BigInt(word), at + 8 + 8 * position))
  })
}

/** Only linkers and debuggers read the table of sections, and `strip`, which would take the program's own code away. */
export function dropSections(file: Buffer): void {
  file.writeBigUInt64LE(0n, HEADER.sectionHeaders)
  file.writeUInt32LE(0, HEADER.sections) // their number, and which of them holds the names
}
