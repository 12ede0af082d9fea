/** What tuning's tests share: a container at a cable, and what is tuned at its interface. */
import { existsSync, readdirSync } from 'node:fs'
import { connect, freshNamespace, type Namespace } from '../../fixtures/namespace.ts'
import type { Call } from '../../fixtures/plugin.ts'

export const allowlist = '/etc/cni/tuning/allowlist.conf'

export const folder = '/run/cni/tuning'

export const mac = '02:00:00:00:00:42'

/** A container with one end of a cable; the other end is another namespace. */
export function wired(name = 'eth0') {
  const container = freshNamespace('container')
  const neighbour = freshNamespace('neighbour')
  connect(
    { namespace: container, name, addresses: ['10.1.0.2/24', 'fd00::2/64'] },
    { namespace: neighbour, name: 'eth0', addresses: ['10.1.0.1/24', 'fd00::1/64'] },
  )
  return {
    container,
    neighbour,
    [Symbol.dispose]() {
      container[Symbol.dispose]()
      neighbour[Symbol.dispose]()
    },
  }
}

export function resultFor(container: Namespace, name = 'eth0') {
  return {
    cniVersion: '1.1.0',
    interfaces: [
      { name: 'veth1' },
      { name, mac: container.link(name).address, sandbox: container.path, mtu: 1500 },
    ],
    ips: [
      { address: '10.1.0.2/24', interface: 1 },
      { address: 'fd00::2/64', interface: 1 },
    ],
  }
}

export function callFor(container: Namespace, config: object, more: Call = {}): Call {
  const { interface: name = 'eth0' } = more
  return { netns: container, ...more, config: { prevResult: resultFor(container, name), ...config } }
}

export const attributesOf = (container: Namespace, name = 'eth0') => {
  const { address, mtu, promiscuous, allMulticast, transmitQueueLength } = container.link(name)
  return { address, mtu, promiscuous, allMulticast, transmitQueueLength }
}

export const allAttributes = { mac, mtu: 1400, promisc: true, allmulti: true, txQLen: 321 }

export const tuned = {
  address: mac,
  mtu: 1400,
  promiscuous: true,
  allMulticast: true,
  transmitQueueLength: 321,
}

export const backups = () => (existsSync(folder) ? readdirSync(folder) : [])
