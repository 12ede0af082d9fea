/** Sockets of any family on the program's own event loop: one loop hears thousands, and none waits for another. */
import { close, duplicate } from './libc/file.ts'

export interface EventHandlers {
  /** One datagram, or as much of a stream as came. */
  received(bytes: Uint8Array): void
  /** The socket has failed, as a packet socket does when its link goes down; it is closed already. */
  failed(error: Error): void
}

export interface EventSocket {
  /** False once it was closed or has failed: its descriptor's number may be another socket's by then. */
  isOpen(): boolean
  /** Closes the descriptor too. */
  close(): void
}

/**
 * Receives from a non-blocking socket. The descriptor belongs to the event socket from now on. One that `lingers` is closed on
 * another thread, some time later: what is bound to is bound to until then.
 */
export function openEventSocket(
  descriptor: number,
  handlers: EventHandlers,
  { lingers = false } = {},
): EventSocket {
  let open = true
  const fail = (error: Error) => {
    if (open) handlers.failed(error)
    open = false
  }
  const options: Bun.FdSocketOptions = {
    fd: descriptor,
    socket: {
      data: (_socket, bytes) => {
        if (open) handlers.received(bytes)
      },
      close: (_socket, error) => fail(error ?? new Error('the socket was closed')),
      error: (_socket, error) => fail(error),
    },
  }
  // Bun takes a descriptor of any socket here, and reads it a datagram at a time; its types know that of listeners only
  const opening = Bun.connect(options as unknown as Bun.UnixSocketOptions)
  opening.catch((error: Error) => {
    close(descriptor) // Bun, which could not take it, has left it open
    fail(error)
  })
  return {
    isOpen: () => open,
    close() {
      if (open && lingers) closeElsewhere(duplicate(descriptor))
      open = false
      opening.then(
        socket => socket.terminate(),
        () => undefined,
      )
    },
  }
}

/**
 * Closes a descriptor on another thread. A packet socket's last close waits until every processor has let go of it: 15 ms
 * during which the loop would stand still.
 */
export function closeElsewhere(descriptor: number): void {
  import('node:fs').then(({ close }) => close(descriptor, () => undefined))
}
