/** What the service counts and tells: percentiles, words, Prometheus. */
import { expect, test } from 'bun:test'
import { close } from '../../chain/linux/libc/file.ts'
import { boundOf, createScoreboard } from '../../chain/service/scoreboard.ts'
import { describeStatus, percentile, prometheusText, statusDocument } from '../../chain/service/status.ts'

function scoreboardWith(milliseconds: readonly number[]) {
  const { descriptor, scoreboard } = createScoreboard(['bridge', 'tuning'])
  close(descriptor)
  scoreboard.enter(2, 4711)
  for (const each of milliseconds)
    scoreboard.count(2, { plugin: 'tuning', verb: 'ADD', milliseconds: each, failed: each > 50 })
  return scoreboard
}

test('a percentile is at most a fifth above what was measured, from microseconds to minutes', () => {
  for (const milliseconds of [0.07, 0.5, 3, 42, 1800, 60_000]) {
    const [times] = scoreboardWith([milliseconds]).times()
    const told = percentile(times?.buckets ?? [], 0.5)
    expect(told / milliseconds).toBeGreaterThanOrEqual(1)
    expect(told / milliseconds).toBeLessThan(1.2)
  }
})

test('times are told by plugin and verb, with the mean of all and the worst of few', () => {
  const scoreboard = scoreboardWith([...Array(98).fill(1), 40, 100])
  expect(statusDocument(scoreboard)).toMatchObject({
    calls: 100,
    failed: 1,
    workers: [{ slot: 2, process: 4711, state: 'idle', calls: 100 }],
    times: [{ plugin: 'tuning', verb: 'ADD', calls: 100, failed: 1, sum: 238 }],
  })
  const [times] = statusDocument(scoreboard).times
  expect(times?.p90).toBeLessThan(1.2)
  expect(times?.p99).toBeGreaterThanOrEqual(40)
  expect(times?.max).toBeGreaterThanOrEqual(100)
})

test('a worker that does something says what; refusals are counted by their reason', () => {
  const scoreboard = scoreboardWith([])
  scoreboard.enter(3, 4712)
  expect(scoreboard.occupy(2)).toBe(false)
  expect(scoreboard.occupy(3)).toBe(true)
  scoreboard.note(3, 'bridge', 'DEL')
  expect([scoreboard.refuse('other rights'), scoreboard.refuse('other rights')]).toEqual([0, 1])
  const status = statusDocument(scoreboard)
  expect(status.workers[1]).toMatchObject({ slot: 3, state: 'busy', plugin: 'bridge', verb: 'DEL' })
  const words = describeStatus(status, (status.workers[1]?.since ?? 0) + 7)
  expect(words).toMatch(/4712 +DEL of bridge for 7 s/)
  expect(words).toMatch(/other rights +2/)
  scoreboard.release(3)
  expect([scoreboard.retire(3, 2), scoreboard.retire(3, 1), scoreboard.retire(2, 1)]).toEqual([
    false,
    true,
    false,
  ])
  scoreboard.leave(3)
  expect(scoreboard.occupy(2)).toBe(true)
  expect(scoreboard.workers().map(({ slot }) => slot)).toEqual([2])
})

test('Prometheus reads counters and histograms whose buckets only grow, and end in all calls', () => {
  const text = prometheusText(statusDocument(scoreboardWith([0.05, 1, 1, 2000])))
  const buckets = [...text.matchAll(/_bucket\{.*le="(.*)"\} (\d+)/g)].map(([, le, count]) => [
    Number(le),
    Number(count),
  ])
  expect(buckets.at(-1)).toEqual([Number.NaN, 4]) // +Inf
  const counts = buckets.map(([, count]) => count ?? 0)
  expect(counts).toEqual(counts.toSorted((one, other) => one - other))
  expect(text).toContain('catena_warm_call_seconds_sum{plugin="tuning",verb="ADD"} 2.00205')
  expect(text).toContain('catena_warm_workers{state="idle"} 1')
  for (const line of text.trimEnd().split('\n'))
    expect(line).toMatch(/^(# (HELP|TYPE) \w+ .+|\w+(\{.*\})? [\d.e+-]+)$/)
})

test('bounds grow by a quarter of a doubling', () => {
  expect([boundOf(0), boundOf(4), boundOf(8)]).toEqual([0.064, 0.128, 0.256])
})
