/** Processes that this one has started: waited for without giving up the thread, and without taking it from whoever else waits for them. */
import { checked } from './errno.ts'
import { pointer, rarely, systemCall } from './ffi.ts'

const occasional = {
  waitid: { args: ['i32', 'i32', 'ptr', 'i32'], returns: 'i32' },
} as const

const SYS_PIDFD_OPEN = 434 // on every architecture
const P_PID = 1
const WEXITED = 4
const WNOWAIT = 0x01000000
const CLD_EXITED = 1

/** A descriptor that can be read once a process has ended (Linux 5.3); close-on-exec. */
export function openProcess(process: number): number {
  return checked(systemCall(SYS_PIDFD_OPEN, process, 0), () => `pidfd_open of process ${process}`)
}

/** How a child has ended that has: its exit status, or the signal's number. It stays to be reaped by whoever started it. */
export function endOf(process: number): { status: number } | { signal: number } {
  const info = new DataView(new ArrayBuffer(128)) // siginfo_t: si_code at 8, si_status at 24
  const bytes = new Uint8Array(info.buffer)
  checked(
    rarely(occasional, 'waitid')(P_PID, process, pointer(bytes), WEXITED | WNOWAIT),
    () => `wait for process ${process}`,
  )
  const value = info.getInt32(24, true)
  return info.getInt32(8, true) === CLD_EXITED ? { status: value } : { signal: value }
}
