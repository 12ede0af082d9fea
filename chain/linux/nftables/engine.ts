/** The engine of plugins: over netlink what can be encoded there, by nft what cannot (conditions of a user). Either is loaded when it is needed. */
import type { Engine } from './nft.ts'

// what has been imported is kept: to import it once more costs 0.1 ms, and a worker does it at every call
let batch: typeof import('./batch.ts') | undefined
let nft: typeof import('./nft.ts') | undefined

export const applyRuleset: Engine = async (commands, generation) => {
  if (commands.length === 0) return
  batch ??= await import('./batch.ts')
  if (batch.applyBatch(commands, generation)) return
  nft ??= await import('./nft.ts')
  await nft.applyWithNft(commands)
}
