//! Why a packet was dropped: one closed enum, and its only spelling.
//!
//! The name of a reason is the same in metrics, CLI, trace, captures and docs. Adding a reason is adding a line to
//! the list below; nothing else has to know.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a packet was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            /// Every reason, in the order of their indices.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The reason's one name: lower case, words joined by underscores.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence for `--help`, docs and the HELP text of metrics.
            #[must_use]
            pub const fn describe(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

reasons! {
    // --- frames, either side ---
    /// The frame is shorter than its headers say, or than an Ethernet header.
    FrameTruncated = "frame_truncated",
    /// The EtherType is none that Overlane carries.
    EthertypeUnsupported = "ethertype_unsupported",
    /// The destination MAC is not this port's, nor a group's that it takes.
    NotOurMac = "not_our_mac",
    /// A checksum or a segmentation left to be done contradicts the packet's headers.
    OffloadInvalid = "offload_invalid",
    // --- what a node may send ---
    /// The node sends more packets or bits than its interface may.
    RateExceeded = "rate_exceeded",
    // --- ARP from a node ---
    /// An ARP packet with wrong hardware or protocol type, lengths or operation.
    ArpMalformed = "arp_malformed",
    /// The sender addresses in an ARP packet are not the interface's own.
    ArpSpoofed = "arp_spoofed",
    /// A gratuitous ARP, an ARP reply or a RARP: absorbed, since the engine keeps no ARP cache of its own.
    ArpAbsorbed = "arp_absorbed",
    /// A probe for the asker's own address (RFC 5227): never answered.
    ArpProbeOwn = "arp_probe_own",
    /// An ARP request for an address that the asker may not reach or that does not exist.
    ArpTargetUnknown = "arp_target_unknown",
    // --- DHCP from a node ---
    /// A DHCP message that cannot be read, or was relayed.
    DhcpMalformed = "dhcp_malformed",
    /// A DHCP message that gets no answer: a release, a decline, or the choice of another server.
    DhcpIgnored = "dhcp_ignored",
    /// A node plays the DHCP server, which none is.
    DhcpServerForeign = "dhcp_server_foreign",
    // --- IPv4 from a node ---
    /// A malformed IPv4 header: version, header length or total length.
    Ipv4Malformed = "ipv4_malformed",
    /// The IPv4 header checksum is wrong.
    Ipv4Checksum = "ipv4_checksum",
    /// The Ethernet source is not the interface's own MAC.
    SrcMacSpoofed = "src_mac_spoofed",
    /// The IPv4 source is none of the interface's own addresses, nor of a network that it may send from.
    SrcIpv4Spoofed = "src_ipv4_spoofed",
    /// The destination MAC is no node's dummy MAC of this vnet, no gateway's, no group's.
    UnknownDstMac = "unknown_dst_mac",
    /// The destination MAC is a node's that provisioning does not make a router for the destination address.
    NextHopNotRouter = "next_hop_not_router",
    /// A router sends a packet for a network behind itself to its gateway: it would only get it back.
    RouteLoop = "route_loop",
    /// The destination is the gateway itself, which only answers ARP.
    GatewayItself = "gateway_itself",
    /// A group or broadcast destination without members.
    GroupNoMembers = "group_no_members",
    /// A group that never leaves a host, and this came from another one.
    GroupConfined = "group_confined",
    /// A copy beyond the rate at which the interface may have copies made.
    GroupLimited = "group_limited",
    /// The virtual network carries no broadcast.
    BroadcastOff = "broadcast_off",
    // --- IGMP from a node ---
    /// An IGMP message that cannot be read.
    IgmpMalformed = "igmp_malformed",
    /// An IGMP query: the engine is the only one that asks.
    IgmpQuery = "igmp_query",
    /// IGMP messages beyond the rate at which the interface may send them.
    IgmpLimited = "igmp_limited",
    /// No mapping: the destination is no live interface of the vnet.
    NoMapping = "no_mapping",
    /// The destination is provisioned but not live.
    DstNotLive = "dst_not_live",
    /// The destination was a node's that has been terminated a short while ago; its sender is told.
    DstTerminated = "dst_terminated",
    /// The provisioning service refuses the mapping: sender and receiver may have nothing to do with each other.
    ResolveRefused = "resolve_refused",
    /// The interface asks for more mappings than it may, as one does that scans its subnet.
    ResolveLimited = "resolve_limited",
    /// Too many packets or questions of the interface wait for mappings.
    ResolveQueueFull = "resolve_queue_full",
    /// The provisioning service has not answered in time, or is away.
    ResolveUnanswered = "resolve_unanswered",
    /// The TTL would reach zero.
    TtlExceeded = "ttl_exceeded",
    /// The packet does not fit the way out.
    PacketTooBig = "packet_too_big",
    /// A fragment of an ICMP message to or from an external, or where configuration does not let them pass (RFC 7915, 1.2).
    FragmentIcmp = "fragment_icmp",
    /// A fragment whose offset and length contradict each other or the largest datagram.
    FragmentMalformed = "fragment_malformed",
    /// A first fragment too short for its transport header, or one that would write over it (RFC 1858).
    FragmentTiny = "fragment_tiny",
    /// A fragment that overlaps another of its datagram, or belongs to a datagram where that happened (RFC 5722).
    FragmentOverlap = "fragment_overlap",
    /// A fragment whose datagram's first one did not come in time.
    FragmentWithoutFirst = "fragment_without_first",
    /// The bounded table of datagrams in fragments, or its bounded store of fragments that wait, has no room.
    FragmentTableFull = "fragment_table_full",
    /// An ICMP message that has no counterpart in the other protocol.
    IcmpUntranslatable = "icmp_untranslatable",
    /// An ICMP error whose quoted packet is cut off, malformed, or has no counterpart in the other protocol.
    IcmpQuoteInvalid = "icmp_quote_invalid",
    /// An ICMP error that quotes a packet which its receiver cannot have sent, or one to a node that does not exist.
    IcmpQuoteForeign = "icmp_quote_foreign",
    /// An ICMP error of a substrate router beyond the rate that is let through.
    IcmpRateLimited = "icmp_rate_limited",
    /// A transport header that is cut off or contradicts its length.
    TransportMalformed = "transport_malformed",
    /// A protocol that cannot cross, since it means something else in the other IP version or never leaves its link.
    ProtocolUntranslatable = "protocol_untranslatable",
    /// An authentication header: it covers the addresses, so no translation can preserve it (RFC 4302).
    AuthenticationHeader = "authentication_header",
    /// A source route with addresses left (RFC 7915, 4.1).
    SourceRoute = "source_route",
    /// A UDP packet without checksum, which IPv6 does not allow.
    UdpChecksumZero = "udp_checksum_zero",
    // --- IPv6 from the uplink ---
    /// A malformed IPv6 header: version or payload length.
    Ipv6Malformed = "ipv6_malformed",
    /// The IPv6 destination is neither in this host's prefix nor the engine's own.
    NotOurPrefix = "not_our_prefix",
    /// Neighbour discovery for the engine itself with a hop limit below 255: it was routed, so it is forged (RFC 4861, 3.1).
    NeighbourDiscoveryRouted = "neighbour_discovery_routed",
    /// The hop limit would reach zero.
    HopLimitExceeded = "hop_limit_exceeded",
    /// An IPv6 extension header that cannot be carried.
    ExtensionHeaderUnsupported = "extension_header_unsupported",
    /// IPv6 extension headers that are cut off, or more than are walked.
    ExtensionHeaderChain = "extension_header_chain",
    /// A routing header with segments left (RFC 7915, 5.1).
    RoutingHeaderLive = "routing_header_live",
    /// The destination address is no legal substrate address.
    DstAddressInvalid = "dst_address_invalid",
    /// No live interface of this host owns the destination (vnet, IPv4).
    DstUnknownNode = "dst_unknown_node",
    /// The slot in the destination is not the slot of the interface that owns its (vnet, IPv4), nor (U/L) of one that routes it.
    SlotMismatch = "slot_mismatch",
    /// The source and destination are in different vnets, which are not peers.
    VnetMismatch = "vnet_mismatch",
    /// The source address is no legal substrate address.
    SrcAddressInvalid = "src_address_invalid",
    /// The source is said to be behind a router (U/L), and provisioning makes no node one for it.
    SrcNotRouted = "src_not_routed",
    /// The source carries this host's own prefix, yet it came in from the substrate.
    SrcOwnPrefix = "src_own_prefix",
    /// The source carries a vnet that this host has no part in.
    SrcUnknownVnet = "src_unknown_vnet",
    /// The source's (vnet, IPv4) is not provisioned.
    SrcUnknownNode = "src_unknown_node",
    /// The source's (vnet, IPv4) does not live behind the prefix that the packet came from.
    SrcPrefixMismatch = "src_prefix_mismatch",
    /// The source's slot is not where provisioning says that (vnet, IPv4) lives.
    SrcSlotMismatch = "src_slot_mismatch",
    /// The source is provisioned but not live.
    SrcNotLive = "src_not_live",
    /// Its source would have to be verified first, and too much waits for that, or its prefix causes too many questions.
    VerifyQueueFull = "verify_queue_full",
    /// Its source was to be verified, and the provisioning service has not answered in time, or is away.
    VerifyUnanswered = "verify_unanswered",
    // --- rules ---
    /// A rule of the sender forbids it.
    EgressDenied = "egress_denied",
    /// A rule of the receiver forbids it.
    IngressDenied = "ingress_denied",
    /// No rule of the sender or of the receiver allows it, and nothing else does.
    DefaultDenied = "default_denied",
    // --- our own limits ---
    /// Provisioning has not told this host its prefix yet.
    PrefixUnknown = "prefix_unknown",
    /// The flow table has no room for a new flow of a stateful vnet, and nothing in it can make way.
    FlowTableFull = "flow_table_full",
    /// The sender has as many flows as one may have.
    FlowLimit = "flow_limit",
    /// No headroom in the buffer for the longer header.
    NoHeadroom = "no_headroom",
    /// No free packet buffer.
    NoBuffer = "no_buffer",
    /// The packet is spread over segments in a way that cannot be handled.
    SegmentsUnsupported = "segments_unsupported",
    /// The way out has no known next hop on the substrate.
    UplinkUnresolved = "uplink_unresolved",
    /// The port that the packet was to leave by is gone.
    PortGone = "port_gone",
    /// The transmit queue is full.
    TxQueueFull = "tx_queue_full",
    /// The bounded ring to the worker that owns the port is full.
    HandoffFull = "handoff_full",
    /// The port's device cannot send such a packet, or lost it.
    TxRefused = "tx_refused",
    /// The bounded ring to the control thread is full.
    PuntQueueFull = "punt_queue_full",
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The reason's place in [`DropReason::ALL`] and in every array of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_name_and_a_description() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert!(!reason.describe().is_empty());
            assert!(reason.name().chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
            assert!(DropReason::ALL[..index].iter().all(|other| other.name() != reason.name()));
        }
    }
}
