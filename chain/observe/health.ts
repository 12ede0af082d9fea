/** Whether an attachment is as its runtime thinks it is, in a few words. Pure. */
import type { Attachment } from './model.ts'

export interface Health {
  isHealthy: boolean
  /** "healthy", or what is wrong: short enough for a table. */
  says: string
}

export function healthOf({ label, link, host, ifname, disagreements, cache, evidence }: Attachment): Health {
  const ill = (says: string): Health => ({ isHealthy: false, says })
  if (label === 'orphan') return ill('gone')
  if (label === 'foreign') return { isHealthy: true, says: 'not of CNI' }
  if (!cache) return ill('no cache')
  if (!link) return ill(evidence[0]?.includes('has no') ? `no ${ifname}` : 'cannot be seen')
  if (!link.up) return ill(`${ifname} is down`)
  if (host && !host.up) return ill(`${host.name} is down`)
  const [first] = disagreements
  return first ? ill(`${first.about} differ`) : { isHealthy: true, says: 'healthy' }
}
