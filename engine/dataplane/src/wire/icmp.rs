//! ICMP for IPv4 (RFC 792) and for IPv6 (RFC 4443); both have the same shape.

use super::WireError;

/// Bytes of the header.
pub const LENGTH: usize = 8;
/// Where the checksum lies in the header.
pub const CHECKSUM: u16 = 2;

/// ICMP for IPv4: message types, and the codes of those whose codes differ between the IP versions.
pub mod v4 {
    /// Echo reply (RFC 792).
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable (RFC 792); the codes are in [`mod@unreachable`].
    pub const DESTINATION_UNREACHABLE: u8 = 3;
    /// Source quench (RFC 792, deprecated by RFC 6633).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect (RFC 792).
    pub const REDIRECT: u8 = 5;
    /// Alternate host address (deprecated by RFC 6918).
    pub const ALTERNATE_HOST_ADDRESS: u8 = 6;
    /// Echo request (RFC 792).
    pub const ECHO_REQUEST: u8 = 8;
    /// Router advertisement (RFC 1256).
    pub const ROUTER_ADVERTISEMENT: u8 = 9;
    /// Router solicitation (RFC 1256).
    pub const ROUTER_SOLICITATION: u8 = 10;
    /// Time exceeded (RFC 792); code 0 is the TTL, code 1 the reassembly timer.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem (RFC 792); the codes are in [`parameter_problem`].
    pub const PARAMETER_PROBLEM: u8 = 12;
    /// Timestamp request (RFC 792).
    pub const TIMESTAMP_REQUEST: u8 = 13;
    /// Timestamp reply (RFC 792).
    pub const TIMESTAMP_REPLY: u8 = 14;
    /// Information request (RFC 792, deprecated by RFC 6918).
    pub const INFORMATION_REQUEST: u8 = 15;
    /// Information reply (RFC 792, deprecated by RFC 6918).
    pub const INFORMATION_REPLY: u8 = 16;
    /// Address mask request (RFC 950, deprecated by RFC 6918).
    pub const ADDRESS_MASK_REQUEST: u8 = 17;
    /// Address mask reply (RFC 950, deprecated by RFC 6918).
    pub const ADDRESS_MASK_REPLY: u8 = 18;
    /// Extended echo request (RFC 8335).
    pub const EXTENDED_ECHO_REQUEST: u8 = 42;
    /// Extended echo reply (RFC 8335).
    pub const EXTENDED_ECHO_REPLY: u8 = 43;

    /// Codes of destination unreachable.
    pub mod unreachable {
        /// Net unreachable (RFC 792).
        pub const NET: u8 = 0;
        /// Host unreachable (RFC 792).
        pub const HOST: u8 = 1;
        /// Protocol unreachable (RFC 792).
        pub const PROTOCOL: u8 = 2;
        /// Port unreachable (RFC 792).
        pub const PORT: u8 = 3;
        /// Fragmentation needed and DF set (RFC 792); with the next hop's MTU in octets 6 and 7 (RFC 1191).
        pub const FRAGMENTATION_NEEDED: u8 = 4;
        /// Source route failed (RFC 792).
        pub const SOURCE_ROUTE_FAILED: u8 = 5;
        /// Destination network unknown (RFC 1122, 3.2.2.1, as the rest up to 12).
        pub const NET_UNKNOWN: u8 = 6;
        /// Destination host unknown.
        pub const HOST_UNKNOWN: u8 = 7;
        /// Source host isolated.
        pub const SOURCE_ISOLATED: u8 = 8;
        /// Communication with the destination network administratively prohibited.
        pub const NET_PROHIBITED: u8 = 9;
        /// Communication with the destination host administratively prohibited.
        pub const HOST_PROHIBITED: u8 = 10;
        /// Network unreachable for the type of service.
        pub const NET_TOS: u8 = 11;
        /// Host unreachable for the type of service.
        pub const HOST_TOS: u8 = 12;
        /// Communication administratively prohibited (RFC 1812, 5.2.7.1, as the rest).
        pub const PROHIBITED: u8 = 13;
        /// Host precedence violation.
        pub const PRECEDENCE_VIOLATION: u8 = 14;
        /// Precedence cutoff in effect.
        pub const PRECEDENCE_CUTOFF: u8 = 15;
    }

    /// Codes of parameter problem.
    pub mod parameter_problem {
        /// The pointer in octet 4 indicates the error (RFC 792).
        pub const POINTER: u8 = 0;
        /// A required option is missing (RFC 1108).
        pub const MISSING_OPTION: u8 = 1;
        /// Bad length; octet 4 holds a pointer as well.
        pub const BAD_LENGTH: u8 = 2;
    }

    /// Whether an error may be sent about a message of this type (RFC 1122, 3.2.2): only if it is known to be no
    /// error itself.
    #[must_use]
    pub const fn is_query(kind: u8) -> bool {
        matches!(
            kind,
            ECHO_REPLY | ECHO_REQUEST | ROUTER_ADVERTISEMENT | ROUTER_SOLICITATION | TIMESTAMP_REQUEST
                ..=ADDRESS_MASK_REPLY | EXTENDED_ECHO_REQUEST | EXTENDED_ECHO_REPLY
        )
    }

    /// Whether the type is an error message's, which quotes the packet that it is about (RFC 1122, 3.2.2).
    #[must_use]
    pub const fn is_error(kind: u8) -> bool {
        matches!(kind, DESTINATION_UNREACHABLE | SOURCE_QUENCH | TIME_EXCEEDED | PARAMETER_PROBLEM)
    }
}

/// ICMP for IPv6: message types, and the codes of those whose codes differ between the IP versions.
pub mod v6 {
    /// Destination unreachable (RFC 4443, 3.1); the codes are in [`mod@unreachable`].
    pub const DESTINATION_UNREACHABLE: u8 = 1;
    /// Packet too big, with the next hop's MTU in octets 4 to 7 (RFC 4443, 3.2).
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded (RFC 4443, 3.3); code 0 is the hop limit, code 1 the reassembly timer.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem, with a pointer in octets 4 to 7 (RFC 4443, 3.4); the codes are in
    /// [`parameter_problem`].
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request (RFC 4443, 4.1).
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply (RFC 4443, 4.2).
    pub const ECHO_REPLY: u8 = 129;
    /// Redirect (RFC 4861, 4.5).
    pub const REDIRECT: u8 = 137;

    /// Codes of destination unreachable.
    pub mod unreachable {
        /// No route to the destination.
        pub const NO_ROUTE: u8 = 0;
        /// Communication with the destination administratively prohibited.
        pub const PROHIBITED: u8 = 1;
        /// Beyond the scope of the source address.
        pub const BEYOND_SCOPE: u8 = 2;
        /// Address unreachable.
        pub const ADDRESS: u8 = 3;
        /// Port unreachable.
        pub const PORT: u8 = 4;
    }

    /// Codes of parameter problem.
    pub mod parameter_problem {
        /// Erroneous header field.
        pub const HEADER_FIELD: u8 = 0;
        /// Unrecognised next header type.
        pub const NEXT_HEADER: u8 = 1;
        /// Unrecognised IPv6 option.
        pub const OPTION: u8 = 2;
    }

    /// Whether the type is an error message's (RFC 4443, 2.1).
    #[must_use]
    pub const fn is_error(kind: u8) -> bool {
        kind < 128
    }
}

/// A view of an ICMP header.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a>(&'a [u8; LENGTH]);

impl<'a> Header<'a> {
    /// The header at the beginning of `bytes`.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, WireError> {
        bytes.first_chunk().map(Self).ok_or(WireError::Truncated)
    }

    /// The message type.
    #[inline]
    #[must_use]
    pub const fn kind(&self) -> u8 {
        self.0[0]
    }

    /// The code, a refinement of the type.
    #[inline]
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.0[1]
    }
}

/// Sets the message type.
pub const fn set_kind(header: &mut [u8; LENGTH], kind: u8) {
    header[0] = kind;
}
