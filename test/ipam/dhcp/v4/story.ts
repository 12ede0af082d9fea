/** What happens to a DHCPv4 client, step by step, for the tests of its state machine. */
import { defaultTiming } from '../../../../ipam/dhcp/engine/timing.ts'
import { step } from '../../../../ipam/dhcp/v4/lease.ts'
import { type Message, messageType } from '../../../../ipam/dhcp/v4/packet.ts'
import {
  type Action,
  type Client,
  type Event,
  initialState,
  type State,
} from '../../../../ipam/dhcp/v4/types.ts'

export const client: Client = {
  identifier: 'c1/net/eth0',
  hardware: '02:00:00:00:00:01',
  provided: new Map(),
  requested: [3, 1],
  broadcast: false,
  timing: { ...defaultTiming, probe: 200 },
}

export const SERVER = '02:00:00:00:00:ff'

export const OTHER = '02:00:00:00:00:aa'

export const SECOND = 1000

export const bytes = (...values: number[]) => Uint8Array.from(values)

export const address = (text: string) => Uint8Array.from(text.split('.'), Number)

export type Answer = {
  type: 'offer' | 'acknowledge' | 'nak'
  address?: string
  server?: string
  seconds?: number
  transaction?: number
  hardware?: string
}

/** A client in a story: what happens to it, at which time, and what it did about it. */
export function story(given: Client = client) {
  let state: State = initialState
  let now = 0
  let done: Action[] = []
  const happen = (event: Record<string, unknown> & { type: Event['type'] }) => {
    const next = step(given, state, { ...event, now, random: () => 0.5 } as Event)
    state = next.state
    done = next.actions
    return done
  }
  const told = {
    state: () => state,
    actions: () => done,
    /** Names of the actions: "send discover", "bound". */
    names: () => done.map(action => (action.type === 'send' ? `send ${action.kind}` : action.type)),
    sent: () => done.find(action => action.type === 'send'),
    happen,
    at(time: number) {
      now = time
      return told
    },
    /** Lets the time come that the client waits for. */
    wait() {
      now = state.wakeAt ?? now
      happen({ type: 'timer' })
      return now
    },
    answer(answer: Answer) {
      const { type, server = '10.0.0.1', seconds = 1000 } = answer
      const message: Message = {
        operation: 'reply',
        transaction: answer.transaction ?? state.transaction,
        seconds: 0,
        broadcast: false,
        clientAddress: '0.0.0.0',
        yourAddress: answer.address ?? '10.0.0.5',
        nextServer: '0.0.0.0',
        relay: '0.0.0.0',
        hardware: answer.hardware ?? given.hardware,
        options: new Map([
          [1, bytes(255, 255, 255, 0)],
          [51, bytes(seconds >> 24, seconds >> 16, seconds >> 8, seconds)],
          [53, bytes(messageType[type])],
          [54, address(server)],
        ]),
      }
      return happen({ type: 'message', message, hardware: SERVER })
    },
    /** Acquires 10.0.0.5 at time 0, for 1000 s unless said otherwise. */
    acquired(seconds = 1000) {
      happen({ type: 'start' })
      told.answer({ type: 'offer', seconds })
      told.answer({ type: 'acknowledge', seconds })
      told.wait()
      return told
    },
  }
  return told
}
