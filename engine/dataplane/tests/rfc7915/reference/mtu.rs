//! What an MTU told in one IP version is in the other (RFC 7915, 4.2 and 5.2), and what can be told when a link is too
//! small.

use super::Site;

/// The smallest IPv6 MTU that there is (RFC 8200, 5).
pub(super) const IPV6_MINIMUM: usize = 1280;

/// What an IPv6 header is longer by than an IPv4 header without options.
pub(super) const HEADERS: usize = 20;

/// The same for a fragment, which has a fragment header in IPv6.
pub(super) const FRAGMENT_HEADERS: usize = 28;

/// RFC 1191, 7.1: the MTUs that links had then.
const PLATEAUS: [usize; 11] = [68, 296, 508, 1006, 1492, 2002, 4352, 8166, 17914, 32000, 65535];

/// The MTU of a Packet Too Big message, from that of a Fragmentation Needed message and the total length that the
/// quoted packet claims.
pub(super) fn four_to_six(site: &Site, told: usize, quoted_total_length: usize) -> usize {
    let told = if told == 0 {
        // "Use the greatest plateau value that is less than the returned Total Length field."
        PLATEAUS.into_iter().filter(|plateau| *plateau < quoted_total_length).max().unwrap_or(68)
    } else {
        told
    };
    let mtu = (told + HEADERS).min(site.ipv6_mtu).min(site.ipv4_mtu + HEADERS);
    mtu.max(IPV6_MINIMUM)
}

/// The MTU of a Fragmentation Needed message, from that of a Packet Too Big message. No IPv6 link has less than 1280,
/// so nobody is told that one has.
pub(super) fn six_to_four(site: &Site, told: usize, quoted_fragment: bool) -> usize {
    let headers = if quoted_fragment { FRAGMENT_HEADERS } else { HEADERS };
    (told.max(IPV6_MINIMUM) - headers).min(site.ipv4_mtu).min(site.ipv6_mtu - headers)
}
