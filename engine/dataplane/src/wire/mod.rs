//! Zero-copy views of protocol headers.
//!
//! A view is made once, by `new_checked`, at the boundary where bytes come in; what it says afterwards cannot fail.
//! Views cover headers only: the payload may lie in other segments of the packet and is not looked at, so where a
//! header is to be checked against the length of what follows, that length is an argument.

pub mod arp;
pub mod checksum;
pub mod dhcp;
pub mod ethernet;
pub mod fragment;
pub mod icmp;
pub mod igmp;
pub mod ipv4;
pub mod ipv6;
pub mod tcp;
pub mod udp;
pub(crate) mod word;

/// Why bytes are not the header they are taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// There are fewer bytes than the header says.
    #[error("shorter than its header says")]
    Truncated,
    /// A field holds a value that the header cannot have.
    #[error("malformed header")]
    Malformed,
}

/// Protocol and next-header numbers (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// IPv6 hop-by-hop options (RFC 8200, 4.3).
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4 (RFC 792).
    pub const ICMP: u8 = 1;
    /// IGMP (RFC 3376): group membership, on a link.
    pub const IGMP: u8 = 2;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// DCCP (RFC 4340).
    pub const DCCP: u8 = 33;
    /// IPv6 routing header (RFC 8200, 4.4).
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header (RFC 8200, 4.5).
    pub const FRAGMENT: u8 = 44;
    /// Authentication header (RFC 4302): it authenticates the addresses, so no translation can preserve it.
    pub const AUTHENTICATION: u8 = 51;
    /// ICMP for IPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options (RFC 8200, 4.6).
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP (RFC 9260).
    pub const SCTP: u8 = 132;
    /// IPv6 mobility header (RFC 6275).
    pub const MOBILITY: u8 = 135;
    /// UDP-Lite (RFC 3828).
    pub const UDP_LITE: u8 = 136;
    /// Host identity protocol (RFC 7401).
    pub const HIP: u8 = 139;
    /// Shim6 (RFC 5533).
    pub const SHIM6: u8 = 140;

    /// Whether IPv6 takes the number for an extension header that can be followed by another (the IANA registry
    /// "IPv6 Extension Header Types" without ESP, which hides what follows, and the two experimental numbers).
    #[must_use]
    pub const fn is_extension_header(number: u8) -> bool {
        matches!(
            number,
            HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6
        )
    }
}
