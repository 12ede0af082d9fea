/** What a page on a plugin says beyond its schema: written by hand, a file for each in plugins/, and held against the plugin by tests. */

/** A key of the configuration: a sentence, or a sentence with what the schema cannot tell. */
export type KeyText = string | DescribedKey

export interface DescribedKey {
  says: string
  /** Catena's version that knows it first; 0.1.0 unless said. */
  since?: string
  /** The Go plugin does not know it. */
  isOurs?: true
  /** Where the schema has a function for it: what passes. Tests try the values, and the bounds from both sides. */
  values?: readonly (string | number | boolean)[]
  minimum?: number
  maximum?: number
  /** Keys beside it without which it is passed over. */
  beside?: object
  /** What the plugin takes where the schema says nothing. */
  default?: string
}

/** A way to look at what ADD has made, and what is seen then. Tests run it on the host while the example's container is there. */
export interface Look {
  run: string
  shows: string
  /** It is seen after DEL too. */
  stays?: true
}

/** A configuration that is refused: tests try it. */
export interface Refusal {
  /** Keys of the example's plugin that are changed; undefined takes one away. */
  change: object
  code: number
  says: string
  /** What to do about it. */
  remedy: string
}

export interface Example {
  /** Commands for the host, before. */
  host?: readonly string[]
  /** What a runtime in the test needs besides. */
  daemon?: 'dhcp'
  plugins: readonly object[]
  /** What the runtime hands over for capabilities (CAP_ARGS). */
  capabilities?: object
  needs?: readonly string[]
}

export interface Page {
  /** What it does, in a line: for the README as well. */
  line: string
  /** Lists: what ADD makes, and what takes it away. */
  makes: readonly string[]
  keys: Readonly<Record<string, KeyText>>
  example: Example
  look: readonly Look[]
  refusals: readonly Refusal[]
  /** Where state is kept on disk. */
  state?: readonly string[]
  /** Where it does otherwise than the Go plugin. */
  differs?: readonly string[]
  /** What else one has to know. */
  notes?: readonly string[]
}

/** `dns` of a plugin that has it. */
export const dnsKeys = {
  'dns.nameservers[]': 'Name servers for the result. `dns` is copied into the result; no file is written.',
  'dns.domain': 'The local domain, for the result.',
  'dns.search[]': 'Domains to search, for the result.',
  'dns.options[]': 'Options of the resolver, for the result.',
} as const

export const ipamKeys = {
  'ipam.type':
    'The plugin that gives addresses: `host-local`, `static`, `dhcp`, or another of CNI_PATH. Its own keys stand beside.',
} as const

export const mtuKey = "The interface's MTU. 0 and less: the kernel's choice."

export const macKey = 'Hardware address of the container’s interface, six bytes between colons.'

export const routesKeys = (path: string) => ({
  [`${path}[].dst`]: 'Destination of a route for the result, with prefix length.',
  [`${path}[].gw`]: "Its gateway; the gateway of the address's family where it is absent.",
  [`${path}[].mtu`]: 'MTU of the path.',
  [`${path}[].advmss`]: 'Segment size of TCP that is advertised.',
  [`${path}[].priority`]: 'Metric.',
  [`${path}[].table`]: 'Routing table; absent: main.',
  [`${path}[].scope`]: 'Scope as the kernel counts it: 0 global, 253 link, 254 host.',
})

export const backendValues = ['', 'iptables', 'nftables'] as const

export const silentBackend =
  'Silent or empty: iptables on a node that uses it, else nftables ([backends](../backends.md)).'
