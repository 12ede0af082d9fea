/**
 * Runs a lease's state machine on the event loop: feeds it what happens and the time, has carried out what it says, and ends
 * with the interface or its namespace. Knows no protocol.
 */
import { CniError, code } from '../../../chain/protocol/error.ts'
import { type ClientLink, closeClientLink, presentLink } from '../link/client-link.ts'

/** What a lease client needs from the daemon. */
export interface LeaseContext<Lease> {
  /** Milliseconds since the epoch that never jump. */
  clock(): number
  random(): number
  /** One line of the log, about this lease. */
  log(event: string, facts: Readonly<Record<string, unknown>>): void
  /** The lease is new or has other times. */
  save(lease: Lease): void
  /** There is nothing left to be kept on disk. */
  forget(): void
  /** False when the namespace has lost its name and no process lives in it. */
  inhabited(): boolean
}

/** An event before the loop has added what every event has. */
export type NewEvent<Event> = Event extends infer Each
  ? Each extends Event
    ? Omit<Each, 'now' | 'random'>
    : never
  : never

/** What a family's state machine has for the event loop. */
export interface Machine<State, Event, Action, Lease> {
  initial: State
  step(state: State, event: Event): { state: State; actions: Action[] }
  /** What fails is told; the others are carried out all the same. */
  carryOut(action: Action): void
  /** After each step closes the sockets at which no answer is waited for; at the end, without a state, all of them. */
  closeUnneeded(state: State | undefined): void
  /** For the log: what is abandoned when the interface has gone. */
  addressOf(state: State): string | undefined
  context: LeaseContext<Lease>
  /** After a step that failed, milliseconds. */
  retry: number
}

export interface EventLoop<State, Event, Lease> {
  state(): State
  /** The lease, once it is there; rejected with why there is none. */
  outcome: PromiseWithResolvers<Lease>
  dispatch(event: NewEvent<Event>): void
  /** The first event, once the interface is ready for it. */
  begin(prepare: () => Promise<NewEvent<Event>>): Promise<Lease>
  /** What fails in the body fails for one message only: it is sent again, or the lease ends in its time. */
  attempt(body: () => void): void
  /** False, and everything ended, when interface or namespace have gone. */
  isStillThere(): boolean
  isClosed(): boolean
  close(): void
}

const LONGEST_TIMER = 0x7fffffff // milliseconds, of setTimeout

/** What every state and every event has. */
interface AnyState {
  phase: string
  wakeAt?: number
}
interface AnyEvent {
  now: number
  random: () => number
}

/** What an event loop has in hand. */
interface Run {
  readonly clientLink: ClientLink
  readonly machine: Machine<AnyState, AnyEvent, unknown, unknown>
  /** Tells whoever waits for the lease that it does not come. */
  reject(why: unknown): void
  state: AnyState
  timer?: Timer | undefined
  /** The interface is being made ready: what does so still needs its namespace. */
  preparing: boolean
  closed: boolean
}

/** Makes the event loop of an interface, whose namespace is let go of when it ends. */
export function createEventLoop<State extends AnyState, Event extends AnyEvent, Action, Lease>(
  clientLink: ClientLink,
  machine: Machine<State, Event, Action, Lease>,
): EventLoop<State, Event, Lease> {
  const outcome = Promise.withResolvers<Lease>()
  outcome.promise.catch(() => undefined) // whoever waits hears of it
  const run: Run = {
    clientLink,
    machine,
    reject: outcome.reject,
    state: machine.initial,
    preparing: false,
    closed: false,
  }
  return {
    state: () => run.state as State,
    outcome,
    dispatch: event => dispatch(run, event),
    isStillThere: () => isStillThere(run),
    isClosed: () => run.closed,
    close: () => close(run),
    begin(prepare) {
      begin(run, prepare)
      return outcome.promise
    },
    attempt: body => attempt(run, body),
  }
}

/** The namespace is let go of when the preparation has ended, also where everything else has before. */
async function begin(run: Run, prepare: () => Promise<object>): Promise<void> {
  run.preparing = true
  try {
    const event = await prepare().finally(() => {
      run.preparing = false
      if (run.closed) closeClientLink(run.clientLink)
    })
    if (!run.closed && isStillThere(run)) dispatch(run, event)
  } catch (thrown) {
    run.reject(thrown)
    close(run)
  }
}

function dispatch(run: Run, event: object): void {
  if (run.closed) return
  const { machine } = run
  const { clock, random } = machine.context
  const next = machine.step(run.state, { ...event, now: clock(), random })
  run.state = next.state
  for (const action of next.actions) attempt(run, () => machine.carryOut(action))
  if (!run.closed) sleep(run)
}

function attempt({ machine }: Run, body: () => void): void {
  try {
    body()
  } catch (thrown) {
    machine.context.log('error', { error: String(thrown) })
  }
}

/** Until the next timer, or until something happens; without sockets at which no answer is waited for. */
function sleep(run: Run): void {
  clearTimeout(run.timer)
  const { phase, wakeAt } = run.state
  run.machine.closeUnneeded(run.state)
  if (phase === 'stopped') close(run)
  if (phase === 'stopped' || wakeAt === undefined) return
  run.timer = setTimeout(() => onTimer(run), sleepFor(wakeAt - run.machine.context.clock()))
}

/** How long to sleep of a time that is left, in milliseconds: a timer of more than 31 bits would be over at once. */
export function sleepFor(left: number): number {
  return Math.min(LONGEST_TIMER, Math.max(1, left))
}

function onTimer(run: Run): void {
  const { context, retry } = run.machine
  const { wakeAt } = run.state
  if (wakeAt === undefined || context.clock() < wakeAt) {
    sleep(run)
    return
  }
  try {
    if (isStillThere(run)) dispatch(run, { type: 'timer' })
  } catch (thrown) {
    context.log('error', { error: String(thrown) })
    run.timer = setTimeout(() => onTimer(run), retry)
  }
}

/** A link that has gone took its lease with it; of a namespace that lost its last inhabitant it is given back. */
function isStillThere(run: Run): boolean {
  if (run.closed) return false
  if (!presentLink(run.clientLink)) return abandon(run, 'its interface has gone')
  if (!run.machine.context.inhabited()) return abandon(run, 'its namespace has gone')
  return true
}

function abandon(run: Run, why: string): false {
  const { addressOf, context } = run.machine
  context.log('abandoned', { why, address: addressOf(run.state) })
  run.reject(new CniError(code.internal, `no DHCP lease: ${why}`))
  dispatch(run, { type: 'release' })
  return false
}

function close(run: Run): void {
  if (run.closed) return
  run.closed = true
  clearTimeout(run.timer)
  run.machine.closeUnneeded(undefined)
  if (!run.preparing) closeClientLink(run.clientLink)
  const why = 'no DHCP lease: it was given up while it was acquired'
  run.reject(new CniError(code.tryAgainLater, why))
}
