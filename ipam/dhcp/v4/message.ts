/** The messages that a client sends (RFC 2131, table 5), from its state. Pure. */
import { addressBytes } from '../../../chain/ip/bytes.ts'
import { ANY_ADDRESS } from '../link/frame.ts'
import { type Message, messageType, option } from './packet.ts'
import type { Client, Kind, State } from './types.ts'

const types: Readonly<Record<Kind, number>> = {
  discover: messageType.discover,
  request: messageType.request,
  confirm: messageType.request,
  renew: messageType.request,
  rebind: messageType.request,
  decline: messageType.decline,
  release: messageType.release,
}

const LARGEST_MESSAGE = 1500 // as the Go plugin says in option 57

/** A message of a kind, as the state of the client makes it. */
export function composeMessage(
  client: Client,
  state: State,
  { kind, now }: { kind: Kind; now: number },
): Message {
  const held = kind === 'renew' || kind === 'rebind' || kind === 'release'
  const acquiring = kind === 'discover' || kind === 'request' || kind === 'confirm'
  return {
    operation: 'request',
    transaction: state.transaction,
    seconds: acquiring ? Math.max(0, Math.floor((now - state.beganAt) / 1000)) : 0,
    broadcast: client.broadcast && acquiring,
    clientAddress: held ? (state.lease?.address ?? ANY_ADDRESS) : ANY_ADDRESS,
    yourAddress: ANY_ADDRESS,
    nextServer: ANY_ADDRESS,
    relay: ANY_ADDRESS,
    hardware: client.hardware,
    options: optionsOf(client, state, kind),
  }
}

function optionsOf(client: Client, state: State, kind: Kind): Map<number, Uint8Array> {
  const leaving = kind === 'decline' || kind === 'release'
  const options = new Map<number, Uint8Array>(leaving ? [] : client.provided)
  if (!leaving) {
    options.set(option.parameterRequest, Uint8Array.from(client.requested))
    options.set(option.maximumSize, Uint8Array.of(LARGEST_MESSAGE >> 8, LARGEST_MESSAGE & 0xff))
  }
  options.set(option.messageType, Uint8Array.of(types[kind]))
  if (!client.provided.has(option.clientIdentifier) || leaving) {
    options.set(option.clientIdentifier, identifierOf(client))
  }
  const address = requestedAddress(state, kind)
  if (address !== undefined) options.set(option.requestedAddress, addressBytes(address))
  const server = kind === 'request' ? state.offer?.server : leaving ? state.lease?.server : undefined
  if (server !== undefined) options.set(option.serverIdentifier, addressBytes(server))
  return options
}

/** Type 0, "not a hardware address", as the Go plugin; one that the configuration provides is sent as it is. */
function identifierOf({ identifier, provided }: Client): Uint8Array {
  return provided.get(option.clientIdentifier) ?? Buffer.concat([Uint8Array.of(0), Buffer.from(identifier)])
}

function requestedAddress({ offer, earlierAddress, lease }: State, kind: Kind): string | undefined {
  if (kind === 'request') return offer?.address
  if (kind === 'decline') return lease?.address
  return kind === 'discover' || kind === 'confirm' ? earlierAddress : undefined
}
