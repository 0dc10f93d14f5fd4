//! The substrate address: host prefix, slot, virtual network and virtual IPv4 address in one IPv6 address.
//!
//! ```text
//! slot64     | host prefix 64 | slot 6 | U/L 1 | I/G 1 | vnet 24 | IPv4 32 |
//! plain72    | host prefix 72                          | vnet 24 | IPv4 32 |
//! plain64    | host prefix 64 |                          vnet 32 | IPv4 32 |
//! ```
//! There is one codec. Every 128-bit value either decodes and re-encodes to itself, or is refused naming the field.

use crate::id::{Slot, VnetId};
use crate::wire::checksum::Sum;
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::num::NonZeroU16;
use core::str::FromStr;

/// How the fields lie in a substrate address. One per substrate, chosen by configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Layout {
    /// `slot64`: /64 prefix, slot, flags, 24-bit vnet, IPv4.
    #[default]
    Slot64,
    /// `plain72`: /72 prefix, 24-bit vnet, IPv4; no slot, no flags.
    Plain72,
    /// `plain64`: /64 prefix, vnet in 32 bits, IPv4; no slot, no flags.
    Plain64,
}

/// An address that is refused, and the field that is wrong in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field}: must be {legal}")]
pub struct AddressError {
    /// The field, for example `vnet id`.
    pub field: &'static str,
    /// Its legal values.
    pub legal: &'static str,
}

const fn refuse<T>(field: &'static str, legal: &'static str) -> Result<T, AddressError> {
    Err(AddressError { field, legal })
}

/// The part of a substrate address that is routed to one host: 64 or 72 bits, by layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPrefix {
    /// The prefix in the high bits; the rest is zero.
    bits: u128,
    length: u8,
}

impl HostPrefix {
    /// Checks and wraps the first bits of `address` as a prefix of `layout`.
    ///
    /// # Errors
    /// [`AddressError`] if bits behind the prefix are set, or it is unspecified, multicast (RFC 4291, 2.7) or
    /// link-local (RFC 4291, 2.5.6).
    pub fn new(layout: Layout, address: Ipv6Addr) -> Result<Self, AddressError> {
        let prefix = Self::of(layout, address)?;
        if prefix.bits != address.to_bits() {
            return refuse("host prefix", "zero behind the prefix length");
        }
        Ok(prefix)
    }

    /// The prefix that `address` lies in.
    #[inline]
    fn of(layout: Layout, address: Ipv6Addr) -> Result<Self, AddressError> {
        let length = layout.prefix_length();
        let bits = address.to_bits() & (u128::MAX << (128 - u32::from(length)));
        if bits == 0 || address.is_multicast() || address.is_unicast_link_local() {
            return refuse("host prefix", "a routable unicast prefix");
        }
        Ok(Self { bits, length })
    }

    /// The first address of the prefix.
    #[must_use]
    pub const fn network(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.bits)
    }

    /// 64 or 72.
    #[must_use]
    pub const fn length(self) -> u8 {
        self.length
    }

    /// Whether `address` lies in the prefix.
    #[inline]
    #[must_use]
    pub const fn contains(self, address: Ipv6Addr) -> bool {
        let different = address.to_bits() ^ self.bits;
        // The lengths that there are, without a shift of 128 bits by a number that is not known beforehand.
        (different >> 64) as u64 == 0 && (self.length == 64 || (different as u64) >> 56 == 0)
    }

    /// Parses `fd00:0:0:a::/64`; the length must be the layout's.
    ///
    /// # Errors
    /// [`AddressError`] naming what is wrong.
    pub fn parse(layout: Layout, text: &str) -> Result<Self, AddressError> {
        let legal = match layout {
            Layout::Plain72 => "an IPv6 prefix of length 72, like fd00:0:0:a:100::/72",
            Layout::Slot64 | Layout::Plain64 => "an IPv6 prefix of length 64, like fd00:0:0:a::/64",
        };
        let Some((address, length)) = text.split_once('/') else { return refuse("host prefix", legal) };
        match (address.parse(), length.parse::<u8>()) {
            (Ok(address), Ok(length)) if length == layout.prefix_length() => Self::new(layout, address),
            _ => refuse("host prefix", legal),
        }
    }
}

impl fmt::Display for HostPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.length)
    }
}

/// Whom a packet with this address is for (the U/L and I/G bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// U/L=0, I/G=0: the interface that owns (vnet, IPv4); the slot must match too.
    Owner,
    /// U/L=1, I/G=0: the interface in the slot, if it owns or routes the IPv4 (virtual routers).
    Slot,
    /// I/G=1: the members of the group that the IPv4 is.
    Group,
}

/// A substrate address, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SubstrateAddress {
    /// The host's prefix.
    pub prefix: HostPrefix,
    /// The interface's slot; 0 in layouts without slots.
    pub slot: Slot,
    /// Whom it is for.
    pub delivery: Delivery,
    /// The virtual network.
    pub vnet: VnetId,
    /// The virtual IPv4 address.
    pub ipv4: Ipv4Addr,
}

/// U/L and I/G, counted from the end of octet 8.
const LOCAL_BIT: u8 = 0b10;
const GROUP_BIT: u8 = 0b01;

impl Layout {
    /// Every layout.
    pub const ALL: [Self; 3] = [Self::Slot64, Self::Plain72, Self::Plain64];

    /// The name used in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Slot64 => "slot64",
            Self::Plain72 => "plain72",
            Self::Plain64 => "plain64",
        }
    }

    /// Length of a host's prefix: 64 or 72 bits.
    #[must_use]
    pub const fn prefix_length(self) -> u8 {
        match self {
            Self::Slot64 | Self::Plain64 => 64,
            Self::Plain72 => 72,
        }
    }

    /// Whether addresses carry a slot and flags.
    #[must_use]
    pub const fn has_slots(self) -> bool {
        matches!(self, Self::Slot64)
    }

    /// Takes an address apart.
    ///
    /// # Errors
    /// [`AddressError`] naming the first field that is not legal.
    #[inline]
    pub fn decode(self, address: Ipv6Addr) -> Result<SubstrateAddress, AddressError> {
        let prefix = HostPrefix::of(self, address)?;
        self.decode_behind(prefix, address)
    }

    /// Takes an address apart that lies in a prefix which is known to be legal.
    ///
    /// # Errors
    /// As for [`Self::decode`], of the fields behind the prefix.
    #[inline(always)]
    pub(crate) fn decode_behind(
        self,
        prefix: HostPrefix,
        address: Ipv6Addr,
    ) -> Result<SubstrateAddress, AddressError> {
        let bits = address.to_bits();
        let ipv4 = Ipv4Addr::from_bits(bits as u32);
        let Ok(vnet) = VnetId::new(self.vnet_bits(address)) else {
            return refuse("vnet id", "1 to 16777215");
        };
        let (slot, delivery) = if self.has_slots() {
            let octet = (bits >> 56) as u8;
            let delivery = match octet & (LOCAL_BIT | GROUP_BIT) {
                0 => Delivery::Owner,
                LOCAL_BIT => Delivery::Slot,
                GROUP_BIT => Delivery::Group,
                _ => return refuse("U/L and I/G", "not both 1"),
            };
            let Ok(slot) = Slot::new(octet >> 2) else { return refuse("slot", "0 to 63") };
            (slot, delivery)
        } else {
            (Slot::ZERO, Delivery::by_ipv4(ipv4))
        };
        Ok(SubstrateAddress { prefix, slot, delivery, vnet, ipv4 })
    }

    /// The slot and the vnet in the lower half of an owner's address, in the layout with slots; `None` in any other.
    #[inline(always)]
    pub(crate) fn owner_in_slot(lower: u64) -> Option<(Slot, VnetId)> {
        let bits = (lower >> 32) as u32;
        let (octet, vnet) = ((bits >> 24) as u8, bits & VnetId::MAX.get());
        if octet & (LOCAL_BIT | GROUP_BIT) != 0 {
            return None;
        }
        Some((Slot::new(octet >> 2).ok()?, VnetId::new(vnet).ok()?))
    }

    /// The vnet's bits in the lower half of an address, in the layout with slots, and in front of them the flags: an owner has
    /// none.
    #[inline(always)]
    pub(crate) const fn vnet_and_flags(lower: u64) -> u32 {
        (lower >> 32) as u32 & (((LOCAL_BIT | GROUP_BIT) as u32) << 24 | VnetId::MAX.get())
    }

    /// The bits of an address where the vnet id lies.
    #[inline(always)]
    pub(crate) const fn vnet_bits(self, address: Ipv6Addr) -> u32 {
        let bits = (address.to_bits() >> 32) as u32;
        match self {
            Self::Slot64 | Self::Plain72 => bits & VnetId::MAX.get(),
            Self::Plain64 => bits,
        }
    }

    /// Puts an address together.
    ///
    /// # Errors
    /// [`AddressError`] for a prefix of another length and, in layouts without slots and flags, for a slot other
    /// than 0 or a delivery that the IPv4 address does not imply.
    pub fn encode(self, fields: &SubstrateAddress) -> Result<Ipv6Addr, AddressError> {
        if fields.prefix.length != self.prefix_length() {
            return refuse("host prefix", "of the layout's length");
        }
        let tail = u128::from(fields.vnet.get()) << 32 | u128::from(fields.ipv4.to_bits());
        if !self.has_slots() {
            if fields.slot != Slot::ZERO {
                return refuse("slot", "0 in a layout without slots");
            }
            if fields.delivery != Delivery::by_ipv4(fields.ipv4) {
                return refuse("U/L and I/G", "as the IPv4 address implies in a layout without flags");
            }
            return Ok(Ipv6Addr::from_bits(fields.prefix.bits | tail));
        }
        let flags = match fields.delivery {
            Delivery::Owner => 0,
            Delivery::Slot => LOCAL_BIT,
            Delivery::Group => GROUP_BIT,
        };
        let octet = u128::from(fields.slot.get() << 2 | flags) << 56;
        Ok(Ipv6Addr::from_bits(fields.prefix.bits | octet | tail))
    }
}

impl Delivery {
    /// What an address without flags means: 224.0.0.0/4 and the limited broadcast are groups.
    const fn by_ipv4(ipv4: Ipv4Addr) -> Self {
        if ipv4.is_multicast() || ipv4.is_broadcast() { Self::Group } else { Self::Owner }
    }
}

/// Where an owner lives: the upper 96 bits of its substrate address (prefix, slot, flags 0, vnet), kept with their
/// one's-complement sum, so that translation only writes them down.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Locator {
    octets: [u8; 12],
    /// Never zero, since the prefix is not: so an `Option` takes no more room than a locator.
    sum: NonZeroU16,
}

impl Locator {
    /// The locator of a vnet's interface in a host's slot.
    ///
    /// # Errors
    /// [`AddressError`] for a prefix of another length and, in layouts without slots, a slot other than 0.
    pub fn new(layout: Layout, prefix: HostPrefix, slot: Slot, vnet: VnetId) -> Result<Self, AddressError> {
        let ipv4 = Ipv4Addr::UNSPECIFIED;
        let address =
            layout.encode(&SubstrateAddress { prefix, slot, delivery: Delivery::Owner, vnet, ipv4 })?;
        let [octets @ .., _, _, _, _] = address.octets();
        let (words, _) = octets.as_chunks::<2>();
        // Six words cannot overflow 32 bits, and two folds always suffice (RFC 1071).
        let sum = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum::<u32>();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = NonZeroU16::new(((sum & 0xffff) + (sum >> 16)) as u16);
        let Some(sum) = sum else { return refuse("host prefix", "a routable unicast prefix") };
        Ok(Self { octets, sum })
    }

    /// The twelve octets as they lie in front of the IPv4 address.
    #[inline]
    #[must_use]
    pub const fn octets(&self) -> &[u8; 12] {
        &self.octets
    }

    /// The folded one's-complement sum of its six big-endian words, not complemented.
    #[inline]
    #[must_use]
    pub const fn sum(&self) -> u16 {
        self.sum.get()
    }

    /// The same for what is delivered by slot (U/L=1): to and from networks behind the interface. Layouts without flags cannot
    /// say it.
    #[must_use]
    pub fn by_slot(mut self, layout: Layout) -> Self {
        let [.., octet, _, _, _] = &mut self.octets;
        if layout.has_slots() && *octet & LOCAL_BIT == 0 {
            *octet |= LOCAL_BIT;
            // The octet is the first of its word.
            let sum = u32::from(self.sum()) + (u32::from(LOCAL_BIT) << 8);
            // Not zero, since neither part is.
            self.sum = NonZeroU16::new(((sum & 0xffff) + (sum >> 16)) as u16).unwrap_or(self.sum);
        }
        self
    }

    /// The same without what differs between the nodes of a host, and the six bits of the slot.
    pub(crate) fn split(self) -> (LocatorStem, u8) {
        let [eight @ .., octet, _, _, _] = self.octets;
        let octets = [octet & !SLOT_BITS, 0, 0, 0];
        let mut sum = 0_u64;
        for word in eight.as_chunks::<2>().0.iter().chain(octets.as_chunks::<2>().0) {
            sum += u64::from(u16::from_be_bytes(*word));
        }
        let stem = LocatorStem { eight, octet: octet & !SLOT_BITS, sum: Sum::ZERO.add_32(sum as u32).fold() };
        (stem, octet >> 2)
    }

    /// The locator as it lies in memory: its first eight octets, and the next four.
    #[cfg(test)]
    pub(crate) fn words(&self) -> (u64, u32) {
        (crate::wire::word::u64_at(&self.octets, 0), crate::wire::word::u32_at(&self.octets, 8))
    }

    /// Whether it is what `address` begins with.
    #[inline]
    #[must_use]
    pub fn leads(&self, address: Ipv6Addr) -> bool {
        let [octets @ .., _, _, _, _] = address.octets();
        octets == self.octets
    }

    /// The substrate address of an IPv4 address that lives here.
    #[inline]
    #[must_use]
    pub const fn address(&self, ipv4: Ipv4Addr) -> Ipv6Addr {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.octets;
        let [m, n, o, p] = ipv4.octets();
        Ipv6Addr::from_octets([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    /// The host's prefix.
    #[must_use]
    pub fn prefix(&self, layout: Layout) -> HostPrefix {
        let length = layout.prefix_length();
        let bits = self.address(Ipv4Addr::UNSPECIFIED).to_bits() & (u128::MAX << (128 - u32::from(length)));
        HostPrefix { bits, length }
    }

    /// Whether both are on the same host.
    #[inline(always)]
    #[must_use]
    pub(crate) fn shares_prefix(&self, other: &Self, layout: Layout) -> bool {
        let ([one @ .., one_more, _, _, _], [two @ .., two_more, _, _, _]) = (&self.octets, &other.octets);
        // The lengths that there are.
        one == two && (layout.prefix_length() == 64 || one_more == two_more)
    }

    /// The slot; 0 in layouts without slots.
    #[must_use]
    pub fn slot(&self, layout: Layout) -> Slot {
        let [.., octet, _, _, _] = self.octets;
        if layout.has_slots() { Slot::new(octet >> 2).unwrap_or(Slot::ZERO) } else { Slot::ZERO }
    }
}

/// The six bits of the slot in its octet. Layouts without slots may have bits of the prefix there, which go their way too.
const SLOT_BITS: u8 = 0b1111_1100;

/// What the locators of all nodes of a host have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LocatorStem {
    eight: [u8; 8],
    /// The ninth octet without [`SLOT_BITS`].
    octet: u8,
    sum: u16,
}

impl LocatorStem {
    /// What follows the first eight octets, as a number.
    #[inline(always)]
    const fn four(&self, slot: u8, vnet: u32) -> u32 {
        (self.octet as u32) << 24 | (slot as u32) << 26 | vnet
    }

    /// The locator of a node.
    pub(crate) fn join(&self, slot: u8, vnet: u32) -> Locator {
        let [a, b, c, d, e, f, g, h] = self.eight;
        let [i, j, k, l] = self.four(slot, vnet).to_be_bytes();
        // Not zero, since the prefix is not: a sum of words which are not all zero never folds to zero (RFC 1071).
        let sum = NonZeroU16::new(self.sum(slot, vnet).fold()).unwrap_or(NonZeroU16::MAX);
        Locator { octets: [a, b, c, d, e, f, g, h, i, j, k, l], sum }
    }

    /// The locator of a node, as it lies in memory: its first eight octets, and the next four.
    #[inline(always)]
    pub(crate) const fn words(&self, slot: u8, vnet: u32) -> (u64, u32) {
        (u64::from_ne_bytes(self.eight), self.four(slot, vnet).to_be())
    }

    /// The one's-complement sum of a node's locator.
    #[inline(always)]
    pub(crate) const fn sum(&self, slot: u8, vnet: u32) -> Sum {
        Sum::ZERO.add(self.sum).add_32((slot as u32) << 26 | vnet)
    }

    /// Whether both are on the same host.
    #[inline(always)]
    pub(crate) fn shares_prefix(&self, slot: u8, other: &Locator, layout: Layout) -> bool {
        let [eight @ .., octet, _, _, _] = &other.octets;
        // The lengths that there are.
        self.eight == *eight && (layout.prefix_length() == 64 || (self.octet | slot << 2) == *octet)
    }
}

impl fmt::Debug for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Locator({}/96)", self.address(Ipv4Addr::UNSPECIFIED))
    }
}

impl FromStr for Layout {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let layout = Self::ALL.into_iter().find(|layout| layout.name() == text);
        layout.ok_or(AddressError { field: "layout", legal: "slot64, plain72 or plain64" })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_value_decodes_to_itself_or_is_refused(bits: u128, layout in prop::sample::select(&Layout::ALL)) {
            let address = Ipv6Addr::from_bits(bits);
            if let Ok(fields) = layout.decode(address) {
                prop_assert_eq!(layout.encode(&fields), Ok(address));
            }
        }

        #[test]
        fn owner_in_a_slot_is_what_the_codec_says(bits: u128) {
            let address = Ipv6Addr::from_bits(bits);
            let fields = Layout::Slot64.decode_behind(HostPrefix { bits: 1 << 64, length: 64 }, address);
            let owner = fields.ok().filter(|fields| fields.delivery == Delivery::Owner);
            prop_assert_eq!(Layout::owner_in_slot(bits as u64), owner.map(|owner| (owner.slot, owner.vnet)));
        }

        #[test]
        fn legal_fields_survive_the_address(
            prefix: u64, slot in 0u8..64, flags in 0usize..3, vnet in 1u32..0x100_0000, ipv4: u32,
        ) {
            prop_assume!(prefix >> 32 != 0 && prefix >> 56 != 0xff && prefix >> 54 != 0x3fa);
            let fields = SubstrateAddress {
                prefix: HostPrefix::new(Layout::Slot64, Ipv6Addr::from_bits(u128::from(prefix) << 64)).unwrap(),
                slot: Slot::new(slot).unwrap(),
                delivery: [Delivery::Owner, Delivery::Slot, Delivery::Group][flags],
                vnet: VnetId::new(vnet).unwrap(),
                ipv4: Ipv4Addr::from_bits(ipv4),
            };
            let address = Layout::Slot64.encode(&fields).unwrap();
            prop_assert_eq!(Layout::Slot64.decode(address), Ok(fields));
        }
    }

    #[test]
    fn fields_lie_where_the_layout_says() {
        let fields = Layout::Slot64.decode("fd00:0:0:a:1400:7:a00:5".parse().unwrap()).unwrap();
        assert_eq!(fields.prefix.to_string(), "fd00:0:0:a::/64");
        assert_eq!((fields.slot.get(), fields.vnet.get()), (5, 7));
        assert_eq!((fields.delivery, fields.ipv4), (Delivery::Owner, Ipv4Addr::new(10, 0, 0, 5)));

        let fields = Layout::Plain72.decode("fd00:0:0:a:1400:7:a00:5".parse().unwrap()).unwrap();
        assert_eq!(fields.prefix.to_string(), "fd00:0:0:a:1400::/72");
        assert_eq!(fields.vnet.get(), 7);
    }

    #[test]
    fn refusals_name_the_field() {
        let field = |layout: Layout, text: &str| layout.decode(text.parse().unwrap()).unwrap_err().field;
        assert_eq!(field(Layout::Slot64, "fd00:0:0:a:300:7:a00:5"), "U/L and I/G");
        assert_eq!(field(Layout::Slot64, "fd00:0:0:a:1400:0:a00:5"), "vnet id");
        assert_eq!(field(Layout::Plain64, "fd00:0:0:a:1400:7:a00:5"), "vnet id");
        assert_eq!(field(Layout::Slot64, "ff02::1:ff00:1"), "host prefix");
        assert_eq!(field(Layout::Slot64, "fe80::7:a00:5"), "host prefix");
        assert_eq!(field(Layout::Slot64, "::1"), "host prefix");
    }

    #[test]
    fn locator_is_the_address_without_its_ipv4() {
        let ipv4 = Ipv4Addr::new(10, 0, 0, 5);
        for (layout, slot) in [(Layout::Slot64, 5), (Layout::Plain72, 0), (Layout::Plain64, 0)] {
            let text = format!("fd00:0:ffff:ffff::/{}", layout.prefix_length());
            let prefix = HostPrefix::parse(layout, &text).unwrap();
            let (slot, vnet) = (Slot::new(slot).unwrap(), VnetId::MAX);
            let locator = Locator::new(layout, prefix, slot, vnet).unwrap();
            assert_eq!((locator.prefix(layout), locator.slot(layout)), (prefix, slot));
            let fields = SubstrateAddress { prefix, slot, delivery: Delivery::Owner, vnet, ipv4 };
            assert_eq!(layout.encode(&fields), Ok(locator.address(ipv4)));
            assert_eq!(locator.address(ipv4).octets()[..12], *locator.octets());
            assert!(locator.leads(locator.address(ipv4)));
            let (stem, tag) = locator.split();
            assert_eq!(stem.join(tag, vnet.get()), locator);
            assert_eq!(
                (stem.words(tag, vnet.get()), stem.sum(tag, vnet.get()).fold()),
                (locator.words(), locator.sum())
            );
            assert!(stem.shares_prefix(tag, &locator, layout));
            let other = HostPrefix::parse(layout, &text.replace("ffff::", "fffe::")).unwrap();
            assert!(!stem.shares_prefix(tag, &Locator::new(layout, other, slot, vnet).unwrap(), layout));
            assert!((32..128).all(|bit| {
                let other = locator.address(ipv4).to_bits() ^ 1 << bit;
                !locator.leads(Ipv6Addr::from_bits(other))
            }));
            let sum: u32 = locator.address(Ipv4Addr::UNSPECIFIED).segments().into_iter().map(u32::from).sum();
            assert_eq!(u32::from(locator.sum()) % 0xffff, sum % 0xffff);
        }
        let prefix = HostPrefix::parse(Layout::Plain64, "fd00::/64").unwrap();
        assert!(Locator::new(Layout::Plain64, prefix, Slot::new(1).unwrap(), VnetId::MIN).is_err());
    }

    #[test]
    fn locator_by_slot_has_its_flag_and_the_sum_of_what_it_is() {
        for (layout, prefix) in
            [(Layout::Slot64, "fd00:0:ffff:ffff::/64"), (Layout::Plain72, "fd00:0:ffff:ffff::/72")]
        {
            let prefix = HostPrefix::parse(layout, prefix).unwrap();
            for slot in 0..if layout.has_slots() { 64 } else { 1 } {
                let slot = Slot::new(slot).unwrap();
                let owner = Locator::new(layout, prefix, slot, VnetId::MAX).unwrap();
                let by_slot = owner.by_slot(layout);
                let address = by_slot.address(Ipv4Addr::UNSPECIFIED);
                let sum: u32 = address.segments().into_iter().map(u32::from).sum();
                assert_eq!(u32::from(by_slot.sum()) % 0xffff, sum % 0xffff);
                let delivery = if layout.has_slots() { Delivery::Slot } else { Delivery::Owner };
                assert_eq!(
                    layout.decode(address).map(|fields| (fields.delivery, fields.slot)),
                    Ok((delivery, slot))
                );
                assert_eq!(by_slot.by_slot(layout), by_slot);
            }
        }
    }

    #[test]
    fn prefix_text_must_have_the_layouts_length() {
        assert!(HostPrefix::parse(Layout::Slot64, "fd00:0:0:a::/64").is_ok());
        for bad in ["fd00::/48", "fd00:0:0:a::", "fd00:0:0:a::1/64", "ff02::/64", "10.0.0.0/8", ""] {
            assert!(HostPrefix::parse(Layout::Slot64, bad).is_err(), "{bad}");
        }
        assert!(HostPrefix::parse(Layout::Plain72, "fd00:0:0:a:100::/72").is_ok());
    }
}
