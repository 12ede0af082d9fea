/** What dead containers have left: each orphan of the model as a finding, with the steps that take it away. Pure. */
import { collectionOf } from '../../filter/nftables/elements.ts'
import { readState } from '../../linux/files.ts'
import type { FilterObject } from '../../observe/filters.ts'
import { brokenRedirections } from '../../observe/links.ts'
import type { Labelled, NodeModel } from '../../observe/model.ts'
import { RUN_FOLDER } from '../../plugin/state.ts'
import type { Finding } from '../finding.ts'
import { commandsOf, type Step } from './step.ts'

/** A finding that can be mended: its commands are those of its steps. */
function mendable(of: {
  kind: string
  says: string
  why: string
  evidence: readonly string[]
  repair: readonly Step[]
}): Finding {
  return {
    about: 'leftover',
    level: 'problem',
    label: 'orphan',
    ...of,
    commands: of.repair.flatMap(commandsOf),
  }
}

const isOrphan = ({ label }: Labelled) => label === 'orphan'

export function leftovers(node: NodeModel): Finding[] {
  return [
    ...reservations(node),
    ...links(node),
    ...filters(node),
    ...redirections(node),
    ...namespaces(node),
    ...caches(node),
    ...records(node),
  ]
}

function fileStep(path: string, lock?: string): Step {
  return { kind: 'file', path, text: readState(path) ?? '', ...(lock === undefined ? {} : { lock }) }
}

function reservations({ reservations }: NodeModel): Finding[] {
  return reservations.filter(isOrphan).map(({ address, network, path, containerId, evidence }) =>
    mendable({
      kind: containerId === undefined ? 'torn-reservation' : 'leaked-address',
      says:
        containerId === undefined
          ? `${address} of network ${network} is reserved for no container`
          : `${address} of network ${network} is reserved for container ${containerId}, which is gone`,
      why: 'host-local does not give the address again; when all are gone so, no container starts any more',
      evidence: [`${path} keeps it`, ...evidence],
      repair: [fileStep(path, `${path.slice(0, path.lastIndexOf('/'))}/lock`)],
    }),
  )
}

function links({ links }: NodeModel): Finding[] {
  return links.filter(isOrphan).map(({ link, role, evidence, networks }) =>
    mendable({
      kind: role === 'ifb' ? 'orphan-ifb' : 'orphan-interface',
      says:
        role === 'ifb'
          ? `${link.name} shapes the packets of no container`
          : `${link.name}${networks.length > 0 ? ` of network ${networks.join(', ')}` : ''} leads to no container`,
      why:
        role === 'ifb'
          ? 'it takes memory and a name, and the next container of that name cannot have its limits'
          : 'it takes a port of its bridge, is sent every broadcast, and keeps its name from the next container',
      evidence,
      repair: [{ kind: 'link', name: link.name, index: link.index }],
    }),
  )
}

/** By whose they are: a container's rules go together. */
function filters({ filters }: NodeModel): Finding[] {
  const groups = new Map<string, (FilterObject & Labelled)[]>()
  for (const object of filters.filter(isOrphan)) {
    const whose = object.owner ?? object.containerId ?? object.addresses.join() ?? object.place
    const key = `${object.backend} ${object.maker} ${whose}`
    groups.set(key, [...(groups.get(key) ?? []), object])
  }
  return [...groups.values()].map(describeRules)
}

function describeRules(group: readonly (FilterObject & Labelled)[]): Finding {
  const [first] = group
  const container = group.find(({ containerId }) => containerId !== undefined)?.containerId
  const whose = container ? `container ${container}` : (first?.addresses.join(', ') ?? 'a container')
  const isIptables = first?.backend === 'iptables'
  const publishes = group.some(({ place }) => /^(port|hostip)_|^CNI-DN-|hostports$/.test(place))
  const count = group.length === 1 ? 'a rule' : `${group.length} rules`
  return mendable({
    kind: isIptables ? 'orphan-chain' : 'orphan-rules',
    says: `${isIptables ? 'iptables has chains' : `nftables has ${count}`} of ${whose}, which is gone`,
    why: publishes
      ? 'connections to its published port are sent to an address that no container has, or that another one has by now'
      : 'a later container that gets its address is masqueraded or let through by rules that were not meant for it',
    evidence: [
      ...new Set(group.flatMap(({ evidence }) => evidence)),
      ...group.slice(0, 4).map(({ family, table, place, text }) => `${family} ${table} ${place}: ${text}`),
      ...(group.length > 4 ? [`and ${group.length - 4} more`] : []),
    ],
    repair: stepsFor(group),
  })
}

function stepsFor(group: readonly FilterObject[]): Step[] {
  const owners = new Map<string, FilterObject[]>()
  for (const object of group)
    if (object.maker === 'catena' && object.owner !== undefined)
      owners.set(object.owner, [...(owners.get(object.owner) ?? []), object])
  const ours = [...owners].map(
    ([id, objects]): Step => ({
      kind: 'owner',
      id,
      comment: objects.find(({ element }) => element)?.element?.comment ?? id,
      elements: objects.flatMap(({ element }) =>
        element ? [{ ...fieldsOf(element), place: collectionOf(element).name }] : [],
      ),
    }),
  )
  return [...ours, ...goSteps(group), ...iptablesSteps(group)]
}

function fieldsOf(element: NonNullable<FilterObject['element']>) {
  const { family, kind, key, value } = element
  const waitsFor = 'waitsFor' in element ? { waitsFor: element.waitsFor } : {}
  return { family, kind, key, ...waitsFor, ...(value === undefined ? {} : { value }) }
}

function goSteps(group: readonly FilterObject[]): Step[] {
  const theirs = group.filter(({ maker, backend }) => maker === 'go' && backend === 'nftables')
  const tables = new Set(theirs.map(({ family, table }) => `${family} ${table}`))
  return [...tables].map((where): Step => {
    const own = theirs.filter(({ family, table }) => `${family} ${table}` === where)
    const [{ family, table } = { family: 'ip' as const, table: '' }] = own
    return {
      kind: 'rules',
      family,
      table,
      rules: own.flatMap(({ what, place, handle }) =>
        what === 'rule' && handle !== undefined ? [{ chain: place, handle }] : [],
      ),
      // a chain that another leads to goes after it
      chains: own
        .flatMap(({ what, place }) => (what === 'chain' ? [place] : []))
        .toSorted((one, other) => one.length - other.length),
    }
  })
}

function iptablesSteps(group: readonly FilterObject[]): Step[] {
  const kept = group.filter(({ backend }) => backend === 'iptables')
  const places = new Set(kept.map(({ family, variant, table }) => `${family} ${variant} ${table}`))
  const steps = [...places].map((where): Step => {
    const own = kept.filter(each => `${each.family} ${each.variant} ${each.table}` === where)
    const [first] = own
    return {
      kind: 'iptables',
      family: first?.family === 'ip6' ? 'ip6' : 'ip',
      variant: first?.variant ?? 'nf_tables',
      table: first?.table ?? 'nat',
      chains: own.flatMap(({ what, place }) => (what === 'chain' ? [place] : [])),
      addresses: own.flatMap(({ what, addresses }) => (what === 'rule' ? addresses : [])),
    }
  })
  const notes = new Set(kept.map(({ place }) => `${RUN_FOLDER}/iptables/${place}.json`))
  return [...steps, ...[...notes].flatMap(path => (readState(path) === undefined ? [] : [fileStep(path)]))]
}

function redirections({ host }: NodeModel): Finding[] {
  return brokenRedirections(host.links).map(({ name, index }) =>
    mendable({
      kind: 'broken-redirection',
      says: `packets that come in by ${name} are sent to a link that is gone`,
      why: 'the kernel drops all of them: the container can send nothing',
      evidence: [
        `the hook for incoming packets of ${name} redirects`,
        'no link has the number that it redirects to',
      ],
      repair: [{ kind: 'hook', link: name, index }],
    }),
  )
}

function namespaces({ namespaces, deadMounts, attachments }: NodeModel): Finding[] {
  const kept = namespaces.filter(isOrphan).flatMap(({ paths, evidence }) =>
    paths.map(path =>
      mendable({
        kind: 'orphan-namespace',
        says: `the namespace ${path} is kept by its mount alone`,
        why: 'it takes memory, and its veth pairs, if it has any, stay',
        evidence,
        repair: [{ kind: 'namespace', path }],
      }),
    ),
  )
  const dead = deadMounts
    .filter(path => !attachments.some(({ netns, label }) => netns === path && label === 'live'))
    .map(path =>
      mendable({
        kind: 'dead-mount',
        says: `${path} is no namespace, but the file that one was mounted on`,
        why: 'a runtime that makes a namespace of that name fails, and plugins refuse the path',
        evidence: ['nothing is mounted on it', 'no container that is alive has it'],
        repair: [{ kind: 'namespace', path }],
      }),
    )
  return [...kept, ...dead]
}

function caches({ attachments, brokenCaches }: NodeModel): Finding[] {
  const stale = attachments.filter(isOrphan).flatMap(({ cache, name, network, evidence }) =>
    cache
      ? [
          mendable({
            kind: 'stale-cache',
            says: `the cache still has ${name} on network ${network}, which is gone`,
            why: 'no runtime has deleted it: what its plugins keep for it stays, and GC and CHECK count it as alive',
            evidence: [`${cache.path} is its result`, ...evidence],
            repair: [fileStep(cache.path)],
          }),
        ]
      : [],
  )
  const ids = attachments.flatMap(({ containerId, label }) =>
    containerId !== '' && label !== 'orphan' ? [containerId] : [],
  )
  const broken = brokenCaches
    .filter(({ path }) => !ids.some(id => path.includes(id)))
    .map(({ path }) =>
      mendable({
        kind: 'broken-cache',
        says: `${path} is no result that a runtime could read`,
        why: 'a runtime that reads it before DEL fails with "unexpected end of JSON input", and the pod stays in Terminating',
        evidence: ['it is empty or torn, as by a power cut', 'its name is of no container that is alive'],
        repair: [fileStep(path)],
      }),
    )
  return [...stale, ...broken]
}

function records({ records }: NodeModel): Finding[] {
  return records.filter(isOrphan).map(({ path, about, evidence }) =>
    mendable({
      kind: 'stale-record',
      says: `${path} is a record of a container that is gone`,
      why: `the plugins of ${about} look into it at every call, and take its addresses or ports for used`,
      evidence,
      repair: [fileStep(path)],
    }),
  )
}
