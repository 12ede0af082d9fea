/** SELinux contexts of the calling thread (proc_pid_attr(5)). */
import { readFile, writeExisting } from './files.ts'
import { endStranded } from './stranded.ts'

const CURRENT = '/proc/thread-self/attr/current'

/** Runs a body in a context: what it creates carries that label. Throws SystemError where SELinux is off or refuses. */
export function inContext<T>(context: string, body: () => T): T {
  const home = readFile(CURRENT)?.replace('\0', '').trim() ?? ''
  writeExisting(CURRENT, context)
  try {
    return body()
  } finally {
    leaveFor(home)
  }
}

/** What came after it in this process would be made under the container's label. */
function leaveFor(home: string): void {
  try {
    writeExisting(CURRENT, home)
  } catch (thrown) {
    endStranded(thrown as Error, 'label')
  }
}
