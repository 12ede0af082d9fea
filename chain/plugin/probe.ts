/** Tries in an empty namespace whether the kernel has what a plugin needs, for STATUS: modules are loaded as ADD would load them. */
import { SystemError } from '../linux/libc/errno.ts'
import { close } from '../linux/libc/file.ts'
import { KernelError, openRoute, type Transport } from '../linux/netlink/socket.ts'
import { inNamespace, openNewNamespace } from '../linux/netns.ts'
import { CniError, code } from '../protocol/error.ts'

/** Runs a trial in a namespace of its own, which vanishes. Code 50, with the kernel's words, when it is refused. */
export function requireKernel(what: string, trial: (route: Transport) => void): void {
  try {
    inEmptyNamespace(trial)
  } catch (thrown) {
    if (!(thrown instanceof KernelError || thrown instanceof SystemError)) throw thrown
    throw new CniError(code.pluginNotAvailable, `this node's kernel does not provide ${what}`, {
      details: thrown.message,
      cause: thrown,
    })
  }
}

function inEmptyNamespace(trial: (route: Transport) => void): void {
  const namespace = openNewNamespace()
  try {
    using route = inNamespace(namespace, openRoute)
    trial(route)
  } finally {
    close(namespace)
  }
}
