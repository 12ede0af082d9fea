/** Any sequence of calls, ours and the Go plugin's, with reboots, torn files and an operator's hand between them: as a simple model says. */
import { expect, test } from 'bun:test'
import { existsSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import fc from 'fast-check'
import { hostLocal } from '../../../ipam/host-local.ts'
import { type Call, call, execute, type Outcome, peerExecutable } from '../../fixtures/plugin.ts'
import { reboot } from '../../fixtures/reboot.ts'
import { dataFolder, reservations } from './fixture.ts'

/** A range of the model: addresses 10.7.<net>.<first> to <last>, of which one may be the gateway. */
interface Range {
  net: number
  first: number
  last: number
  gateway: number
}

type Step =
  | { kind: 'ADD'; id: number; requested: number | undefined; byGo: boolean }
  | { kind: 'DEL'; id: number; byGo: boolean }
  | { kind: 'GC'; alive: number[] }
  | { kind: 'reboot' }
  | { kind: 'tear' | 'remove'; which: number }

const range = fc
  .record({ first: fc.integer({ min: 1, max: 4 }), size: fc.integer({ min: 1, max: 5 }), gateway: fc.nat(9) })
  .map(({ first, size, gateway }) => ({ first, last: first + size - 1, gateway: gateway || 1 }))
const sets = fc
  .array(fc.array(range, { minLength: 1, maxLength: 2 }), { minLength: 1, maxLength: 2 })
  .map(all => all.map((set, index) => set.map((each, at): Range => ({ ...each, net: index * 2 + at }))))
const id = fc.nat(5)
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('ADD' as const),
      id,
      requested: fc.nat(299).map(each => (each < 60 ? each : undefined)),
      byGo: fc.nat(4).map(each => each === 0),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('DEL' as const),
      id,
      byGo: fc.nat(4).map(each => each === 0),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('GC' as const), alive: fc.array(id) }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'reboot' as const }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constantFrom('tear' as const, 'remove' as const), which: fc.nat(60) }),
  },
)

const nameOf = ({ net }: Range, host: number) => `10.7.${net}.${host}`

/** What a set hands out, in its order. */
const addressesOf = (set: readonly Range[]) =>
  set.flatMap(each =>
    Array.from({ length: each.last - each.first + 1 }, (_, index) => each.first + index)
      .filter(host => host !== each.gateway)
      .map(host => nameOf(each, host)),
  )

/** Whether an address lies in a set, gateways included. */
const holds = (set: readonly Range[], name: string) =>
  set.some(each =>
    Array.from({ length: 9 }, (_, host) => host).some(
      host => host >= each.first && host <= each.last && nameOf(each, host) === name,
    ),
  )

/** All that a network remembers. */
class Model {
  readonly held = new Map<string, { id: number; isOld: boolean }>()
  readonly torn = new Set<string>()
  readonly last: (string | undefined)[] = []
  readonly sets: readonly (readonly Range[])[]
  constructor(sets: readonly (readonly Range[])[]) {
    this.sets = sets
  }

  /** The addresses that an ADD may give, one list for each set; it fails at the first list that is empty. */
  add({ id, requested, byGo }: { id: number; requested: string | undefined; byGo: boolean }): string[][] {
    if (requested !== undefined && !this.sets.some(set => holds(set, requested))) return [[]]
    const choices: string[][] = []
    for (const [position, set] of this.sets.entries()) {
      if (choices.at(-1)?.length === 0) break
      const isWanted = requested !== undefined && holds(set, requested)
      choices.push(isWanted ? this.ask(set, requested) : this.choose(id, position, byGo))
    }
    return choices
  }

  private ask(set: readonly Range[], wanted: string): string[] {
    const owner = this.held.get(wanted)
    return addressesOf(set).includes(wanted) && (!owner || owner.isOld) ? [wanted] : []
  }

  private choose(id: number, position: number, byGo: boolean): string[] {
    const set = this.sets[position] ?? []
    const own = [...this.held].filter(([name, owner]) => owner.id === id && holds(set, name))
    const [first] = own.toSorted(([one], [other]) => (one < other ? -1 : 1))
    if (first) return first[1].isOld && !byGo ? [first[0]] : []
    const all = addressesOf(set)
    const free = this.inTurn(set, this.last[position]).filter(
      name => !this.held.has(name) && !(byGo && this.torn.has(name)),
    )
    if (free.length > 0) return free.slice(0, 1)
    return byGo ? [] : all.filter(name => this.held.get(name)?.isOld)
  }

  /** Round robin: what comes behind the last one given, which comes last itself. */
  private inTurn(set: readonly Range[], last: string | undefined): string[] {
    const all = addressesOf(set)
    const start = last === undefined ? -1 : all.indexOf(last)
    return [...all.slice(start + 1), ...all.slice(0, start + 1)]
  }

  take(
    name: string,
    { id, requested }: { id: number; requested: string | undefined },
    position: number,
  ): void {
    // an address that is had again after a reboot is not a new one
    if (this.held.get(name)?.id !== id || name === requested) this.last[position] = name
    this.held.set(name, { id, isOld: false })
    this.torn.delete(name)
  }

  drop(isDropped: (id: number) => boolean): void {
    for (const [name, { id }] of this.held) if (isDropped(id)) this.held.delete(name)
  }
}

/** The model, and a folder with which it is compared after each step. */
class Network {
  readonly model: Model
  readonly everything: string[]
  readonly path: string
  readonly sets: readonly (readonly Range[])[]
  constructor(path: string, sets: readonly (readonly Range[])[]) {
    this.path = path
    this.sets = sets
    this.model = new Model(sets)
    this.everything = sets.flatMap(set =>
      set.flatMap(each => [each.first - 1, each.first, each.last].map(host => nameOf(each, host))),
    )
  }

  async run(step: Step): Promise<void> {
    const { model } = this
    // whoever reads all files deletes those that are torn
    for (const name of model.torn) if (!existsSync(this.file(name))) model.torn.delete(name)
    if (step.kind === 'ADD') await this.add(step)
    else if (step.kind === 'DEL') {
      expect((await this.call('DEL', step)).status).toBe(0)
      model.drop(id => id === step.id)
    } else if (step.kind === 'GC') {
      const alive = step.alive.map(id => ({ containerID: `c${id}`, ifname: 'eth0' }))
      await this.call('GC', { id: 0, byGo: false, more: { 'cni.dev/valid-attachments': alive } })
      model.drop(id => !step.alive.includes(id))
    } else if (step.kind === 'reboot') this.reboot()
    else if (existsSync(this.file(''))) this.meddle(step)
  }

  private async add({ id, requested, byGo }: Extract<Step, { kind: 'ADD' }>): Promise<void> {
    const { model } = this
    const isGo = byGo && this.sets.length === 1 // of several sets the Go plugin gives back what it had before, too
    const name = requested === undefined || isGo ? undefined : this.pick(requested)
    const choices = model.add({ id, requested: name, byGo: isGo })
    const outcome = await this.call('ADD', { id, byGo: isGo, ...(name ? { args: `IP=${name}` } : {}) })
    const isGiven = choices.every(choice => choice.length > 0)
    expect({ status: outcome.status, told: outcome.json.msg }).toMatchObject({ status: isGiven ? 0 : 1 })
    for (const [position, choice] of choices.filter(each => each.length > 0).entries()) {
      const given = isGiven
        ? outcome.json.ips[position].address.replace(/\/.*/, '')
        : this.noted(position, choice)
      expect(choice).toContain(given)
      model.take(given, { id, requested: name }, position)
      if (!isGiven) model.held.delete(given)
    }
  }

  /** What a failed ADD had been given, as round robin goes on from there. */
  private noted(position: number, choice: readonly string[]): string {
    const [only = ''] = choice
    return choice.length === 1 ? only : readFileSync(this.file(`last_reserved_ip.${position}`), 'utf8')
  }

  /** All that is left is from before; of what the Go plugin gave, its age alone tells. */
  private reboot(): void {
    reboot()
    for (const [name, owner] of this.model.held) {
      owner.isOld = true
      utimesSync(this.file(name), 1, 1)
    }
  }

  private meddle({ kind, which }: Extract<Step, { kind: 'tear' | 'remove' }>): void {
    const { model } = this
    const name = this.pick(which)
    rmSync(this.file(name), { force: true })
    model.held.delete(name)
    model.torn.delete(name)
    if (kind === 'remove') return
    writeFileSync(this.file(name), '')
    model.torn.add(name)
  }

  private call(
    verb: 'ADD' | 'DEL' | 'GC',
    { id, byGo, more = {}, ...rest }: { id: number; byGo: boolean; more?: object; args?: string },
  ): Promise<Outcome> | Outcome {
    const ranges = this.sets.map(set =>
      set.map(each => ({
        subnet: `10.7.${each.net}.0/28`,
        rangeStart: nameOf(each, each.first),
        rangeEnd: nameOf(each, each.last),
        gateway: nameOf(each, each.gateway),
      })),
    )
    const config = { ipam: { type: 'host-local', dataDir: this.path, ranges }, ...more }
    const options: Call = { config, containerId: `c${id}`, netns: '/run/netns/none', ...rest }
    return byGo ? execute(peerExecutable('host-local'), verb, options) : call(hostLocal, verb, options)
  }

  private pick = (which: number) => this.everything[which % this.everything.length] ?? ''
  private file = (name: string) => `${this.path}/test-net/${name}`

  /** Reservations as they are; an empty file is none. */
  onDisk(): Record<string, string> {
    return Object.fromEntries(Object.entries(reservations(this.path)).filter(([, content]) => content !== ''))
  }

  expected(): Record<string, string> {
    return Object.fromEntries(Array.from(this.model.held, ([name, { id }]) => [name, `c${id}\r\neth0`]))
  }
}

test('files and answers are what the model says after any sequence of calls and mishaps', async () => {
  await fc.assert(
    fc.asyncProperty(sets, fc.array(step, { minLength: 10, maxLength: 30 }), async (sets, steps) => {
      using folder = dataFolder()
      reboot()
      const network = new Network(folder.path, sets)
      for (const step of steps) {
        await network.run(step)
        expect(network.onDisk()).toEqual(network.expected())
      }
    }),
    { numRuns: 150 },
  )
}, 120_000)
