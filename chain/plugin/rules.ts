/** Rules that several plugins' configurations have. What is said where one is broken stands in the schemas. */
import { parseAddress, parseCidr } from '../ip/address.ts'

/** Whether a value is text. */
export const isText = (value: unknown) => typeof value === 'string'

/** An address with its prefix length. */
export const isCidr = (text: string) => parseCidr(text) !== undefined

/** An address, or nothing. */
export const isAddressOrEmpty = (text: string) => text === '' || parseAddress(text) !== undefined

/** What iptables takes as the name of a chain, or nothing; over netlink nf_tables takes it as well. */
export const isChainName = (name: string) => /^((?![!-])[\x21-\x7e]{1,28})?$/.test(name)

/** What is no backend is refused where addresses are to be masqueraded; elsewhere it is passed over. */
export const isKnownMasqueradeBackend = ({
  ipMasq,
  ipMasqBackend = '',
}: {
  ipMasq: boolean
  ipMasqBackend?: string | undefined
}) => !ipMasq || ipMasqBackend === '' || ipMasqBackend === 'iptables' || ipMasqBackend === 'nftables'
