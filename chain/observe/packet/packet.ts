/** A packet that is only thought of, as bytes of its headers, and what the kernel knows of it beside them. */
import { addressBytes } from '../../ip/bytes.ts'
import { isIpv6 } from '../../ip/family.ts'
import { hardwareAddressBytes } from '../../ip/hardware.ts'

export const protocols: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132 }

export interface Packet {
  protocol: 'tcp' | 'udp' | 'sctp' | 'icmp'
  source: string
  destination: string
  sourcePort: number
  /** 0 for ICMP. */
  destinationPort: number
  /** Names of the links that it has come in by, and goes out by. */
  input?: string
  output?: string
  /** Whether it is an answer: of a connection that is known. */
  isAnswer: boolean
  /** Its destination, or its source, has been translated. */
  isTranslated: boolean
  isSourceTranslated: boolean
  mark: number
  /** Hardware addresses, where it is on a bridge. */
  hardware?: { source: string; destination: string }
}

export const familyOfPacket = ({ destination }: Packet) => (isIpv6(destination) ? 'ip6' : 'ip')

export function protocolNumber({ protocol, destination }: Packet): number {
  return protocol === 'icmp' && isIpv6(destination) ? 58 : (protocols[protocol] ?? 0)
}

/** The network header, as far as anybody looks at it. */
export function networkHeader(packet: Packet): Uint8Array {
  const { source, destination } = packet
  if (isIpv6(destination)) {
    const bytes = new Uint8Array(40)
    bytes[0] = 0x60
    bytes[6] = protocolNumber(packet)
    bytes[7] = 64
    bytes.set(addressBytes(source), 8)
    bytes.set(addressBytes(destination), 24)
    return bytes
  }
  const bytes = new Uint8Array(20)
  bytes[0] = 0x45
  bytes[3] = 60 // length: a SYN's
  bytes[8] = 64
  bytes[9] = protocolNumber(packet)
  bytes.set(addressBytes(source), 12)
  bytes.set(addressBytes(destination), 16)
  return bytes
}

/** The transport header: ports, and of a first TCP packet the flag SYN; of ICMP an echo request. */
export function transportHeader({
  protocol,
  sourcePort,
  destinationPort,
  isAnswer,
  destination,
}: Packet): Uint8Array {
  const bytes = new Uint8Array(20)
  if (protocol === 'icmp') {
    const [request, reply] = isIpv6(destination) ? [128, 129] : [8, 0]
    bytes[0] = isAnswer ? reply : request
    return bytes
  }
  const view = new DataView(bytes.buffer)
  view.setUint16(0, sourcePort)
  view.setUint16(2, destinationPort)
  if (protocol === 'tcp') {
    bytes[12] = 0x50
    bytes[13] = isAnswer ? 0x12 : 0x02 // SYN, with ACK where it answers
  }
  return bytes
}

export function linkHeader({ hardware, destination }: Packet): Uint8Array | undefined {
  if (!hardware) return undefined
  const type = isIpv6(destination) ? [0x86, 0xdd] : [8, 0]
  return new Uint8Array([
    ...hardwareAddressBytes(hardware.destination),
    ...hardwareAddressBytes(hardware.source),
    ...type,
  ])
}

/** The same going back. */
export function answerTo(packet: Packet): Packet {
  const { source, destination, sourcePort, destinationPort, input, output, hardware, ...rest } = packet
  return {
    ...rest,
    source: destination,
    destination: source,
    sourcePort: destinationPort,
    destinationPort: sourcePort,
    ...(output === undefined ? {} : { input: output }),
    ...(input === undefined ? {} : { output: input }),
    isAnswer: true,
  }
}

export function describePacket({
  protocol,
  source,
  destination,
  sourcePort,
  destinationPort,
}: Packet): string {
  if (protocol === 'icmp') return `icmp ${source} → ${destination}`
  const end = (address: string, port: number) => `${isIpv6(address) ? `[${address}]` : address}:${port}`
  return `${protocol} ${end(source, sourcePort)} → ${end(destination, destinationPort)}`
}
