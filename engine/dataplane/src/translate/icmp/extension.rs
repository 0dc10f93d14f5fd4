//! ICMP extension structures (RFC 4884): the length attribute that says where one begins, and its place in a new message.
//!
//! The structure itself is opaque (RFC 7915, 4.2 and 5.2): it is kept byte for byte or left out whole.

use super::{Message, append};
use crate::wire::icmp::{self, v4, v6};

/// The least that is quoted in front of an extension structure, padded with zeros (RFC 4884, 3).
const MIN_DATAGRAM: usize = 128;

/// The length attribute of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attribute {
    /// Its octet in the message.
    octet: usize,
    /// The bytes that it counts by, of which the quote is a multiple.
    unit: usize,
}

impl Attribute {
    /// The attribute of an ICMPv4 message of this type, if it has one (RFC 4884, 4.1 to 4.3).
    pub(super) const fn of_v4(kind: u8) -> Option<Self> {
        match kind {
            v4::DESTINATION_UNREACHABLE | v4::TIME_EXCEEDED | v4::PARAMETER_PROBLEM => {
                Some(Self { octet: 5, unit: 4 })
            }
            _ => None,
        }
    }

    /// The attribute of an ICMPv6 message of this type, if it has one (RFC 4884, 4.4 and 4.5).
    pub(super) const fn of_v6(kind: u8) -> Option<Self> {
        match kind {
            v6::DESTINATION_UNREACHABLE | v6::TIME_EXCEEDED => Some(Self { octet: 4, unit: 8 }),
            _ => None,
        }
    }
}

/// What is behind the header of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Body<'a> {
    /// The quoted packet, as far as it is quoted.
    pub(super) datagram: &'a [u8],
    /// Whether an extension structure follows, so that what is behind the quoted packet's end is padding.
    pub(super) padded: bool,
    /// The extension structure; empty if there is none, or if it is not wholly in `message`.
    pub(super) extension: &'a [u8],
}

/// Takes a message of `whole` bytes apart, of which `message` is the beginning.
///
/// A length of 0 is what messages without a structure have. Some routers append one all the same; where it begins can
/// only be guessed then, and it stays a part of the quote (RFC 4884, 5.5 has receivers guess only if they are told
/// to). A length that leaves no room for a structure means nothing either.
pub(super) fn split(message: &[u8], whole: usize, attribute: Option<Attribute>) -> Body<'_> {
    let body = message.get(icmp::LENGTH..).unwrap_or(&[]);
    let without = Body { datagram: body, padded: false, extension: &[] };
    let Some(attribute) = attribute else { return without };
    let length = usize::from(message.get(attribute.octet).copied().unwrap_or(0)) * attribute.unit;
    if length == 0 || icmp::LENGTH + length >= whole {
        return without;
    }
    let (datagram, behind) = body.split_at_checked(length).unwrap_or((body, &[]));
    let extension = if message.len() == whole { behind } else { &[] };
    Body { datagram, padded: true, extension }
}

/// How many bytes of a message of at most `limit` bytes are for the quote, and which extension structure is behind
/// it: none if the new message has no length attribute, or if it would leave too little of the quote.
pub(super) fn room(limit: usize, attribute: Option<Attribute>, extension: &[u8]) -> (usize, &[u8]) {
    let all = limit - icmp::LENGTH;
    match all.checked_sub(extension.len()) {
        Some(left) if attribute.is_some() && left >= MIN_DATAGRAM => (left, extension),
        _ => (all, &[]),
    }
}

/// Appends the structure to a message that ends with its quote, and sets the length attribute. There must be
/// [`room`] for it.
///
/// A short quote is padded with zeros, as it must be. A longer one is cut down to whole units: zeros behind the part of a
/// packet would be taken for more of it.
pub(super) fn attach(message: &mut Message, attribute: Option<Attribute>, extension: &[u8]) {
    let Some(attribute) = attribute.filter(|_| !extension.is_empty()) else { return };
    let quote = message.len().saturating_sub(icmp::LENGTH);
    let units = quote.max(MIN_DATAGRAM) / attribute.unit;
    let length = units * attribute.unit;
    message.truncate(icmp::LENGTH + length);
    append(message, [0; MIN_DATAGRAM].get(quote..length).unwrap_or(&[]));
    append(message, extension);
    if let Some(octet) = message.get_mut(attribute.octet) {
        // The limits of messages allow 154 units of 8 bytes and 137 of 4.
        *octet = units as u8;
    }
}
