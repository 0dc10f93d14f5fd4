//! ICMP extension structures (RFC 4884): behind the quoted packet, which is then padded and has its length told.

/// With an extension behind it, a quoted packet takes at least so many bytes (RFC 4884, 4).
const LEAST_QUOTE: usize = 128;

/// What follows the eight bytes of an ICMP error's header.
pub(super) struct Body<'a> {
    /// The quoted packet, and whatever padding follows it.
    pub(super) quote: &'a [u8],
    /// The extension structure; empty when there is none.
    pub(super) extension: &'a [u8],
}

/// Takes the body apart. `length` is the length attribute in bytes: 0 says that there is no extension, and one that
/// leaves nothing for an extension says nothing.
pub(super) fn split(body: &[u8], length: usize) -> Body<'_> {
    if length == 0 || length >= body.len() {
        return Body { quote: body, extension: &[] };
    }
    let (quote, extension) = body.split_at(length);
    Body { quote, extension }
}

/// Puts the body of a message together that may have at most `limit` bytes of it, and returns it with its length
/// attribute in units of `unit` bytes. The quoted packet gives way to the extension, down to the least that it must
/// have; an extension for which there is no room even then is left out, as a part of one would only fail its own
/// checksum (RFC 7915, 4.2 has it truncated).
///
/// A short quote is padded with zeros. A longer one ends at a whole unit: zeros behind a part of a packet would be
/// taken for the packet's.
pub(super) fn join(mut quote: Vec<u8>, extension: &[u8], unit: usize, limit: usize) -> (Vec<u8>, u8) {
    if extension.is_empty() || extension.len() + LEAST_QUOTE > limit {
        quote.truncate(limit);
        return (quote, 0);
    }
    quote.truncate((limit - extension.len()) / unit * unit);
    if quote.len() < LEAST_QUOTE {
        quote.resize(LEAST_QUOTE, 0);
    }
    quote.truncate(quote.len() / unit * unit);
    let units = (quote.len() / unit) as u8;
    quote.extend_from_slice(extension);
    (quote, units)
}
