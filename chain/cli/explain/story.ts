/** What happened to a container, as data: its operations from the flight recorder, what is there of it now, and what to do. */
import { nameIn } from '../../linux/files.ts'
import type { Attachment, Identity } from '../../observe/model.ts'
import { processName } from '../../observe/namespaces.ts'
import { type Operation, operationsOf, type Run, readRuns } from '../../observe/runs.ts'
import { examineModel } from '../doctor/state.ts'
import type { Finding } from '../finding.ts'
import { readWholeNode } from '../whole-node.ts'

export interface ContainerStory {
  container: string
  /** What people call it: pod, namespace's name. */
  names: string[]
  operations: (Operation & { by?: string })[]
  /** Its interfaces, as they are. */
  attachments: Attachment[]
  /** What doctor says about it. */
  findings: Finding[]
  advice: string[]
}

export interface Story {
  version: 1
  asked: string
  containers: ContainerStory[]
}

/** Everything about the containers that a word names: an ID or its beginning, a pod, "namespace/pod", a namespace's name. */
export function storyOf(asked: string, identities?: ReadonlyMap<string, Identity>): Story {
  const runs = readRuns()
  const model = readWholeNode({ identities })
  const findings = examineModel(model)
  const attached = model.attachments.filter(attachment => isNamed(asked, namesOfAttachment(attachment)))
  const ids = new Set([
    ...runs
      .filter(run => isNamed(asked, [run.container ?? '', ...namesOf(run)]))
      .map(({ container }) => container),
    ...attached.map(({ containerId }) => containerId),
  ])
  const containers = [...ids].filter(id => id !== undefined && id !== '').map(id => tell(id as string))
  return { version: 1, asked, containers }

  function tell(container: string): ContainerStory {
    const own = runs.filter(run => run.container === container)
    const attachments = model.attachments.filter(({ containerId }) => containerId === container)
    const names = [...new Set([...own.flatMap(namesOf), ...attachments.map(({ name }) => name)])]
    const operations = operationsOf(own).map(operation => ({ ...operation, ...askedBy(operation) }))
    const about = findings.filter(finding => mentions(finding, container))
    return {
      container,
      names,
      operations,
      attachments,
      findings: about,
      advice: advise(operations, attachments, about),
    }
  }
}

const SHORTEST = 4 // characters of an ID that are enough

function isNamed(asked: string, names: readonly string[]): boolean {
  const [id = ''] = names
  return names.includes(asked) || (asked.length >= SHORTEST && id.startsWith(asked))
}

function namesOf({ args = {}, netns }: Run): string[] {
  const pod = args.K8S_POD_NAME
  const namespace = args.K8S_POD_NAMESPACE
  const other = Object.entries(args).flatMap(([name, value]) =>
    /^NERDCTL_.*NAME$/.test(name) ? [value] : [],
  )
  const ofNamespace = netns ? [nameIn(netns)] : []
  return [
    ...(pod && namespace ? [`${namespace}/${pod}`] : []),
    ...(pod ? [pod] : []),
    ...other,
    ...ofNamespace,
  ]
}

function namesOfAttachment({ containerId, name, identity, netns }: Attachment): string[] {
  const last = netns === undefined ? undefined : nameIn(netns)
  return [containerId, name, ...(identity?.pod ? [identity.pod] : []), ...(last ? [last] : [])]
}

/** The process that started the first plugin, if it is still there: runtimes live longer than their plugins. */
function askedBy({ runs: [first] }: Operation): { by?: string } {
  const name = first && first.parent > 1 ? processName(first.parent) : undefined
  return name === undefined ? {} : { by: name }
}

function mentions({ says, evidence = [], commands = [] }: Finding, container: string): boolean {
  return [says, ...evidence, ...commands].some(text => text.includes(container))
}

function advise(
  operations: readonly Operation[],
  attachments: readonly Attachment[],
  findings: readonly Finding[],
): string[] {
  const last = operations.at(-1)
  const advice: string[] = []
  const unfinished = last?.runs.find(({ outcome }) => outcome === 'unfinished')
  if (unfinished) {
    advice.push(
      `${unfinished.plugin} was killed in the middle of ${unfinished.verb}, most often by its runtime's time limit, a kill for memory, or a restart of the runtime: ${unfinished.verb === 'ADD' ? 'DEL takes away what it left; then ADD again' : 'DEL again finishes it'}`,
    )
  }
  const failed = last?.runs.findLast(({ outcome, depth }) => outcome === 'failed' && depth === 0)
  if (failed?.error?.details) advice.push(failed.error.details)
  if (failed?.verb === 'ADD' && attachments.length === 0 && findings.length === 0)
    advice.push('nothing of the failed ADD is left in the kernel: it may be tried again')
  for (const { hint, commands = [] } of findings)
    advice.push(...(commands.length > 0 ? commands : hint ? [hint] : []))
  return [...new Set(advice)]
}
