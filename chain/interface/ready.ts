/** Waiting until a link of the host carries frames: an ADD that ends before loses its container's first packet, for a second. */
import { findLink, type Link } from '../linux/netlink/link.ts'
import { awaitEvent, openEvents, type Transport } from '../linux/netlink/socket.ts'

const LINK_EVENTS = 1 // RTNLGRP_LINK
const MILLISECONDS = 2550 // the Go plugin's patience in all

const isUp = (link: Link) => link.state === 'up'

/**
 * The link, once it is as asked for, or as it is when patience has ended; undefined when it is gone. A pair whose ends are up, or a
 * bridge with its first port, drops what it is to send until the kernel has come to the event of that: at once where nothing
 * else runs. With a recent kernel it comes to it by this very look (linkwatch_sync_dev), so look even where it is up for sure.
 */
export function awaitLink(host: Transport, index: number, isReady = isUp): Link | undefined {
  let seen: Link | undefined
  const look = () => {
    seen = findLink(host, index)
    return seen === undefined || isReady(seen)
  }
  if (look()) return seen
  using events = openEvents(LINK_EVENTS)
  if (!look()) awaitEvent(events, look, MILLISECONDS)
  return seen
}
