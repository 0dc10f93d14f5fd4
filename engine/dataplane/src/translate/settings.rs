//! What RFC 7915 and its relatives leave to the operator.

use core::net::Ipv4Addr;
use ipnet::Ipv4Net;

/// How translation decides where the standards leave a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Whether TOS and traffic class are carried over; else they become 0 (RFC 7915, 4.1 and 5.1).
    pub copy_traffic_class: bool,
    /// Whether a whole UDP packet without checksum gets one; else it is dropped (RFC 7915, 4.5).
    pub compute_udp_checksum: bool,
    /// The largest IPv6 packet, in bytes, that a packet which may be cut (DF=0) becomes: RFC 7915, 4 has 1,280 unless
    /// the substrate is known to carry more. `None`: what the uplink and the path are known to carry.
    pub lowest_ipv6_mtu: Option<u16>,
    /// Whether fragments of ICMP messages pass. RFC 7915, 1.2 drops them, as the ICMPv6 checksum covers the length of
    /// the whole message, which no fragment tells. Between engines that length may be left out at both ends.
    pub carry_fragmented_icmp: bool,
    /// The virtual address that ICMP errors of substrate routers come from (RFC 6791).
    pub router_source: RouterSource,
    /// Whether the MSS in TCP SYN segments is lowered to what the path carries.
    pub clamp_tcp_mss: bool,
}

/// The virtual address of a substrate router, which has none (RFC 6791).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouterSource {
    /// The gateway of the receiver's subnet.
    Gateway,
    /// One of these addresses, by the router's own: different routers mostly look different.
    Pool(Ipv4Net),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            copy_traffic_class: true,
            compute_udp_checksum: true,
            lowest_ipv6_mtu: None,
            carry_fragmented_icmp: true,
            router_source: RouterSource::Gateway,
            clamp_tcp_mss: false,
        }
    }
}

impl Settings {
    /// The traffic class or type of service on the other side.
    pub(crate) const fn traffic_class(&self, old: u8) -> u8 {
        if self.copy_traffic_class { old } else { 0 }
    }

    /// The smallest IPv6 MTU that there is (RFC 8200, 5), and so the least that `lowest_ipv6_mtu` may be.
    pub const MIN_IPV6_MTU: u16 = 1280;
}

impl RouterSource {
    /// The address for the router at `router`, when the receiver's gateway is `gateway`.
    #[must_use]
    pub fn address(self, router: core::net::Ipv6Addr, gateway: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        match self {
            Self::Gateway => gateway,
            Self::Pool(net) => {
                let host_bits = 32 - u32::from(net.prefix_len());
                // Fibonacci hashing: the upper bits of the product depend on every bit of the address.
                let bits = router.to_bits();
                let folded = (bits >> 64) as u64 ^ bits as u64;
                let hash = folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                let mask = u32::MAX.checked_shr(net.prefix_len().into()).unwrap_or(0);
                debug_assert_eq!(mask.count_ones(), host_bits);
                Some(Ipv4Addr::from_bits(net.network().to_bits() | (hash as u32 & mask)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routers_look_different_within_the_pool_and_the_same_each_time() {
        let net: Ipv4Net = "192.0.0.0/24".parse().unwrap();
        let addresses: std::collections::BTreeSet<Ipv4Addr> = (1..=16u16)
            .map(|last| core::net::Ipv6Addr::new(0xfd00, 0, 0, 0xff, 0, 0, 0, last))
            .map(|router| RouterSource::Pool(net).address(router, None).unwrap())
            .collect();
        assert!(addresses.len() >= 14, "{addresses:?}");
        assert!(addresses.iter().all(|address| net.contains(address)));
    }

    #[test]
    fn pool_of_one_address_and_of_all_are_legal() {
        let router = core::net::Ipv6Addr::LOCALHOST;
        let one = RouterSource::Pool("192.0.0.8/32".parse().unwrap());
        assert_eq!(one.address(router, None), Some(Ipv4Addr::new(192, 0, 0, 8)));
        assert!(RouterSource::Pool("0.0.0.0/0".parse().unwrap()).address(router, None).is_some());
        assert_eq!(RouterSource::Gateway.address(router, None), None);
    }
}
