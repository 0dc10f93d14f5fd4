//! The MTU that the uplink leaves nodes, and what follows when their devices have another.

use core::cmp::Ordering;

/// What a packet grows by: an IPv6 header is 20 bytes longer than an IPv4 header without options.
const GROWTH: u16 = 20;

/// The largest IPv4 packet that fits an uplink that carries IPv6 packets of `uplink` bytes.
pub(super) const fn node_mtu(uplink: u16) -> u16 {
    uplink.saturating_sub(GROWTH)
}

/// What follows when a node's device takes packets of `is` bytes and `wanted` are what the uplink leaves it; empty when
/// they are the same.
pub(super) fn note(is: u16, wanted: u16) -> String {
    match is.cmp(&wanted) {
        Ordering::Equal => String::new(),
        Ordering::Greater => format!(
            "its MTU is {is} and the uplink leaves it {wanted}: longer packets are cut, or left to path MTU discovery"
        ),
        Ordering::Less => format!(
            "its MTU is {is} and the uplink leaves it {wanted}: other nodes' longer packets are left to path MTU discovery"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_needs_no_note_and_either_difference_says_what_follows() {
        assert_eq!(note(1480, node_mtu(1500)), "");
        assert!(
            note(1500, node_mtu(1500)).starts_with("its MTU is 1500 and the uplink leaves it 1480: longer")
        );
        assert!(
            note(1400, node_mtu(1500)).starts_with("its MTU is 1400 and the uplink leaves it 1480: other")
        );
    }
}
