/** `catena ps`, `graph` and `path`: what a node has, whoever made it. Each loads what it needs when it is called. */
import { type Command, InvalidArgumentError } from 'commander'
import type { GraphFlags } from './graph/verb.ts'
import type { Output } from './output.ts'

interface PathFlags {
  probe?: boolean
}

interface PsFlags {
  all?: boolean
}

const PS_EXAMPLES = `
Examples:
  catena ps                 every container that is on a network, with addresses, ports and limits
  catena ps demo            those of one network
  catena ps --all --json    namespaces of others, too, for a script; exit status 1 if one is not healthy`

const GRAPH_EXAMPLES = `
Examples:
  catena graph                               a picture in the terminal
  catena graph --html --output node.html     one page that needs nothing else, to look around in
  catena graph demo --svg >demo.svg          a picture of one network, for a wiki`

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
    .command('ps [network]')
    .description('shows the containers that are on networks, whoever put them there; 1 if one is not healthy')
    .option('--all', 'namespaces that no CNI plugin has made, too')
    .option('--json', 'print JSON on a terminal too')
    .addHelpText('after', PS_EXAMPLES)
    .action(async (network: string | undefined, flags: PsFlags) => {
      const { readWholeNode } = await import('./whole-node.ts')
      const { readIdentities } = await import('../observe/cri.ts')
      const { showContainers } = await import('./ps.ts')
      const node = readWholeNode({ identities: await readIdentities() })
      const status = showContainers(node, { network, flags }, output)
      if (status !== 0) endWith(status)
    })
  root
    .command('graph [network]')
    .description('draws uplinks, bridges and containers: as text, as SVG, or as a page for a browser')
    .option('--svg', 'an SVG picture')
    .option('--html', 'an interactive page without anything from elsewhere')
    .option('--all', 'namespaces that no CNI plugin has made, too')
    .option('--text', 'text, into a pipe as well')
    .option('--output <file>', 'write it there')
    .option('--width <number>', 'columns of the text, or pixels of the picture', parseWidth)
    .option('--json', 'print JSON on a terminal too')
    .addHelpText('after', GRAPH_EXAMPLES)
    .action(async (network: string | undefined, flags: GraphFlags) => {
      const { readWholeNode } = await import('./whole-node.ts')
      const { showGraph } = await import('./graph/verb.ts')
      await showGraph(readWholeNode(), { network, flags }, output)
    })
  root
    .command('path <from> [to]')
    .description(
      'walks the way of a packet: translation, filters, routes, bridge, listener; 1 where something keeps it from going on',
    )
    .option('--probe', 'sends one real packet, and watches where it gets to')
    .option('--json', 'print JSON on a terminal too')
    .addHelpText('after', PATH_EXAMPLES)
    .action(async (first: string, second: string | undefined, flags: PathFlags) => {
      const { readWholeNode } = await import('./whole-node.ts')
      const { showPath } = await import('./path.ts')
      const [from, to] = second === undefined ? [undefined, first] : [first, second]
      const status = await showPath(readWholeNode(), { from, to, flags }, output)
      if (status !== 0) endWith(status)
    })
}

function parseWidth(text: string): number {
  const value = Number(text)
  if (Number.isSafeInteger(value) && value >= 20 && value <= 10_000) return value
  throw new InvalidArgumentError('It must be a whole number from 20 to 10000.')
}
