/** A protocol as small as one can be, for what an exchange and a lease promise to either version of DHCP. */
import type {
  ExchangeClient,
  ExchangeEvent,
  ExchangeState,
  Leased,
} from '../../../../ipam/dhcp/engine/exchange.ts'
import type { Protocol } from '../../../../ipam/dhcp/engine/lease.ts'
import { defaultTiming } from '../../../../ipam/dhcp/engine/timing.ts'

export interface Lease extends Leased {
  seconds: number
}
export interface State extends ExchangeState {
  lease?: Lease
}
export interface Said {
  type: 'send'
  what: string
}

export const client: ExchangeClient = {
  timing: { ...defaultTiming, timeout: 10_000, probe: 200 },
  hardware: '02:00:00:00:00:01',
}

export const initial: State = { phase: 'init', deadline: 60_000, sends: 0 }

/** 10.0.0.5 for a hundred seconds from 0 on, to be renewed after 50 and rebound after 80. */
export const lease: Lease = {
  address: '10.0.0.5',
  server: '10.0.0.1',
  renewalSeconds: 50,
  rebindingSeconds: 80,
  seconds: 100,
  obtainedAt: 0,
}

export const at = (now: number): ExchangeEvent => ({ now, random: () => 0.5 })

const say = (what: string): Said => ({ type: 'send', what })
const silent = ['init', 'bound', 'verifying', 'stopped']

export const protocol: Protocol<ExchangeClient, State, Said> = {
  encode: ({ timing }, state) =>
    silent.includes(state.phase)
      ? undefined
      : { send: say(state.phase), wait: timing.timeout * 2 ** state.sends, state },
  encodeAlone: (_, state, { kind }) => say(`${kind} ${state.lease?.address ?? state.offer?.address}`),
  expiryOf: ({ obtainedAt, seconds }) => obtainedAt + seconds * 1000,
  prolong: (_, state) => ({ state, actions: [say(`prolong ${state.phase}`)] }),
  prolongAgain: (_, state) => ({ state, actions: [say(`prolong ${state.phase} again`)] }),
  isAsking: ({ phase }) => phase === 'selecting' || phase === 'requesting',
  askAgain: (_, state) => ({ state, actions: [say(`${state.phase} again`)] }),
  refusedAgain: (_, state) => ({
    state,
    actions: [{ type: 'lost', lease: state.lease, why: 'refused again' }],
  }),
  unanswered: ({ phase }) => `no server answered in ${phase}`,
  decline: (_, state) => ({ state, actions: [say(`decline to ${state.claimant}`)] }),
  serverName: ({ server }) => server,
}

export const party = { client, protocol }
