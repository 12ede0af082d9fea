/** The engine of plugins: over netlink what can be encoded there, by nft what cannot (conditions of a user). Either is loaded when it is needed. */
import type { Engine } from './nft.ts'

export const applyRuleset: Engine = async (commands, generation) => {
  if (commands.length === 0) return
  const { applyBatch } = await import('./batch.ts')
  if (applyBatch(commands, generation)) return
  const { applyWithNft } = await import('./nft.ts')
  await applyWithNft(commands)
}
