/** What flannel's `delegate` may hold. */
import { type JsonObject, lookup } from '../../chain/protocol/configuration.ts'

/** flannel sets them itself. */
export const leavesNameAndIpam = (given: JsonObject) =>
  lookup(given, 'name') === undefined && lookup(given, 'ipam') === undefined

/** Any plugin but flannel, or none. */
export function isOfAnotherType(given: JsonObject): boolean {
  const type = lookup(given, 'type')
  return type === undefined || (typeof type === 'string' && type !== '' && type !== 'flannel')
}
