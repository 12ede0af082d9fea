/** What all that the system refuses has in common, whichever part of it refused: libc, netlink, nftables, iptables, D-Bus. */

export interface FailureParts {
  /** What was being done: "open /etc/hosts", "apply nftables rules". */
  operation: string
  /** To what, where the operation does not say it: a command of the ruleset, a table, a method of the bus. */
  subject?: string | undefined
  /** To be compared with `errno.X`; undefined where a program gave none. */
  errno?: number | undefined
  /** The other side's own words. */
  said?: string | undefined
}

/** The message is the sentence for a person; the parts are for who has to tell failures apart. */
export class SystemFailure extends Error {
  readonly operation: string
  readonly subject: string | undefined
  readonly errno: number | undefined
  readonly said: string | undefined

  constructor(message: string | undefined, { operation, subject, errno, said }: FailureParts) {
    super(message)
    this.operation = operation
    this.subject = subject
    this.errno = errno
    this.said = said
  }
}

const ENOENT = 2

/** There is no such thing, or none any more. */
export function isNotFound(thrown: unknown): thrown is SystemFailure {
  return thrown instanceof SystemFailure && thrown.errno === ENOENT
}
