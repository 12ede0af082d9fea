/** `catena ps`, `graph` and `path`: what a node has, whoever made it. Each loads what it needs when it is called. */
import type { Command } from 'commander'
import type { Output } from './output.ts'

interface PathFlags {
  probe?: boolean
}

const PATH_EXAMPLES = `
Examples:
  catena path :8080                     from outside to a published port
  catena path web 1.1.1.1:53/udp        from a container to the world
  catena path host 10.22.0.7:80         from the host to a container
  catena path client web:80 --probe     sends one packet, and says where it was seen`

/** Adds the verbs; `endWith` takes the exit status of what found something wrong without failing itself. */
export function addObserveVerbs(
  root: Command,
  { output, endWith }: { output: Output; endWith(status: number): void },
): void {
  root
    .command('path <from> [to]')
    .description(
      'walks the way of a packet: translation, filters, routes, bridge, listener; 1 where something keeps it from going on',
    )
    .option('--probe', 'sends one real packet, and watches where it gets to')
    .option('--json', 'print JSON on a terminal too')
    .addHelpText('after', PATH_EXAMPLES)
    .action(async (first: string, second: string | undefined, flags: PathFlags) => {
      const { readWholeNode } = await import('./doctor/state.ts')
      const { showPath } = await import('./path.ts')
      const [from, to] = second === undefined ? [undefined, first] : [first, second]
      const status = await showPath(readWholeNode(), { from, to, flags }, output)
      if (status !== 0) endWith(status)
    })
}
