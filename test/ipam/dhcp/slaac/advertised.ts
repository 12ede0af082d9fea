/** Advertisements as a router could send them, for stories. */
import type { AdvertisedPrefix, Advertisement } from '../../../../ipam/dhcp/slaac/advertisement.ts'

export const MADE = 'fd00:9::aa:bbff:fecc:dd'
export const ROUTER = 'fe80::1'
export const OTHER = 'fe80::2'

export const prefix = (more: Partial<AdvertisedPrefix> = {}): AdvertisedPrefix => ({
  prefix: 'fd00:9::',
  length: 64,
  onLink: true,
  autonomous: true,
  validSeconds: 100,
  preferredSeconds: 50,
  ...more,
})

export const advertisement = (more: Partial<Advertisement> = {}): Advertisement => ({
  router: ROUTER,
  lifetimeSeconds: 1800,
  preference: 0,
  managed: false,
  other: false,
  prefixes: [prefix()],
  routes: [],
  nameServers: [],
  search: [],
  ...more,
})
