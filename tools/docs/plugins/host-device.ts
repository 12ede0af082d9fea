/** The page on host-device. */
import { dnsKeys, ipamKeys, type Page } from '../page.ts'

export const page: Page = {
  line: 'Moves a device of the host into the container, and back on DEL.',
  keys: {
    device: 'The device’s name. Of the selectors the first that is given counts, in this order.',
    hwaddr: 'The device’s hardware address.',
    kernelpath: 'Its folder below `/sys/devices`.',
    pciBusID: 'Its place on the PCI bus, such as `0000:00:1f.6`.',
    DPDKMode: 'The device is a program’s, not the kernel’s: nothing is moved.',
    'runtimeConfig.deviceID': 'A PCI or auxiliary device that the runtime’s device plugin has chosen.',
    ...dnsKeys,
    ...ipamKeys,
  },
  makes: [
    'The device is in the container, named CNI_IFNAME, in one step of the kernel; its alias keeps the old name.',
    'DEL brings it back under its old name, down, and releases the addresses. If the namespace has gone and the kernel has sent the device home, it gets its name back.',
  ],
  look: [{ run: 'ip -n web -d link show eth0', shows: 'alias nic0' }],
  refusals: [
    {
      change: { device: 'nic9' },
      code: 7,
      says: 'nic9',
      remedy: '`ip link` shows the host’s devices; a device that a container has is not among them.',
    },
    {
      change: { device: undefined },
      code: 7,
      says: 'specify either "device", "hwaddr", "kernelpath" or "pciBusID"',
      remedy: 'Name one.',
    },
  ],
  differs: [
    'Moved and renamed in one step of the kernel, no namespace in between.',
    'No wait for IPv6.',
    'A failed ADD brings the device back as it was, up again.',
    'A second ADD leaves the live attachment alone.',
    'CHECK wants the alias that holds the old name.',
    'DEL always releases the address, works without namespace, without device and with a selector that leads nowhere, and gives a device that the kernel sent home its name back.',
    'GC.',
  ],
  example: {
    host: ['ip link add nic0 type veth peer name nic1', 'ip link set nic1 up'],
    plugins: [
      {
        type: 'host-device',
        device: 'nic0',
        ipam: { type: 'host-local', ranges: [[{ subnet: '10.34.0.0/24' }]] },
      },
    ],
  },
}
