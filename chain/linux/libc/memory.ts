/** Memory that several processes share. */
import { checked } from './errno.ts'
import { memoryAt, rarely, textPointer } from './ffi.ts'

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
  checked(rarely(occasional, 'ftruncate')(descriptor, bytes), () => `make room for ${bytes} bytes`)
  return descriptor
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
