/** What the tests of ports that iptables publishes share. */
import type { Chain } from '../../fixtures/chain.ts'
import { saved, type variants } from '../../fixtures/iptables.ts'
import type { Namespace } from '../../fixtures/namespace.ts'
import { type Published, published as publishedAnyhow } from './place.ts'

/** A container with ports that iptables publishes. */
export const published = (container: Namespace, { bridge = {}, config = {}, ...rest }: Published): Chain =>
  publishedAnyhow(container, {
    bridge: { ipMasqBackend: 'iptables', ...bridge },
    config: { backend: 'iptables', ...config },
    ...rest,
  })

export const families = ['ip', 'ip6'] as const

/** Both families' rules that belong to a container. */
export const ownRules = (variant: (typeof variants)[number]) =>
  [...saved(variant, 'ip'), ...saved(variant, 'ip6')].filter(line => /CNI-DN-|CNI-[0-9a-f]{24}/.test(line))

/** A configuration with the result of a plugin before it, for what needs no container. */
export function chained(config: object, mappings: object[], name = 'eth0') {
  return {
    type: 'portmap',
    backend: 'iptables',
    ...config,
    runtimeConfig: { portMappings: mappings },
    prevResult: {
      cniVersion: '1.1.0',
      interfaces: [{ name, sandbox: '/run/netns/none' }],
      ips: [
        { address: '10.1.0.2/16', interface: 0 },
        { address: 'fd00:1::2/64', interface: 0 },
      ],
    },
  }
}
