/** What people call a container, and which runtime it is of, as far as CNI's traces tell. Pure. */
import { nameIn } from '../linux/files.ts'
import type { CachedAttachment } from '../runtime/network.ts'
import type { Identity } from './model.ts'

/** cnitool's and ours: "cnitool-" and 20 hexadecimal digits of the namespace's path. */
const DERIVED = /^cnitool-[0-9a-f]{20}$/
const SHOWN = 12 // digits of a hash that people are used to

/** The pod from CNI_ARGS or from the runtime; else the namespace's name where the ID says nothing; else the ID. */
export function nameOf(
  attachment: Pick<CachedAttachment, 'args' | 'containerId' | 'netns'>,
  known?: Identity,
): { name: string; identity?: Identity } {
  const { args = [], containerId, netns = '' } = attachment
  const of = (key: string) => args.find(([name]) => name === key)?.[1]
  const pod = known?.pod ?? of('K8S_POD_NAME')
  const namespace = known?.namespace ?? of('K8S_POD_NAMESPACE')
  const container = known?.container
  const identity = {
    ...(pod ? { pod } : {}),
    ...(namespace ? { namespace } : {}),
    ...(container ? { container } : {}),
  }
  const plain = DERIVED.test(containerId) && netns ? nameIn(netns) : shortened(containerId)
  const name = pod ? (namespace ? `${namespace}/${pod}` : pod) : plain
  return Object.keys(identity).length > 0 ? { name, identity } : { name }
}

/** Of an ID of 64 hexadecimal digits the beginning, as every runtime prints it. */
const shortened = (id: string) => (/^[0-9a-f]{32,}$/.test(id) ? id.slice(0, SHOWN) : id)

const traces: readonly { runtime: string; netns?: RegExp; id?: RegExp; file?: RegExp }[] = [
  { runtime: 'podman', netns: /\/netns\/netns-[0-9a-f-]{36}$/ },
  { runtime: 'containerd', netns: /\/netns\/cni-[0-9a-f-]{36}$/ },
  { runtime: 'CRI-O', netns: /\/netns\/[0-9a-f-]{36}$/ },
  { runtime: 'docker', netns: /\/docker\/netns\// },
  { runtime: 'nerdctl', id: /^(default|nerdctl|k8s\.io)-[0-9a-f]{64}$/ },
  { runtime: 'cnitool', id: DERIVED },
]

/** By the form of its IDs and namespaces' paths; "CNI" where nothing tells. */
export function runtimeOf(
  { containerId, netns = '' }: Pick<CachedAttachment, 'containerId' | 'netns'>,
  identity?: Identity,
): string {
  const found = traces.find(({ netns: path, id }) => path?.test(netns) || id?.test(containerId))
  return found?.runtime ?? (identity?.namespace === undefined ? 'CNI' : 'Kubernetes')
}
