//! A whole ICMP error, carried to the other IP version (RFC 7915, 4.2, 4.3, 5.2 and 5.3).

use super::extension::{self, Attribute};
use super::quote;
use super::tables::{self, Mtus, Rest};
use super::{Correspondence, MAX_FOUR, MAX_SIX, Message, append, pseudo, seal};
use crate::drop::DropReason;
use crate::translate::Settings;
use crate::wire::checksum::Sum;
use crate::wire::icmp;
use core::net::Ipv6Addr;

/// What is known of a message of which only the beginning may be at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole {
    /// Bytes of the message.
    pub(crate) length: u16,
    /// The one's-complement sum of all of them, the checksum field included.
    pub(crate) sum: u16,
}

impl Whole {
    /// Of a message that is at hand as a whole.
    #[cfg(test)]
    pub(crate) fn of(message: &[u8]) -> Self {
        // An IP packet has at most 65,535 bytes.
        Self { length: message.len() as u16, sum: Sum::ZERO.add_bytes(message).fold() }
    }
}

/// The ICMPv6 error that an ICMPv4 error becomes, at most [`MAX_SIX`] bytes.
///
/// `message` is the error from its type on, or the first 2,300 bytes of it: more can never be needed. `ends` are the
/// source and destination of the IPv6 packet that it is to be in. The checksum is right if `message`'s was.
///
/// # Errors
/// [`DropReason::TransportMalformed`] for less than a header; [`DropReason::IcmpUntranslatable`] for a type, code or
/// pointer without counterpart; [`DropReason::IcmpQuoteInvalid`] and [`DropReason::IcmpQuoteForeign`] for the quoted
/// packet's sake.
pub(crate) fn error_to_six(
    message: &[u8],
    whole: Whole,
    ends: (Ipv6Addr, Ipv6Addr),
    mtus: Mtus,
    settings: &Settings,
    addresses: &impl Correspondence,
) -> Result<Message, DropReason> {
    let header: &[u8; icmp::LENGTH] = message.first_chunk().ok_or(DropReason::TransportMalformed)?;
    let [kind, code, _, _, pointer, _, mtu @ ..] = *header;
    let error = tables::to_six(kind, code, pointer).ok_or(DropReason::IcmpUntranslatable)?;
    let body = extension::split(message, whole.length.into(), Attribute::of_v4(kind));
    let quoted = quote::read_ipv4(body.datagram)?.cut_padding(body.padded);

    let attribute = Attribute::of_v6(error.kind);
    let (room, extension) = extension::room(MAX_SIX, attribute, body.extension);
    let second = match error.rest {
        Rest::Unused => 0,
        Rest::Pointer(pointer) => u32::from(pointer),
        Rest::Mtu => {
            let advertised = u16::from_be_bytes(mtu);
            tables::mtu_to_six(advertised, quoted.total_length, mtus).into()
        }
    };
    let mut new = start(error.kind, error.code, second);
    quoted.emit_ipv6(ends.1, settings, addresses, room, &mut new)?;
    extension::attach(&mut new, attribute, extension);
    let length = new.len() as u16;
    seal(&mut new, pseudo(ends).add(length), whole.sum);
    Ok(new)
}

/// The ICMPv4 error that an ICMPv6 error becomes, at most [`MAX_FOUR`] bytes.
///
/// `message` is the error from its type on, or the first 2,300 bytes of it: more can never be needed. `ends` are the
/// source and destination of the IPv6 packet that it came in. The checksum is right if `message`'s was.
///
/// # Errors
/// As of [`error_to_six`].
pub(crate) fn error_to_four(
    message: &[u8],
    whole: Whole,
    ends: (Ipv6Addr, Ipv6Addr),
    mtus: Mtus,
    settings: &Settings,
    addresses: &impl Correspondence,
) -> Result<Message, DropReason> {
    let header: &[u8; icmp::LENGTH] = message.first_chunk().ok_or(DropReason::TransportMalformed)?;
    let [kind, code, _, _, second @ ..] = *header;
    let second = u32::from_be_bytes(second);
    let error = tables::to_four(kind, code, second).ok_or(DropReason::IcmpUntranslatable)?;
    let body = extension::split(message, whole.length.into(), Attribute::of_v6(kind));
    let quoted = quote::read_ipv6(body.datagram)?.cut_padding(body.padded);

    let attribute = Attribute::of_v4(error.kind);
    let (room, extension) = extension::room(MAX_FOUR, attribute, body.extension);
    let second = match error.rest {
        Rest::Unused => 0,
        Rest::Pointer(pointer) => u32::from(pointer) << 24,
        Rest::Mtu => tables::mtu_to_four(second, quoted.is_fragment(), mtus).into(),
    };
    let mut new = start(error.kind, error.code, second);
    quoted.emit_ipv4(ends.1, settings, addresses, room, &mut new)?;
    extension::attach(&mut new, attribute, extension);
    seal(&mut new, Sum::ZERO, pseudo(ends).add(whole.length).add(whole.sum).fold());
    Ok(new)
}

/// A message of its header only, with a checksum of 0.
pub(super) fn start(kind: u8, code: u8, second: u32) -> Message {
    let mut message = Message::new();
    append(&mut message, &[kind, code, 0, 0]);
    append(&mut message, &second.to_be_bytes());
    message
}
