/** A process that has taken on what is a container's, and cannot be again what it was. */
import { encodeText } from './bytes.ts'
import { writeAll } from './libc/file.ts'
import { exitAtOnce } from './libc/process.ts'

/** What it cannot leave: a container's network namespace, an SELinux label. */
export type Held = 'namespace' | 'label'

const words = { namespace: 'in another namespace', label: 'with another label' }

let lastWords = ({ message }: Error, held: Held) =>
  writeAll(2, encodeText(`stuck ${words[held]}: ${message}\n`))

/** Has a process end in other words when it is stranded. */
export function onStranded(say: typeof lastWords): void {
  lastWords = say
}

/**
 * Ends the process at once, as if it had been killed, but for a few words: it would do in the container what is meant for the host,
 * undoing included.
 */
export function endStranded(thrown: Error, held: Held): never {
  lastWords(thrown, held)
  exitAtOnce(1)
}
