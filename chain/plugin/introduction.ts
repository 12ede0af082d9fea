/** What a plugin says of itself when it is run without a call: the words that programs look for in what the Go plugins say. Pure. */
import { version } from '../../package.json' with { type: 'json' }

/** The Go plugins that these stand in for: what is asked "is it 1.7.1 or newer" must answer as they do. */
const GO_PLUGINS = '1.9.1'

/**
 * nerdctl takes what follows "CNI firewall plugin " to the end of that line for a semantic version; Nomad takes the first word
 * of all that is one, and its older releases the last: so the text ends in one that means the same.
 */
export function introduction(name: string, protocolVersions: readonly string[]): string {
  const lines = [
    `CNI ${name} plugin v${GO_PLUGINS}+catena.${version}`,
    `CNI protocol versions supported: ${protocolVersions.join(', ')}`,
    `Catena, in the place of the Go plugins v${GO_PLUGINS}`,
  ]
  return `${lines.join('\n')}\n`
}
