/**
 * Puts a dynamic loader, which is a C library at the same time, into an executable that would ask for one by name: the file
 * then needs no other. The program's own segments stay at their addresses; the loader's two lie behind them, and the kernel
 * enters the loader. start.c does the rest when the file runs.
 */
import {
  dropSections,
  entryOf,
  isFixed,
  machineOf,
  PF_W,
  PT,
  type Segment,
  segmentsOf,
  setEntry,
  setSegments,
} from './elf.ts'
import type { Hole } from './icu.ts'

const PAGE = 65536 // the largest that a kernel for arm64 may have
const HUGE_PAGE = 2 << 20
/** Instead of PT_DYNAMIC: `file` and `ldd` call static what has none. start.c knows the number. */
const HIDDEN_DYNAMIC = 0x64796e30

const roundUp = (size: number, unit: number) => Math.ceil(size / unit) * unit
const isLoaded = ({ type }: Segment) => type === PT.LOAD

/** `hole`: bytes of the program that need be neither in the file nor in memory. */
export function embed(program: Buffer, loader: Buffer, hole: Hole = { offset: 0, length: 0 }): Buffer {
  if (machineOf(program) !== machineOf(loader)) throw new Error('the loader is for another machine')
  if (!isFixed(program)) throw new Error('the program has no fixed addresses')
  const moved = moveSegments(segmentsOf(program).flatMap(segment => around(segment, hole)))
  const ours = segmentsOf(loader).filter(isLoaded)
  if (ours.length !== 2 || ours[0]?.offset !== 0 || ours[0].address !== 0) {
    throw new Error('the loader is to have two segments, the first from its beginning')
  }
  const address = roundUp(Math.max(...moved.map(({ to }) => to.address + to.memorySize)), PAGE)
  const offset = roundUp(
    Math.max(...moved.filter(({ to }) => isLoaded(to)).map(({ to }) => to.offset + to.fileSize)),
    PAGE,
  )
  const length = Math.max(...ours.map(each => each.offset + each.fileSize))

  const file = Buffer.alloc(offset + length)
  for (const { from, to } of moved)
    if (isLoaded(to)) program.copy(file, to.offset, from.offset, from.offset + from.fileSize)
  loader.copy(file, offset, 0, length)
  setEntry(file.subarray(offset), entryOf(program)) // where start.c looks for it
  setEntry(file, address + entryOf(loader))
  const headers = [
    ...moved.map(({ to }) => (to.type === PT.DYNAMIC ? { ...to, type: HIDDEN_DYNAMIC } : to)),
    ...ours.map(each => ({ ...each, offset: offset + each.offset, address: address + each.address })),
  ]
  setSegments(file, headers)
  dropSections(file)
  return file
}

/** A segment without the pages that are a hole: two, where it has them; PT_PHDR, which start.c leaves out, makes room for the second. */
function around(segment: Segment, hole: Hole): Segment[] {
  const { type, offset, address, fileSize } = segment
  const start = roundUp(hole.offset, PAGE) - offset
  const end = Math.floor((hole.offset + hole.length) / PAGE) * PAGE - offset
  if (end - start < HUGE_PAGE) return [segment]
  if (type === PT.PHDR) return []
  if (type !== PT.LOAD || start <= 0 || end >= fileSize) return [segment]
  return [
    { ...segment, fileSize: start, memorySize: start },
    {
      ...segment,
      offset: offset + end,
      address: address + end,
      fileSize: fileSize - end,
      memorySize: segment.memorySize - end,
    },
  ]
}

/**
 * Where the program's segments come to lie in the file: code and constants so that a page of 2 MB of the file is one in
 * memory. What asks for an interpreter goes, and the note of the linker: their two places are for the loader's segments.
 */
function moveSegments(segments: Segment[]): { from: Segment; to: Segment }[] {
  const loaded = segments.filter(isLoaded)
  let end = 0
  const shifts = loaded.map(segment => {
    const unit = segment.flags & PF_W ? PAGE : HUGE_PAGE
    const behind = (segment.address - end) % unit
    const offset = end + (behind < 0 ? behind + unit : behind)
    end = offset + segment.fileSize
    return offset - segment.offset
  })
  const shiftOf = ({ offset, fileSize }: Segment) => {
    const holder = loaded.findIndex(
      each => offset >= each.offset && offset + fileSize <= each.offset + each.fileSize,
    )
    return shifts[holder] ?? 0
  }
  return segments
    .filter(({ type }) => type !== PT.INTERP && type !== PT.NOTE)
    .map(from => ({ from, to: { ...from, offset: from.offset + shiftOf(from) } }))
}
