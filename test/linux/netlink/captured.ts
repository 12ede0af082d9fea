/** Bytes as the kernel and the usual tools sent them (strace -e write=all,read=all), one comment a field. */
import { CodecError } from '../../../chain/linux/netlink/codec.ts'

/** What comes of reading a message that is cut at each of its lengths: 'read', 'refused', or what else was thrown. */
export function outcomesOfCut(whole: Uint8Array, read: (payload: Uint8Array) => unknown): Set<unknown> {
  const outcomes = Array.from(whole, (_, length) => {
    try {
      read(whole.subarray(0, length))
      return 'read'
    } catch (thrown) {
      return thrown instanceof CodecError ? 'refused' : thrown
    }
  })
  return new Set(outcomes)
}

/** Hexadecimal pairs as bytes; what follows a # is a comment. */
export function bytes(annotated: string): Uint8Array {
  return Uint8Array.from(
    annotated
      .replace(/#.*$/gm, '')
      .split(/\s+/)
      .filter(pair => pair !== ''),
    pair => Number.parseInt(pair, 16),
  )
}

/** `ip link add veth0 type veth peer name eth0`. */
export const createVeth = bytes(`
  5c 00 00 00               # nlmsg_len 92
  10 00                     # RTM_NEWLINK
  05 06                     # NLM_F_REQUEST | NLM_F_ACK | NLM_F_EXCL | NLM_F_CREATE
  10 49 05 6b               # sequence
  00 00 00 00               # port: the kernel fills it in
  00 00 00 00               # ifi_family AF_UNSPEC, ifi_type
  00 00 00 00               # ifi_index
  00 00 00 00               # ifi_flags
  00 00 00 00               # ifi_change
  0a 00 03 00               # IFLA_IFNAME, length 10
  76 65 74 68 30 00         # "veth0\\0"
  00 00                     # padding, outside the length
  30 00 12 00               # IFLA_LINKINFO, length 48
  08 00 01 00 76 65 74 68   # IFLA_INFO_KIND "veth": iproute2 leaves the zero out
  24 00 02 00               # IFLA_INFO_DATA, length 36
  20 00 01 00               # VETH_INFO_PEER, length 32
  00 00 00 00 00 00 00 00   # the peer's struct ifinfomsg
  00 00 00 00 00 00 00 00
  09 00 03 00               # IFLA_IFNAME, length 9
  65 74 68 30 00            # "eth0\\0"
  00 00 00                  # padding
`)

/** `ip address add 10.22.0.1/16 brd + dev veth0`. */
export const addAddress = bytes(`
  30 00 00 00               # nlmsg_len 48
  14 00                     # RTM_NEWADDR
  05 06                     # NLM_F_REQUEST | NLM_F_ACK | NLM_F_EXCL | NLM_F_CREATE
  c6 48 05 6b               # sequence
  00 00 00 00               # port
  02 10 00 00               # AF_INET, prefix length 16, flags, scope
  04 00 00 00               # ifa_index
  08 00 02 00 0a 16 00 01   # IFA_LOCAL 10.22.0.1
  08 00 01 00 0a 16 00 01   # IFA_ADDRESS 10.22.0.1
  08 00 04 00 0a 16 ff ff   # IFA_BROADCAST 10.22.255.255
`)

/** `ip route add 10.9.0.0/16 via 10.22.0.9 dev veth0 mtu 1400 table 1000`. */
export const addRoute = bytes(`
  48 00 00 00               # nlmsg_len 72
  18 00                     # RTM_NEWROUTE
  05 06                     # NLM_F_REQUEST | NLM_F_ACK | NLM_F_EXCL | NLM_F_CREATE
  c6 48 05 6b               # sequence
  00 00 00 00               # port
  02 10 00 00               # AF_INET, destination length 16, source length, tos
  00 03 00 01               # table: see RTA_TABLE, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST
  00 00 00 00               # flags
  08 00 01 00 0a 09 00 00   # RTA_DST 10.9.0.0
  08 00 05 00 0a 16 00 09   # RTA_GATEWAY 10.22.0.9
  08 00 0f 00 e8 03 00 00   # RTA_TABLE 1000
  08 00 04 00 04 00 00 00   # RTA_OIF 4
  0c 00 08 00               # RTA_METRICS, length 12
  08 00 02 00 78 05 00 00   # RTAX_MTU 1400
`)

/** The kernel's answer to a request that it carried out (NETLINK_CAP_ACK is on). */
export const acknowledgement = bytes(`
  24 00 00 00               # nlmsg_len 36
  02 00                     # NLMSG_ERROR
  00 01                     # NLM_F_CAPPED
  c6 48 05 6b               # sequence
  71 2a 00 00               # port
  00 00 00 00               # error 0
  30 00 00 00 14 00 05 06   # header of the request: length 48, RTM_NEWADDR
  c6 48 05 6b 00 00 00 00
`)

/** The kernel's answer to `ip link set veth0 mtu 10` (NETLINK_EXT_ACK is on, the request is echoed whole). */
export const refusal = bytes(`
  60 00 00 00               # nlmsg_len 96
  02 00                     # NLMSG_ERROR
  00 02                     # NLM_F_ACK_TLVS
  c6 48 05 6b               # sequence
  75 2a 00 00               # port
  ea ff ff ff               # error -22: EINVAL
  28 00 00 00 10 00 05 00   # the request: length 40, RTM_NEWLINK
  c6 48 05 6b 00 00 00 00
  00 00 00 00 04 00 00 00   # its struct ifinfomsg: index 4
  00 00 00 00 00 00 00 00
  08 00 04 00 0a 00 00 00   # its IFLA_MTU 10
  21 00 01 00               # NLMSGERR_ATTR_MSG, length 33
  6d 74 75 20 6c 65 73 73   # "mtu less"
  20 74 68 61 6e 20 64 65   # " than de"
  76 69 63 65 20 6d 69 6e   # "vice min"
  69 6d 75 6d 00            # "imum\\0"
  00 00 00                  # padding
`)

/**
 * A port of a bridge, RTM_NEWLINK: put together from a capture of `ip link show`, without the attributes that are not read here,
 * and with other values than the captured ones for flags, states, hairpin and isolated.
 */
export const bridgePort = bytes(`
  00 00 01 00               # AF_UNSPEC, ARPHRD_ETHER
  04 00 00 00               # ifi_index 4
  43 10 01 00               # IFF_UP | IFF_BROADCAST | IFF_RUNNING | IFF_MULTICAST | IFF_LOWER_UP
  00 00 00 00               # ifi_change
  0a 00 03 00               # IFLA_IFNAME, length 10
  76 65 74 68 30 00 00 00   # "veth0\\0", padding
  08 00 0d 00 e8 03 00 00   # IFLA_TXQLEN 1000
  05 00 10 00 06 00 00 00   # IFLA_OPERSTATE IF_OPER_UP
  08 00 04 00 dc 05 00 00   # IFLA_MTU 1500
  08 00 1e 00 01 00 00 00   # IFLA_PROMISCUITY 1
  08 00 0a 00 02 00 00 00   # IFLA_MASTER 2
  0a 00 01 00               # IFLA_ADDRESS, length 10
  c6 fd e8 50 06 40 00 00   # c6:fd:e8:50:06:40, padding
  08 00 05 00 03 00 00 00   # IFLA_LINK 3
  48 00 12 00               # IFLA_LINKINFO, length 72
  09 00 01 00               # IFLA_INFO_KIND, length 9
  76 65 74 68 00 00 00 00   # "veth\\0", padding
  0b 00 04 00               # IFLA_INFO_SLAVE_KIND, length 11
  62 72 69 64 67 65 00 00   # "bridge\\0", padding
  2c 00 05 00               # IFLA_INFO_SLAVE_DATA, length 44
  05 00 01 00 03 00 00 00   # IFLA_BRPORT_STATE forwarding
  06 00 02 00 20 00 00 00   # IFLA_BRPORT_PRIORITY 32
  05 00 04 00 01 00 00 00   # IFLA_BRPORT_MODE: hairpin
  05 00 05 00 00 00 00 00   # IFLA_BRPORT_GUARD
  05 00 21 00 01 00 00 00   # IFLA_BRPORT_ISOLATED
`)

/** `tcp dport 80 jump d comment "owner one"` in chain c of table ip t, as nft 1.0.6 reads it back. */
export const jumpRule = bytes(`
  02 00 00 05               # NFPROTO_IPV4, version, generation
  06 00 01 00 74 00 00 00   # NFTA_RULE_TABLE "t\\0", padding
  06 00 02 00 63 00 00 00   # NFTA_RULE_CHAIN "c\\0", padding
  0c 00 03 00               # NFTA_RULE_HANDLE, length 12
  00 00 00 00 00 00 00 03   # 3, in network byte order
  ec 00 04 00               # NFTA_RULE_EXPRESSIONS, length 236
  24 00 01 00               # NFTA_LIST_ELEM
  09 00 01 00 6d 65 74 61 00 00 00 00 # "meta\\0", padding
  14 00 02 00 08 00 02 00 00 00 00 10 08 00 01 00 00 00 00 01
  2c 00 01 00               # NFTA_LIST_ELEM
  08 00 01 00 63 6d 70 00   # "cmp\\0"
  20 00 02 00 08 00 01 00 00 00 00 01 08 00 02 00 00 00 00 00 0c 00 03 00 05 00 01 00 06 00 00 00
  34 00 01 00               # NFTA_LIST_ELEM
  0c 00 01 00 70 61 79 6c 6f 61 64 00 # "payload\\0"
  24 00 02 00 08 00 01 00 00 00 00 01 08 00 02 00 00 00 00 02 08 00 03 00 00 00 00 02 08 00 04 00 00 00 00 02
  2c 00 01 00               # NFTA_LIST_ELEM
  08 00 01 00 63 6d 70 00   # "cmp\\0"
  20 00 02 00 08 00 01 00 00 00 00 01 08 00 02 00 00 00 00 00 0c 00 03 00 06 00 01 00 00 50 00 00
  38 00 01 00               # NFTA_LIST_ELEM
  0e 00 01 00 69 6d 6d 65 64 69 61 74 65 00 00 00 # "immediate\\0", padding
  24 00 02 00               # NFTA_EXPR_DATA
  08 00 01 00 00 00 00 00   # NFTA_IMMEDIATE_DREG: the verdict register
  18 00 02 00               # NFTA_IMMEDIATE_DATA
  14 00 02 00               # NFTA_DATA_VERDICT
  08 00 01 00 ff ff ff fd   # NFTA_VERDICT_CODE NFT_JUMP
  06 00 02 00 64 00 00 00   # NFTA_VERDICT_CHAIN "d\\0", padding
  10 00 07 00               # NFTA_RULE_USERDATA, length 16
  00 0a                     # NFTNL_UDATA_RULE_COMMENT, length 10
  6f 77 6e 65 72 20 6f 6e 65 00 # "owner one\\0"
`)
