/** `catena wait`: for a container that has to stay although nothing is left to do. */
import type { Command } from 'commander'
import type { Output } from './output.ts'
import { product } from './product.ts'

const LONGEST_TIMER = 0x7fffffff // milliseconds, of setInterval

export function addWait(command: Command, output: Output): void {
  command
    .description('does nothing until it is told to end: for a container that has to stay')
    .action(() => waitForEnd(output))
}

/** Process 1 of a container hears only of signals that it handles. */
function waitForEnd(output: Output): Promise<void> {
  return new Promise(resolve => {
    const alive = setInterval(() => {}, LONGEST_TIMER)
    const end = () => {
      clearInterval(alive)
      resolve()
    }
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, end)
    output.text(`catena ${product()} waits until it is told to end\n`)
  })
}
