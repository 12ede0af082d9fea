/** What lint finds, and which rules there are. */
import type { Document, Path, Span } from './document.ts'

/** `error`: a plugin or a runtime refuses it, or it does not do what it says; `warning`: it may be meant, and seldom is. */
export type Level = 'error' | 'warning'

/** Every rule by its name, with what it is about: docs/command/lint.md lists them. */
export const rules = {
  json: 'The file is JSON.',
  'duplicate-key': 'No object has a key twice.',
  specification: 'Lists, plugins and their common keys have the form that the specification gives them.',
  'file-name': 'A list is in a .conflist, a single plugin in a .conf.',
  version: 'cniVersion is a version that there is, and that the plugins take.',
  'version-too-old': 'cniVersion has the verbs and keys that are used.',
  'unknown-key': 'Plugins know the keys that they are given.',
  'misplaced-key': 'Keys stand where they are read.',
  value: 'Values are of the type and in the bounds that the plugin’s schema has.',
  'reserved-key': 'What the runtime hands over is not in the file.',
  capability: 'Plugins that live on capability arguments declare them; what is declared exists.',
  order: 'Plugins stand in an order in which they can work.',
  'no-effect': 'Keys have what they need to be of use.',
  gateway: 'Gateways are in their subnets.',
  range: 'Ranges have addresses to give, and none twice.',
  route: 'Routes lead somewhere.',
  dns: 'Name servers are addresses.',
  mtu: 'MTUs are within what the protocols and the master take.',
  address: 'A hardware address is for one container.',
  'one-name': 'A network’s name is in one file.',
  'one-bridge': 'Networks on one bridge have one subnet.',
  overlap: 'Networks have addresses of their own, which are none of the host’s routes.',
  'one-vlan': 'A VLAN of a link is used once.',
  executable: 'Every plugin’s executable is there and takes the version.',
  master: 'The links that are named are there, and of the right kind.',
  backend: 'What reads iptables finds the rules there.',
  file: 'Files that are named are there.',
} as const

export type Rule = keyof typeof rules

export interface Fault {
  document: Document
  rule: Rule
  level: Level
  path: Path
  /** What of the path is meant; its value where it says nothing. */
  at?: 'key' | 'value'
  /** For what stands at no path. */
  span?: Span
  says: string
  why?: string
  /** What to write instead. */
  write?: string
}
