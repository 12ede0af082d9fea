/** Results of an ADD: the newest version's shape is what plugins see; older ones are conversions. Pure. */

/** The shape of version 1.1.0, with its lists always present. */
export interface Result {
  interfaces: Interface[]
  ips: IpConfig[]
  routes: Route[]
  dns: Dns
}

export interface Interface {
  name: string
  mac?: string
  mtu?: number
  /** Path of the namespace; absent or empty for an interface on the host. */
  sandbox?: string
  socketPath?: string
  pciID?: string
}

export interface IpConfig {
  /** Address with prefix length: "10.1.0.5/16". */
  address: string
  gateway?: string
  /** Index into `interfaces`. */
  interface?: number
}

export interface Route {
  dst: string
  gw?: string
  mtu?: number
  advmss?: number
  priority?: number
  table?: number
  scope?: number
}

export interface Dns {
  nameservers?: string[]
  domain?: string
  search?: string[]
  options?: string[]
}

/** A result with nothing in it. */
export function emptyResult(): Result {
  return { interfaces: [], ips: [], routes: [], dns: {} }
}
