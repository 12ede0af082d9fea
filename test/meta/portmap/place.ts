/** What portmap's tests share: containers behind a bridge with published ports. */
import { bridge } from '../../../main/bridge.ts'
import { portmap } from '../../../meta/portmap.ts'
import { type Chain, chainOf } from '../../fixtures/chain.ts'
import type { Namespace } from '../../fixtures/namespace.ts'
import { peers } from '../../fixtures/plugin.ts'

export { elements, outsideHost, removeBridges } from '../../fixtures/bridge.ts'

const ipam = { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/16' }], [{ subnet: 'fd00:1::/64' }]] }

export const bridgeConfig = { type: 'bridge', bridge: 'cni0', isDefaultGateway: true, ipMasq: true, ipam }

export interface Published {
  mappings: object[]
  config?: object
  containerId?: string
  name?: string
  interface?: string
  bridge?: object
}

/** A container behind the bridge with published ports. */
export function published(container: Namespace, options: Published): Chain {
  const { mappings, config = {}, bridge: more = {}, ...rest } = options
  return chainOf(
    [
      { plugin: bridge, config: { ...bridgeConfig, ...more } },
      { plugin: portmap, config: { type: 'portmap', ...config, runtimeConfig: { portMappings: mappings } } },
    ],
    { netns: container, path: peers, ...rest },
  )
}

/** Another network, 10.N.0.0/16 on bridge cniN, with ethN of a container. */
export const network = (number: number) => ({
  interface: `eth${number}`,
  name: `network-${number}`,
  bridge: {
    bridge: `cni${number}`,
    isDefaultGateway: false,
    isGateway: true,
    ipam: { type: 'host-local', subnet: `10.${number}.0.0/16` },
  },
})

/** Port 80 of a container on a port of the host. */
export const http = (hostPort: number, more: object = {}) => ({
  hostPort,
  containerPort: 80,
  protocol: 'tcp',
  ...more,
})
