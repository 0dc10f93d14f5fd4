//! ICMP extension structures (RFC 4884): behind the quoted packet, which is then padded and has its length told.

use super::Refused;

/// With an extension behind it, a quoted packet takes at least so many bytes (RFC 4884, 4).
const LEAST_QUOTE: usize = 128;

/// What follows the eight bytes of an ICMP error's header.
pub(super) struct Body<'a> {
    /// The quoted packet, and whatever padding follows it.
    pub(super) quote: &'a [u8],
    /// The extension structure; empty when there is none.
    pub(super) extension: &'a [u8],
}

/// Takes the body apart. `length` is the length attribute in bytes: 0 says that there is no extension.
pub(super) fn split(body: &[u8], length: usize) -> Result<Body<'_>, Refused> {
    if length == 0 {
        return Ok(Body { quote: body, extension: &[] });
    }
    if length > body.len() {
        return Err(Refused::silently("icmp_quote_invalid"));
    }
    let (quote, extension) = body.split_at(length);
    Ok(Body { quote, extension })
}

/// Puts the body of a message together that may have at most `limit` bytes of it, and returns it with its length
/// attribute in units of `unit` bytes. First the quoted packet gives way, down to the least that it must have, then
/// the extension (RFC 7915, 4.2).
pub(super) fn join(mut quote: Vec<u8>, extension: &[u8], unit: usize, limit: usize) -> (Vec<u8>, u8) {
    if extension.is_empty() {
        quote.truncate(limit);
        return (quote, 0);
    }
    let extension = &extension[..extension.len().min(limit - LEAST_QUOTE)];
    quote.resize(quote.len().next_multiple_of(unit).max(LEAST_QUOTE), 0);
    let room = (limit - extension.len()) / unit * unit;
    quote.truncate(room);
    let units = (quote.len() / unit) as u8;
    quote.extend_from_slice(extension);
    (quote, units)
}
