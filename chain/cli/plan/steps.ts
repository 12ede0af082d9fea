/** Calls as steps that a person can follow, and as command lines that do the same. Pure. */

import { nameIn } from '../../linux/files.ts'
import { describeErrno } from '../../linux/libc/errno.ts'
import { NETLINK_ROUTE } from '../../linux/netlink/socket.ts'
import { type Command, type Json, nftDocument } from '../../linux/nftables/nft.ts'
import type { Call, FileCall, NetlinkCall, ProgramCall, SysctlCall, TapCall, Where } from './calls.ts'
import { routeStep } from './route-steps.ts'
import { inPlace, type Names, quoted, type Step, type Told } from './step.ts'

/** What happens while a plugin runs. */
export type Event =
  | Call
  | { kind: 'nftables'; where: Where; commands: readonly Command[] }
  | { kind: 'plugin'; type: string; verb: string }

export function stepsOf(events: readonly Event[], names: Names): Step[] {
  const running = ['runtime']
  const files = new Files()
  const steps: Step[] = []
  for (const event of events) {
    if (event.kind === 'plugin') {
      if (event.verb === 'end') running.pop()
      else running.push(event.type)
      continue
    }
    const plugin = running.at(-1) ?? 'runtime'
    for (const told of toldOf(event, names, files)) steps.push({ plugin, ...told, ...refusalOf(event) })
  }
  for (const told of files.rest()) steps.push({ plugin: 'runtime', ...told })
  return steps
}

function refusalOf(event: Event): { refused?: string } {
  if (event.kind === 'program' && event.status !== 0) return { refused: `exit status ${event.status}` }
  return event.kind === 'netlink' && event.errno !== 0 ? { refused: describeErrno(event.errno) } : {}
}

function toldOf(event: Exclude<Event, { kind: 'plugin' }>, names: Names, files: Files): Told[] {
  switch (event.kind) {
    case 'netlink':
      return netlinkStep(event, names)
    case 'sysctl':
      return [sysctlStep(event)]
    case 'program':
      return [programStep(event)]
    case 'tap':
      return [tapStep(event)]
    case 'nftables':
      return nftablesSteps(event)
    case 'file':
      return files.take(event)
  }
}

const CONNECTIONS = 1 // NFNL_SUBSYS_CTNETLINK
const DELETE_CONNECTION = 2

function netlinkStep(call: NetlinkCall, names: Names): Told[] {
  if (call.protocol === NETLINK_ROUTE) return routeStep(call, names)
  const { type } = call.message
  if (type >> 8 !== CONNECTIONS || (type & 0xff) !== DELETE_CONNECTION) return [] // rulesets are told as such
  return [
    {
      about: 'connections',
      where: call.where,
      does: 'forget connections that went another way',
      commands: [],
    },
  ]
}

function sysctlStep({ where, key, value }: SysctlCall): Told {
  const does = `set ${key.replaceAll('/', '.')} to ${value}`
  return {
    about: 'sysctl',
    where,
    does,
    commands: [inPlace(where, `sysctl -qw ${quoted(`${key}=${value}`)}`)],
  }
}

function tapStep({ where, name, multiQueue, virtioHeader, owner, group }: TapCall): Told {
  const settings = [
    ...(multiQueue ? ['multi_queue'] : []),
    ...(virtioHeader ? ['vnet_hdr'] : []),
    ...(owner === undefined ? [] : [`user ${owner}`]),
    ...(group === undefined ? [] : [`group ${group}`]),
  ].join(' ')
  const line = `ip tuntap add dev ${quoted(name)} mode tap ${settings}`.trimEnd()
  return {
    about: 'link',
    where,
    does: `create tap ${name} ${settings}`.trimEnd(),
    commands: [inPlace(where, line)],
  }
}

/** A here-document whose end is no line of the text. */
const fed = (line: string, text: string) => `${line} <<'END-OF-PLAN'\n${text.trimEnd()}\nEND-OF-PLAN`

function programStep({ where, words, input }: ProgramCall): Told {
  const line = words.map(quoted).join(' ')
  const isTables = /\/?ip6?tables/.test(words[0] ?? '')
  const does = input ? `${words.join(' ')}: ${input.trim().split('\n').length} lines` : words.join(' ')
  return {
    about: isTables ? 'iptables' : 'program',
    where,
    does,
    commands: [inPlace(where, input ? fed(line, input) : line)],
  }
}

/** A command without what only nft reads: the expressions of rules, the comments of elements. */
function brief(command: Command): string {
  const { verb, kind, family } = command
  const name = 'name' in command ? command.name : ''
  if (command.kind === 'rule') return `${verb} a rule of ${family} ${command.table} ${command.chain}`
  if (command.kind === 'element') {
    const elements = command.elem.map(each => elementText(each))
    return `${verb} element ${family} ${command.table} ${name} { ${elements.join(', ')} }`
  }
  const where = command.kind === 'table' ? [name] : [command.table, name]
  return [verb, kind, family, ...where].join(' ')
}

/** As nft writes it: "tcp . 8080 : 10.22.0.2"; with its comment where that is wanted. */
function elementText(value: Json, withComment = false): string {
  if (Array.isArray(value)) return value.map(each => elementText(each, withComment)).join(' : ')
  if (typeof value !== 'object' || value === null) return String(value)
  const { concat, elem, prefix } = value
  if (Array.isArray(concat)) return concat.map(each => elementText(each)).join(' . ')
  if (elem !== undefined) {
    const { val, comment } = elem as { val: Json; comment?: string }
    return `${elementText(val)}${withComment && comment ? ` comment "${comment}"` : ''}`
  }
  if (prefix === undefined) return Object.keys(value).join(' ') // a verdict
  const { addr, len } = prefix as { addr: Json; len: Json }
  return `${elementText(addr)}/${len}`
}

/** A line for one element alone, for who puts it back. */
function elementLine(command: Command, where: Where): string[] {
  if (command.kind !== 'element') return []
  const { family, table, name, elem } = command
  const elements = elem.map(each => elementText(each, true)).join(', ')
  return [inPlace(where, `nft add element ${family} ${table} ${name} ${quoted(`{ ${elements} }`)}`)]
}

/** One transaction: its commands one by one in words, and one line for a shell. */
function nftablesSteps({ where, commands }: { where: Where; commands: readonly Command[] }): Told[] {
  return commands.map((command, index) => ({
    about: 'nftables',
    where,
    does: brief(command),
    alone: elementLine(command, where),
    commands: index === 0 ? [inPlace(where, fed('nft -j -f -', nftDocument(commands)))] : [],
  }))
}

/** Locks, and the records of what plugins have done: they are there to be there, and no part of what is made. */
const isAside = (path: string) => /\/lock$|\/locks(\/|$)|^\/run\/catena\/records(\/|$)/.test(path)
const isTemporary = (path: string) => nameIn(path).startsWith('.')

/** Files by what they hold in the end: what is written under another name first is told when it gets its own. */
class Files {
  readonly #texts = new Map<string, string>()
  /** Made, and not written to so far. */
  readonly #empty = new Set<string>()

  /** What has stayed empty: it is there to be there. */
  rest(): Told[] {
    return [...this.#empty].map(path => plain(`make file ${path}`, [`: > ${quoted(path)}`]))
  }

  take(call: FileCall): Told[] {
    const { path, to = '', text = '' } = call
    if (isAside(path)) return []
    switch (call.does) {
      case 'create':
        this.#texts.set(path, '')
        this.#empty.add(path)
        return []
      case 'write': {
        this.#empty.delete(path)
        const whole = (this.#texts.get(path) ?? '') + text
        this.#texts.set(path, whole)
        return isTemporary(path) ? [] : [written(path, whole)]
      }
      case 'rename':
      case 'link': {
        const whole = this.#texts.get(path)
        this.#empty.delete(path)
        if (call.does === 'rename') this.#texts.delete(path)
        this.#texts.set(to, whole ?? '')
        return whole === undefined ? [plain(`${call.does} ${path} to ${to}`, [])] : [written(to, whole)]
      }
      case 'symbolic link':
        return isTemporary(path) ? [] : [symbolicLink(path, to)]
      case 'folder':
        return [plain(`make folder ${path}`, [`mkdir -p ${quoted(path)}`])]
      case 'delete':
        this.#texts.delete(path)
        this.#empty.delete(path)
        return isTemporary(path) ? [] : [plain(`delete ${path}`, [`rm -f ${quoted(path)}`])]
    }
  }
}

const plain = (does: string, commands: string[]): Told => ({ about: 'file', where: 'host', does, commands })

/** A stamp is about the very folder that it is made in: it cannot be made for another. */
const STAMP = /\/host-local\/[^/]+\/stamp$/

function symbolicLink(path: string, to: string): Told {
  const shown = to.length > 40 ? `${to.slice(0, 40)}…` : to
  return plain(`link ${path} to ${shown}`, STAMP.test(path) ? [] : [`ln -sfn ${quoted(to)} ${quoted(path)}`])
}

const SHOWN = 120

/** Texts as printf takes them: line ends as they are would end the line. */
function written(path: string, text: string): Told {
  const escaped = text
    .replaceAll('\\', '\\\\')
    .replaceAll('%', '%%')
    .replaceAll('\r', '\\r')
    .replaceAll('\n', '\\n')
  const shown = JSON.stringify(text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text)
  return plain(`write ${path}: ${shown}`, [`printf ${quoted(escaped)} > ${quoted(path)}`])
}
