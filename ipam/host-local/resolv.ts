/** resolv.conf(5) as the Go plugin reads it. Pure. */
import type { Dns } from '../../chain/protocol/result.ts'

export function parseResolvConf(text: string): Dns {
  const dns: Dns = {}
  for (const line of text.split('\n').map(each => each.trim())) {
    const [keyword, first, ...rest] = line.split(/\s+/)
    if (first === undefined || line.startsWith('#') || line.startsWith(';')) continue
    if (keyword === 'nameserver') dns.nameservers = [...(dns.nameservers ?? []), first]
    else if (keyword === 'domain') dns.domain = first
    else if (keyword === 'search') dns.search = [...(dns.search ?? []), first, ...rest]
    else if (keyword === 'options') dns.options = [...(dns.options ?? []), first, ...rest]
  }
  return dns
}
