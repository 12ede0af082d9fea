/** firewalld: a container's addresses as sources of one of its zones, over D-Bus. */
import type { Bus } from '../../chain/linux/dbus/connection.ts'
import { status } from '../../chain/linux/libc/status.ts'
import { CniError, code, toCniError } from '../../chain/protocol/error.ts'
import { hostCidr } from './ingress.ts'

const NAME = 'org.fedoraproject.FirewallD1'
const ZONES = { path: '/org/fedoraproject/FirewallD1', interface: `${NAME}.zone` }
const USUAL_SOCKET = '/run/dbus/system_bus_socket'

type Environment = Readonly<Record<string, string | undefined>>

/** Calls a method of firewalld's zones. */
type Zones = (member: 'addSource' | 'removeSource' | 'querySource', args: string[]) => ReturnType<Bus['call']>

/**
 * Calls firewalld; undefined when it does not run, or there is no bus. D-Bus is loaded where there may be one. Throws CniError
 * where there is a bus that does not answer: whether firewalld runs, and what it has, is not known then.
 */
async function withFirewalld<T>(
  env: Environment,
  body: (zones: Zones) => Promise<T>,
): Promise<T | undefined> {
  const address = env.DBUS_SYSTEM_BUS_ADDRESS
  if (!address && !status(USUAL_SOCKET)) return undefined
  const { connectSystemBus, NoBusError, ownerOfName } = await import('../../chain/linux/dbus/connection.ts')
  try {
    using bus = await connectSystemBus(address || undefined)
    const owner = await ownerOfName(bus, NAME)
    if (owner === undefined) return undefined
    return await body((member, args) => bus.call({ ...ZONES, destination: owner, member, args }))
  } catch (thrown) {
    if (!(thrown instanceof NoBusError)) throw thrown
    if (!thrown.isThere) return undefined
    throw new CniError(
      code.tryAgainLater,
      `ask firewalld: the system bus does not answer: ${thrown.message}`,
      {
        details: 'is dbus-daemon or dbus-broker stuck? `busctl list` should answer at once',
        cause: thrown,
      },
    )
  }
}

export async function isRunning(env: Environment): Promise<boolean> {
  return (await withFirewalld(env, async () => true)) ?? false
}

/** As `withFirewalld`, for what cannot be done without it. */
async function mustRun<T>(env: Environment, body: (zones: Zones) => Promise<T>): Promise<T> {
  const ran = await withFirewalld(env, async zones => ({ value: await body(zones) }))
  if (ran) return ran.value
  throw new CniError(code.internal, 'firewalld is not running', {
    details: `${NAME} has no owner on the system bus; start firewalld, or set backend to nftables`,
  })
}

export interface Sources {
  zone: string
  addresses: readonly string[]
}

/** Addresses in a zone. */
export function sourcesIn(env: Environment, sources: Sources) {
  return { add: () => addSources(env, sources), check: () => missingSource(env, sources) }
}

/** Adds the addresses to a zone. One that is there already is fine. */
async function addSources(env: Environment, { zone, addresses }: Sources): Promise<void> {
  await mustRun(env, async zones => {
    for (const address of addresses)
      await change(zones, 'addSource', { zone, address, fine: 'ZONE_ALREADY_SET' })
  })
}

/** Takes the addresses out of a zone, where firewalld runs: it forgets them when it ends. */
export async function removeSources(env: Environment, { zone, addresses }: Sources): Promise<void> {
  await withFirewalld(env, async zones => {
    for (const address of addresses)
      await change(zones, 'removeSource', {
        zone,
        address,
        fine: /UNKNOWN_SOURCE|ZONE_CONFLICT|INVALID_ZONE/,
      })
  })
}

async function change(
  zones: Zones,
  member: 'addSource' | 'removeSource',
  { zone, address, fine }: { zone: string; address: string; fine: string | RegExp },
): Promise<void> {
  try {
    await zones(member, [zone, hostCidr(address)])
  } catch (thrown) {
    const message = thrown instanceof Error ? thrown.message : ''
    if (message.search(fine) >= 0) return
    throw refused(`${member} ${hostCidr(address)} in zone ${zone}`, thrown)
  }
}

/** A bus that was lost is no refusal. */
function refused(what: string, thrown: unknown): unknown {
  if (!(thrown instanceof Error) || thrown.name === 'NoBusError') return thrown
  return new CniError(code.internal, `firewalld refuses ${what}: ${thrown.message}`, {
    details: '`firewall-cmd --get-active-zones` shows the zones and their sources',
    cause: thrown,
  })
}

/** A sentence about the first address that is not in the zone; undefined when all are. */
export async function missingSource(
  env: Environment,
  { zone, addresses }: Sources,
): Promise<string | undefined> {
  return await mustRun(env, async zones => {
    for (const address of addresses) {
      const [isThere] = await zones('querySource', [zone, hostCidr(address)]).catch(thrown => {
        throw refused(`querySource ${hostCidr(address)} in zone ${zone}`, thrown)
      })
      if (isThere !== true) return `firewalld's zone ${zone} has no source ${hostCidr(address)}`
    }
    return undefined
  })
}

/** STATUS: firewalld runs. Code 50. */
export async function requireRunning(env: Environment): Promise<void> {
  const isThere = await isRunning(env).catch(thrown => {
    const { message, details } = toCniError(thrown)
    throw new CniError(code.pluginNotAvailable, message, { details, cause: thrown })
  })
  if (isThere) return
  throw new CniError(code.pluginNotAvailable, 'firewalld is not running', {
    details: `${NAME} has no owner on the system bus`,
  })
}
