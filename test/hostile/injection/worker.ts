/**
 * Disturbs a share of a case's points; as a process, on a private host of its own, it prints what came of it as JSON.
 * usage: worker.ts CASE SHARE SHARES MANY      MANY: points of a verb in all shares, or `all`
 */
import { cases } from './cases.ts'
import { callsOf, judge, leave, sceneOf } from './judge.ts'
import { pointsAt, sampleOf, textOf } from './points.ts'

export interface Report {
  /** Points that were reached. */
  reached: number
  faults: string[]
}

export async function disturb(
  name: string,
  { share, shares, many }: { share: number; shares: number; many: string },
): Promise<Report> {
  const judged = cases.find(each => each.name === name)
  if (!judged) throw new Error(`there is no case ${name}`)
  const scene = await sceneOf(judged)
  const report: Report = { reached: 0, faults: [] }
  for (const verb of ['ADD', 'DEL'] as const) {
    const points = pointsAt(await callsOf(scene, verb))
    const chosen = many === 'all' ? points : sampleOf(points, Number(many))
    for (const point of chosen.filter((_, index) => index % shares === share)) {
      const { reached, faults } = await judge(scene, verb, point)
      if (reached) report.reached++
      report.faults.push(...faults.map(fault => `${verb}, ${textOf(point)}: ${fault}`))
    }
  }
  await leave(scene)
  return report
}

if (import.meta.main) {
  const [name = '', share = '0', shares = '1', many = 'all'] = process.argv.slice(2)
  console.log(JSON.stringify(await disturb(name, { share: Number(share), shares: Number(shares), many })))
}
