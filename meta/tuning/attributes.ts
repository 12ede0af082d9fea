/** Attributes of an interface that tuning sets, saves and restores: one table, a row each. */
import type { Link } from '../../chain/linux/netlink/link.ts'
import type { LinkSettings } from '../../chain/linux/netlink/link-kind.ts'

/** Values by the names that the configuration and the backup file use; absent ones are left alone. */
export interface Attributes {
  mac?: string | undefined
  promisc?: boolean | undefined
  mtu?: number | undefined
  allmulti?: boolean | undefined
  txQLen?: number | undefined
}

export type AttributeName = keyof Attributes

interface Row {
  /** For people. */
  label: string
  of(link: Link): string | number | boolean
  settings(value: never): LinkSettings
}

/** In the order in which they are set. */
const rows: Readonly<Record<AttributeName, Row>> = {
  mac: { label: 'Ethernet', of: link => link.address, settings: (address: string) => ({ address }) },
  promisc: {
    label: 'promisc',
    of: link => link.promiscuous,
    settings: (promiscuous: boolean) => ({ promiscuous }),
  },
  mtu: { label: 'MTU', of: link => link.mtu, settings: (mtu: number) => ({ mtu }) },
  allmulti: {
    label: 'all-multicast mode',
    of: link => link.allMulticast,
    settings: (allMulticast: boolean) => ({ allMulticast }),
  },
  txQLen: {
    label: 'Transmit Queue Length',
    of: link => link.transmitQueueLength,
    settings: (transmitQueueLength: number) => ({ transmitQueueLength }),
  },
}

export const attributeNames = Object.keys(rows) as AttributeName[]

/** The names of those attributes that are given. */
export function namesIn(attributes: Attributes): AttributeName[] {
  return attributeNames.filter(name => attributes[name] !== undefined)
}

/** What a link has now, of the named attributes. */
export function currentOf(link: Link, names: readonly AttributeName[]): Attributes {
  return Object.fromEntries(names.map(name => [name, rows[name].of(link)]))
}

/** One attribute as settings of a link. */
export function settingsOf(attributes: Attributes, name: AttributeName): LinkSettings {
  return rows[name].settings(attributes[name] as never)
}

/** Says how a link differs from what is expected, a sentence each. */
export function differencesOf(link: Link, expected: Attributes): string[] {
  return namesIn(expected)
    .filter(name => rows[name].of(link) !== expected[name])
    .map(
      name =>
        `Error: Tuning configured ${rows[name].label} of ${link.name} is ${expected[name]}, current value is ${rows[name].of(link)}`,
    )
}
