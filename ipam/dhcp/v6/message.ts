/** The messages that a DHCPv6 client sends (RFC 8415, 18.2), from its state; and who it says it is. Pure. */
import { addressBytes } from '../../../chain/ip/bytes.ts'
import type { Identity } from './lease-offer.ts'
import { encodeOptions, type Message, messageType, type Option, option } from './packet.ts'
import type { Client, Kind, State } from './types.ts'

const types: Readonly<Record<Kind, number>> = {
  solicit: messageType.solicit,
  request: messageType.request,
  confirm: messageType.rebind,
  renew: messageType.renew,
  rebind: messageType.rebind,
  inform: messageType.informationRequest,
  decline: messageType.decline,
  release: messageType.release,
}

const DUID_UUID = 4 // RFC 6355

/** An attachment's identity as servers know it: stable over restarts of the container under the same ID, as in IPv4. */
export function identityOf(identifier: string): Identity {
  const hash = new Bun.CryptoHasher('sha256').update(identifier).digest()
  const uuid = Uint8Array.from(hash.subarray(0, 16))
  uuid[6] = ((uuid[6] ?? 0) & 0x0f) | 0x80 // version 8: made as one likes (RFC 9562, 5.8)
  uuid[8] = ((uuid[8] ?? 0) & 0x3f) | 0x80
  return { duid: Buffer.concat([Uint8Array.of(0, DUID_UUID), uuid]), iaid: hash.readUInt32BE(16) }
}

/** A message of a kind, as the state of the client makes it. */
export function composeMessage(
  client: Client,
  state: State,
  { kind, now }: { kind: Kind; now: number },
): Message {
  const server = kind === 'request' ? state.offer?.server : isToOne(kind) ? state.lease?.server : undefined
  const leaving = kind === 'decline' || kind === 'release'
  return {
    type: types[kind],
    transaction: state.transaction,
    options: [
      { code: option.client, value: client.duid },
      ...(server === undefined ? [] : [{ code: option.server, value: Buffer.from(server, 'hex') }]),
      { code: option.elapsed, value: elapsed(state.sends === 0 ? 0 : now - state.beganAt) },
      ...(kind === 'inform' ? [] : [associationOf(client, state, kind)]),
      ...(leaving ? [] : [{ code: option.requested, value: requested }]),
    ],
  }
}

const requested = Uint8Array.from(
  [option.nameServers, option.search, option.longestSolicit].flatMap(code => [0, code]),
)

function isToOne(kind: Kind): boolean {
  return kind === 'renew' || kind === 'decline' || kind === 'release'
}

/** Hundredths of a second, as many as fit. */
function elapsed(milliseconds: number): Uint8Array {
  const hundredths = Math.min(0xffff, Math.max(0, Math.round(milliseconds / 10)))
  return Uint8Array.of(hundredths >> 8, hundredths)
}

/** IA_NA; lifetimes and times of renewal are for the server to say, and zero here. */
function associationOf({ iaid }: Client, state: State, kind: Kind): Option {
  const address = addressFor(state, kind)
  const head = new DataView(new ArrayBuffer(12))
  head.setUint32(0, iaid)
  const inside: Option[] =
    address === undefined
      ? []
      : [{ code: option.address, value: Buffer.concat([addressBytes(address), new Uint8Array(8)]) }]
  const value = Buffer.concat([new Uint8Array(head.buffer), encodeOptions(inside)])
  return { code: option.addresses, value }
}

function addressFor({ offer, earlierAddress, lease }: State, kind: Kind): string | undefined {
  if (kind === 'request') return offer?.address
  return kind === 'solicit' || kind === 'confirm' ? earlierAddress : lease?.address
}
