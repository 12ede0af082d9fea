import { afterAll, describe, expect, test } from 'bun:test'
import { mkdirSync, writeFileSync } from 'node:fs'
import type { z } from 'zod/mini'
import { removeLink } from '../../chain/linux/netlink/link.ts'
import { matchKeys } from '../../chain/protocol/by-schema.ts'
import { conflistOf } from '../../tools/docs/markdown.ts'
import type { Page } from '../../tools/docs/page.ts'
import { pages } from '../../tools/docs/pages.ts'
import { describedKey, schemaOf, types } from '../../tools/docs/schemas.ts'
import { removeBridges } from '../fixtures/bridge.ts'
import { hostNamespace } from '../fixtures/namespace.ts'
import { ours } from '../fixtures/plugin.ts'
import { daemonAt, dnsmasq } from '../ipam/dhcp/network.ts'
import { type Feature, testOn } from '../kernel/features.ts'

afterAll(() => {
  using host = hostNamespace()
  for (const name of ['uplink0', 'nic0']) removeLink(host.route, name)
  removeBridges()
})

/** A command as the page has it, in a host's shell. Not synchronous: the daemon of dhcp is in this process. */
async function shell(command: string): Promise<{ status: number; output: string }> {
  const child = Bun.spawn(['sh', '-c', `${command} 2>&1`], {
    env: { PATH: `${process.env.PATH}:${ours}`, CNI_PATH: ours },
    stdout: 'pipe',
    stdin: 'ignore',
  })
  const output = await child.stdout.text()
  return { status: await child.exited, output }
}

async function mustRun(command: string): Promise<string> {
  const { status, output } = await shell(command)
  if (status !== 0) throw new Error(`${command}: status ${status}: ${output}`)
  return output
}

const CONFIGURATIONS = '/etc/cni/net.d'

function writeList(type: string, list: object): void {
  mkdirSync(CONFIGURATIONS, { recursive: true })
  writeFileSync(`${CONFIGURATIONS}/example-${type}.conflist`, JSON.stringify(list))
}

async function prepare({ host = [], daemon }: Page['example']) {
  using place = hostNamespace()
  for (const name of ['uplink0', 'nic0']) removeLink(place.route, name)
  removeBridges()
  for (const command of host) await mustRun(command)
  if (daemon === undefined) return { async [Symbol.asyncDispose]() {} }
  const server = await dnsmasq(hostNamespace(), { interface: 'lan0' })
  const running = await daemonAt('/run/cni/dhcp.sock')
  return {
    async [Symbol.asyncDispose]() {
      await running.end()
      await server.stop()
    },
  }
}

/** The plugin's own object in the example changed. */
function changedList(type: string, { example }: Page, change: object): object {
  const isOwn = (plugin: object) => (plugin as { type: string }).type === type
  const owner = example.plugins.find(isOwn) ?? example.plugins[0]
  const plugins = example.plugins.map(plugin => (plugin === owner ? { ...plugin, ...change } : plugin))
  return { ...conflistOf(type, example), plugins }
}

async function runExample(type: string, page: Page): Promise<void> {
  const { example, look, refusals } = page
  await using _host = await prepare(example)
  const name = `example-${type}`
  const handed = example.capabilities ? ` --cap-args '${JSON.stringify(example.capabilities)}'` : ''
  writeList(type, conflistOf(type, example))
  await mustRun(`catena add ${name} web --create${handed}`)
  try {
    for (const { run, shows } of look) expect(await mustRun(run)).toContain(shows)
    await mustRun(`catena check ${name} web`)
    await mustRun(`catena del ${name} web`)
    for (const { run, shows, stays = false } of look) {
      const { output } = await shell(run)
      expect({ run, isSeen: output.includes(shows) }).toEqual({ run, isSeen: stays })
    }
  } catch (thrown) {
    await shell(`catena del ${name} web`) // others have the same addresses
    throw thrown
  } finally {
    await mustRun('umount /run/netns/web && rm /run/netns/web')
  }
  for (const { change, code, says } of refusals) {
    writeList(type, changedList(type, page, change))
    const { status, output } = await shell(`catena add ${name} refused --create --json${handed}`)
    expect({ change, status, output }).toEqual({ change, status: 1, output: expect.stringContaining('{') })
    const error = JSON.parse(output.slice(output.indexOf('{\n')))
    expect({ change, code: error.code, said: `${error.msg}: ${error.details}` }).toEqual({
      change,
      code,
      said: expect.stringContaining(says),
    })
  }
}

for (const type of types) {
  const page = pages[type]
  if (!page) throw new Error(`there is no page on ${type}`)
  const title = `the page on ${type}: its example lives, shows what it says, and its errors are these`
  const needs = page.example.needs as readonly Feature[] | undefined
  if (needs) testOn(needs, title, () => runExample(type, page))
  else test(title, () => runExample(type, page))
}

/** What a schema says about a value at a place, whatever else is missing: issues there, or at what holds it. */
function issuesAt(schema: z.ZodMiniType, path: string, value: unknown, beside: object): string[] {
  const steps = path.split(/\.|(?=\[)/).flatMap((step): (string | number)[] => (step === '[]' ? [0] : [step]))
  const whole = steps.reduceRight<unknown>(
    (inner, step) => (step === 0 ? [inner] : { [String(step)]: inner }),
    value,
  )
  const outcome = schema.safeParse(matchKeys(schema as never, { ...beside, ...(whole as object) }))
  const issues = outcome.success ? [] : outcome.error.issues
  return issues
    .filter(
      ({ path: at }) => at.length > 0 && at.every((step, index) => String(step) === String(steps[index])),
    )
    .map(({ message }) => message)
}

const limited = types.flatMap(type =>
  Object.entries(pages[type]?.keys ?? {}).flatMap(([path, text]) => {
    const { values, minimum, maximum } = describedKey(text)
    return values || minimum !== undefined || maximum !== undefined
      ? [[type, path, describedKey(text)] as const]
      : []
  }),
)

describe('what a page says about bounds beyond the schema is what the plugin takes', () => {
  test.each(limited)('%s: %s', async (type, path, { values, minimum, maximum, beside = {} }) => {
    const schema = await schemaOf(type)
    if (!schema) throw new Error(`${type} has no schema`)
    const partner = path.endsWith('.minID') || path.endsWith('.maxID')
    const inside = partner
      ? []
      : [...(values ?? []), ...[minimum, maximum].filter(each => each !== undefined)]
    for (const value of inside)
      expect({ value, issues: issuesAt(schema, path, value, beside) }).toEqual({ value, issues: [] })
    const outside = [
      ...(values ? ['something else'] : []),
      ...(minimum === undefined ? [] : [minimum - 1]),
      ...(maximum === undefined ? [] : [maximum + 1]),
    ]
    for (const value of outside)
      expect({ value, refused: issuesAt(schema, path, value, beside).length > 0 }).toEqual({
        value,
        refused: true,
      })
  })
})
