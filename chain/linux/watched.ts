/** Programs that end with whoever has called: run to their end while the thread waits, for them and for the caller's end. */
import { decodeText, encodeText } from './bytes.ts'
import type { Ended, Program } from './child-environment.ts'
import { endOf, openProcess } from './libc/child.ts'
import { close, POLLHUP, POLLIN, readAll, rewind, waitFor, waitReadable, writeAll } from './libc/file.ts'
import { createStandardFiles } from './libc/memory.ts'
import { kill } from './libc/process.ts'

const SIGKILL = 9

/** Milliseconds that a program has which takes back what was done for a caller who has gone: no other would end it. */
const LAST_PATIENCE = 60_000

/**
 * Runs a program in a group of its own, which is killed when the caller goes: `caller` is the connection to him, undefined once he has
 * gone. Throws where the program cannot be started.
 */
export function runWatched({ args, env, input, inherited }: Program, caller: number | undefined): Ended {
  const files = createStandardFiles()
  try {
    writeAll(files[0], encodeText(input))
    rewind(files[0])
    const more = inherited === undefined ? [] : [inherited]
    const stdio = [...files, ...more] as [number, number, number]
    const child = Bun.spawn([...args], { env, stdio, detached: true })
    waitForEnd(child.pid, caller)
    const end = endOf(child.pid)
    const [stdout, stderr] = [textOf(files[1]), textOf(files[2])]
    return 'status' in end ? { ...end, stdout, stderr } : { status: 128, ...end, stdout, stderr }
  } finally {
    for (const file of files) close(file)
  }
}

/** One that cannot be watched is ended too: it must not go on behind the back of who is told that it failed. */
function waitForEnd(process: number, caller: number | undefined): void {
  let isOver = false
  try {
    isOver = isOverBefore(process, caller)
  } finally {
    if (!isOver) {
      kill(-process, SIGKILL)
      endOf(process) // waits
    }
  }
}

/** Whether a process has ended before its caller has gone, or, where he has gone already, before its time was up. */
function isOverBefore(process: number, caller: number | undefined): boolean {
  const descriptor = openProcess(process)
  try {
    return caller === undefined ? waitReadable(descriptor, LAST_PATIENCE) : waitBeside(descriptor, caller)
  } finally {
    close(descriptor)
  }
}

/** Whether the process has ended; false where the caller has gone before. */
function waitBeside(descriptor: number, caller: number): boolean {
  const [ended = 0, gone = 0] = waitFor(
    [
      [descriptor, POLLIN],
      [caller, 0],
    ],
    -1,
  )
  return ended !== 0 || (gone & POLLHUP) === 0
}

function textOf(file: number): string {
  rewind(file)
  return decodeText(readAll(file))
}
