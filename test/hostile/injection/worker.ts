/**
 * Disturbs a share of a case's points, on a private host of its own; prints what came of it as JSON.
 * usage: worker.ts CASE SHARE SHARES MANY      MANY: points of a verb in all shares, or `all`
 */
import { cases } from './cases.ts'
import { callsOf, type DisturbedVerb, judge, sceneOf } from './judge.ts'
import { type Point, pointsAt, sampleOf, textOf } from './points.ts'

export interface Report {
  /** Points that were reached. */
  reached: number
  faults: string[]
}

const [name, share = '0', shares = '1', many = 'all'] = process.argv.slice(2)
const judged = cases.find(each => each.name === name)
if (!judged) throw new Error(`there is no case ${name}`)
const scene = await sceneOf(judged)
const report: Report = { reached: 0, faults: [] }

async function disturb(verb: DisturbedVerb, points: readonly Point[]): Promise<void> {
  for (const [index, point] of points.entries()) {
    if (index % Number(shares) !== Number(share)) continue
    const { reached, faults } = await judge(scene, verb, point)
    if (reached) report.reached++
    report.faults.push(...faults.map(fault => `${verb}, ${textOf(point)}: ${fault}`))
  }
}

for (const verb of ['ADD', 'DEL'] as const) {
  const points = pointsAt(await callsOf(scene, verb))
  await disturb(verb, many === 'all' ? points : sampleOf(points, Number(many)))
}
scene.container[Symbol.dispose]()
console.log(JSON.stringify(report))
