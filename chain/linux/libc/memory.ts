/** Memory that several processes share. */
import { checked } from './errno.ts'
import { memoryAt, rarely, textPointer } from './ffi.ts'
import { close } from './file.ts'

const occasional = {
  memfd_create: { args: ['ptr', 'u32'], returns: 'i32' },
  ftruncate: { args: ['i32', 'i64'], returns: 'i32' },
  mmap: { args: ['ptr', 'usize', 'i32', 'i32', 'i32', 'i64'], returns: 'i64' },
} as const

const MFD_CLOEXEC = 1

/** A file without a name, of zeros, which lives as long as somebody has it open or mapped. `name` is for those who look at /proc. */
export function createMemory(name: string, bytes: number): number {
  const descriptor = checked(
    rarely(occasional, 'memfd_create')(textPointer(name), MFD_CLOEXEC),
    () => 'memfd_create',
  )
  try {
    if (bytes !== 0)
      checked(rarely(occasional, 'ftruncate')(descriptor, bytes), () => `make room for ${bytes} bytes`)
    return descriptor
  } catch (thrown) {
    close(descriptor)
    throw thrown
  }
}

/** Files for what a program reads and prints. All of them, or none is left open. */
export function createStandardFiles(): readonly [input: number, output: number, log: number] {
  const files: number[] = []
  try {
    for (const name of ['stdin', 'stdout', 'stderr']) files.push(createMemory(name, 0))
    return files as [number, number, number]
  } catch (thrown) {
    for (const file of files) close(file)
    throw thrown
  }
}

const PROT_READ_WRITE = 3
const MAP_SHARED = 1

/** The bytes of such a file as this process's memory, to the process's end: what one writes, all others see. */
export function mapMemory(descriptor: number, bytes: number, offset = 0): ArrayBuffer {
  const address = checked(
    rarely(occasional, 'mmap')(null, bytes, PROT_READ_WRITE, MAP_SHARED, descriptor, offset),
    () => 'mmap',
  )
  return memoryAt(address, bytes)
}
