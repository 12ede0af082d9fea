/** What bandwidth's configuration may hold beyond the types of its keys. */
import { canonicalCidr } from '../../chain/ip/text.ts'

export const isWhole = (value: number) => Number.isInteger(value)

export const isNetwork = (text: string) => canonicalCidr(text) !== undefined
