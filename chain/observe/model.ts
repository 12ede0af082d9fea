/** The model of a node: every object that has to do with containers' networks, with what says so and whether somebody still needs it. Types alone. */
import type { Link } from '../linux/netlink/link.ts'
import type { CachedAttachment } from '../runtime/network.ts'
import type { NetworkFile, Reservation, SeenCache, StateRecord } from './files.ts'
import type { FilterObject } from './filters.ts'
import type { FoundNamespace } from './namespaces.ts'
import type { Stack } from './stack.ts'

/**
 * Whether somebody needs an object. `live`: a container has it. `orphan`: it was a container's that is gone, by two signs that do
 * not depend on one another. `foreign`: nothing says that it is of a CNI plugin. `unknown`: signs are missing, or contradict.
 */
export type Label = 'live' | 'orphan' | 'foreign' | 'unknown'

/** An object, with what was found for and against it, in sentences. */
export interface Labelled {
  label: Label
  evidence: string[]
}

/** Where something is known from. */
export type Source = 'cache' | 'namespace' | 'alias' | 'reservation' | 'rules' | 'record' | 'CRI'

/** What two sources say of one thing. */
export interface Disagreement {
  about: string
  says: { source: string; value: string }[]
}

/** As people call it: what a runtime knows of a sandbox. */
export interface Identity {
  pod?: string
  namespace?: string
  container?: string
}

export interface Port {
  protocol: string
  /** Absent: all addresses of the host. */
  hostAddress?: string
  hostPort: number
  containerPort: number
}

/** Bits per second that a container's interface is held to. */
export interface Limits {
  toContainer?: number
  fromContainer?: number
}

/** One interface of one container. */
export interface Attachment extends Labelled {
  /** "" where nothing says which. */
  network: string
  /** "" where nothing says which: its namespace is all that is known of it. */
  containerId: string
  ifname: string
  /** For people. */
  name: string
  identity?: Identity
  /** The runtime, as far as its traces tell. */
  runtime: string
  netns?: string
  /** Identity of the namespace, if it is there. */
  namespace?: string
  /** The interface in the container. */
  link?: Link
  /** Its other end, or the link that it stands on, on the host. */
  host?: Link
  /** With prefix lengths: what the interface has, or what the cache says where it is gone. */
  addresses: string[]
  gateways: string[]
  ports: Port[]
  limits: Limits
  /** Milliseconds since the epoch. */
  since?: number
  sources: Source[]
  disagreements: Disagreement[]
  cache?: SeenCache & { attachment: CachedAttachment }
}

export interface SeenNamespace extends FoundNamespace, Labelled {
  /** Absent where it could not be entered. */
  stack?: Stack
}

export interface SeenLink extends Labelled {
  link: Link
  /** A bridge of a network, the host's end of a container's interface, an IFB of one, or whatever else there is. */
  role: 'bridge' | 'host end' | 'ifb' | 'other'
  /** Networks of a bridge; the network of a host end. */
  networks: string[]
  addresses: string[]
  /** Identity of the namespace that the other end is in; 'host', or absent where it cannot be found. */
  peerNamespace?: string
}

export interface NodeModel {
  networks: NetworkFile[]
  attachments: Attachment[]
  /** Cached results that cannot be understood. */
  brokenCaches: SeenCache[]
  reservations: (Reservation & Labelled)[]
  namespaces: SeenNamespace[]
  /** Files in the folders of namespaces that nothing is mounted on. */
  deadMounts: string[]
  links: SeenLink[]
  filters: (FilterObject & Labelled)[]
  records: (StateRecord & Labelled)[]
  host: Stack
  /** What could not be looked at, in sentences: nothing that it may concern is an orphan. */
  unreadable: string[]
}
