/** Prepares the private host, or the second kernel, that a test runs on: its loopback is up, as on any host. */

import { setLink } from '../chain/linux/netlink/link.ts'
import { openRoute } from '../chain/linux/netlink/socket.ts'

if (process.env.CATENA_PRIVATE_HOST || process.env.CATENA_TEST_RESULTS) {
  using route = openRoute()
  setLink(route, 'lo', { up: true })
}
