/** Measured throughput of one stream, by iperf3. */
import type { Namespace } from '../../fixtures/namespace.ts'

export interface Stream {
  from: Namespace
  to: Namespace
  address: string
  /** The sender's address. */
  source?: string
  /** After the first one. */
  seconds?: number
}

export const FRAME = 1514 // 1500 and the Ethernet header

export const payload = { 4: FRAME - 66, 6: FRAME - 86 } // less TCP and its timestamps, less IP

/** Bits per second in frames, after the first burst. By the sender's clock, whose small window makes sent and received nearly the same. */
export async function throughput({ from, to, address, source, seconds = 1 }: Stream): Promise<number> {
  const server = to.inside(() => ({
    process: Bun.spawn(['iperf3', '-s', '-1', '--forceflush'], { stdout: 'pipe', stderr: 'inherit' }),
  })).process
  await untilListening(server.stdout)
  const bind = source === undefined ? [] : ['-B', source]
  const client = from.inside(() => ({
    process: Bun.spawn(
      ['iperf3', '-c', address, ...bind, '-J', '-w', '128K', '-t', `${seconds}`, '-O', '1'],
      { stdout: 'pipe' },
    ),
  })).process
  const report = (await new Response(client.stdout).json()) as {
    end: { sum_sent: { bits_per_second: number } }
  }
  await server.exited
  return (report.end.sum_sent.bits_per_second * FRAME) / payload[address.includes(':') ? 6 : 4]
}

async function untilListening(output: ReadableStream<Uint8Array>): Promise<void> {
  let text = ''
  for await (const chunk of output) {
    text += new TextDecoder().decode(chunk)
    if (text.includes('listening')) return
  }
  throw new Error(`iperf3 does not listen: ${text}`)
}
