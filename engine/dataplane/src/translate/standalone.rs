//! The translator by itself: addresses from a table instead of the substrate's layout, and no stages around it.
//!
//! Every packet is judged alone, by the very functions that carry a worker's. What needs memory of other packets is the
//! stages': which fragments belong together, what paths carry. How often errors may be sent is the caller's to say.

use super::answer::{Envelope, about_ipv4, about_ipv6};
use super::icmp::Mtus;
use super::{
    AddressMap, Crossing, Ends, FormerEnds, Identifications, LastHop, PlainHop, PlainWay, Settings, WayOut,
    four_to_six, message, quoted_ends, six_to_four,
};
use crate::drop::DropReason;
use crate::extension;
use crate::fragment::{self, Part};
use crate::header::{NetworkHeader, contiguous, read_ipv4, read_ipv6};
use crate::mac::MacAddr;
use crate::packet::{Packet, Pool};
use crate::plain;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, ethertype};
use crate::wire::{ipv6, protocol};
use core::net::{Ipv4Addr, Ipv6Addr};

/// An IP version, and with it one of the translator's two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// IPv4: a node's.
    Ipv4,
    /// IPv6: the substrate's.
    Ipv6,
}

/// What a [`Translator`] knows.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who is who.
    pub map: AddressMap,
    /// Where the standards leave a choice. The gateway of [`RouterSource::Gateway`](super::RouterSource::Gateway) is
    /// `own_ipv4`.
    pub settings: Settings,
    /// Largest IPv4 packet that is sent, in bytes.
    pub ipv4_mtu: u16,
    /// Largest IPv6 packet that is sent, in bytes; at least [`Settings::MIN_IPV6_MTU`].
    pub ipv6_mtu: u16,
    /// The translator's own addresses, which errors come from that it makes; without one they come from where the packet
    /// was going.
    pub own_ipv4: Option<Ipv4Addr>,
    /// The same on the IPv6 side.
    pub own_ipv6: Option<Ipv6Addr>,
}

impl Default for Options {
    /// Nobody known, the settings' defaults, Ethernet on the IPv6 side and 20 bytes less on the other.
    fn default() -> Self {
        Self {
            map: AddressMap::default(),
            settings: Settings::default(),
            ipv4_mtu: 1480,
            ipv6_mtu: 1500,
            own_ipv4: None,
            own_ipv6: None,
        }
    }
}

/// RFC 7915 as the engine has it, with addresses of a table.
#[derive(Debug)]
pub struct Translator {
    options: Options,
    identifications: Identifications,
}

impl Translator {
    /// A translator that has seen no packet yet.
    #[must_use]
    pub const fn new(options: Options) -> Self {
        Self { options, identifications: Identifications::new(0) }
    }

    /// Carries the packet of an Ethernet frame to the other IP version. `emit` gets what comes of it, and the side that it
    /// goes to: the packet or its fragments on the other side, with the frame's own hardware addresses, or on its own
    /// side an ICMP error back to the sender.
    ///
    /// `allowed` is asked before each ICMP error that is sent to a side, and each that a router on that side has sent;
    /// without its leave there is no answer, and the router's error is dropped.
    ///
    /// # Errors
    /// Why the packet is not carried over.
    pub fn translate<K: Pool>(
        &mut self,
        pool: &K,
        mut packet: K::Packet,
        allowed: &mut impl FnMut(Side) -> bool,
        emit: &mut impl FnMut(Side, K::Packet),
    ) -> Result<(), DropReason> {
        contiguous(&mut packet, ethernet::LENGTH)?;
        let frame = ethernet::Header::new_checked(packet.head()).map_err(|_| DropReason::FrameTruncated)?;
        let ends = (frame.source(), frame.destination());
        match frame.ethertype() {
            ethertype::IPV4 => self.outbound(pool, packet, ends, || allowed(Side::Ipv4), emit),
            ethertype::IPV6 => self.inbound(pool, packet, ends, || allowed(Side::Ipv6), emit),
            _ => Err(DropReason::EthertypeUnsupported),
        }
    }

    const fn mtus(&self) -> Mtus {
        Mtus { four: self.options.ipv4_mtu, six: self.options.ipv6_mtu }
    }

    fn outbound<K: Pool>(
        &self,
        pool: &K,
        mut packet: K::Packet,
        (from, to): (MacAddr, MacAddr),
        allowed: impl FnOnce() -> bool,
        emit: &mut impl FnMut(Side, K::Packet),
    ) -> Result<(), DropReason> {
        let Options { map, settings, .. } = &self.options;
        let (header, plain) = match plain::read_ipv4(&mut packet) {
            Some((header, plain)) => (header, Some(plain)),
            None => (read_ipv4(&mut packet)?, None),
        };
        check_part(&header)?;
        let source = map.ipv6(header.source).ok_or(DropReason::SrcUnknownNode)?;
        let destination = map.ipv6(header.destination).ok_or(DropReason::NoMapping)?;
        let former = sum(&[&header.source.octets(), &header.destination.octets()]);
        let change = sum(&[&source.octets(), &destination.octets()]).remove(former.fold());
        let ends = Ends { source, destination, change };
        let way = WayOut::new(from, to, self.mtus(), settings);
        let line = PlainWay::new(header.source, source, &way, settings);
        let late = || (ipv6::halves(destination), change);
        if plain.is_some_and(|plain| line.carry(&mut packet, plain, late)) {
            emit(Side::Ipv6, packet);
            return Ok(());
        }
        match four_to_six(&mut packet, &header, &ends, &way, settings, map) {
            Ok(crossing) => leave(pool, packet, crossing, |packet| emit(Side::Ipv6, packet)),
            Err(refusal) => {
                if let Some(told) = refusal.answer {
                    let own = self.options.own_ipv4.unwrap_or(header.destination);
                    let envelope = Envelope { frame: (to, from), ends: (own, header.source) };
                    if let Some(packet) = about_ipv4(packet, told, envelope, allowed) {
                        emit(Side::Ipv4, packet);
                    }
                }
                Err(refusal.reason)
            }
        }
    }

    fn inbound<K: Pool>(
        &mut self,
        pool: &K,
        mut packet: K::Packet,
        (from, to): (MacAddr, MacAddr),
        mut allowed: impl FnMut() -> bool,
        emit: &mut impl FnMut(Side, K::Packet),
    ) -> Result<(), DropReason> {
        let Options { map, settings, .. } = &self.options;
        let ((header, source, destination), plain) = match plain::read_ipv6(&mut packet) {
            Some((read, plain)) => (read, Some(plain)),
            None => {
                let (header, source, destination) = read_ipv6(&mut packet)?;
                let (header, plain) = extension::read(&mut packet, header, (source, destination))?;
                ((header, source, destination), plain)
            }
        };
        check_part(&header)?;
        let header = NetworkHeader {
            destination: map.ipv4(destination).ok_or(DropReason::DstUnknownNode)?,
            source: match map.ipv4(source) {
                Some(node) => node,
                None => self.router(&mut packet, &header, source, &mut allowed)?,
            },
            ..header
        };
        let new = sum(&[&header.source.octets(), &header.destination.octets()]);
        let change = new.remove(sum(&[&source.octets(), &destination.octets()]).fold());
        let ends = FormerEnds { source, destination, change };
        let Mtus { four: mtu, six } = self.mtus();
        let frame = ethernet::Prepared::new(to, from, ethertype::IPV4);
        let hop = LastHop { frame, mtu, way_back: six, uplink_mtu: six };
        let identifications = &self.identifications;
        let line = PlainHop::new(&frame, header.destination, mtu, settings);
        let words = [u32::from_ne_bytes(header.source.octets()), frame.sender()];
        if plain.is_some_and(|plain| line.carry(&mut packet, plain, words, change, identifications)) {
            emit(Side::Ipv4, packet);
            return Ok(());
        }
        match six_to_four(&mut packet, &header, &ends, &hop, settings, map, identifications) {
            Ok(crossing) => leave(pool, packet, crossing, |packet| emit(Side::Ipv4, packet)),
            Err(refusal) => {
                if let Some(told) = refusal.answer {
                    let own = self.options.own_ipv6.unwrap_or(destination);
                    let envelope = Envelope { frame: (to, from), ends: (own, source) };
                    if let Some(packet) = about_ipv6(packet, told, envelope, allowed) {
                        emit(Side::Ipv6, packet);
                    }
                }
                Err(refusal.reason)
            }
        }
    }

    /// The IPv4 address of a source that is not in the table: routers have one for their errors (RFC 6791), others none.
    /// What a router's error comes from is chosen as the stages choose it.
    fn router(
        &self,
        packet: &mut impl Packet,
        header: &NetworkHeader,
        source: Ipv6Addr,
        allowed: impl FnOnce() -> bool,
    ) -> Result<Ipv4Addr, DropReason> {
        let is_error = header.protocol == protocol::ICMPV6
            && header.part().is_none()
            && message::is_v6_error(packet, header) == Ok(true);
        if !is_error {
            return Err(DropReason::SrcUnknownNode);
        }
        if !allowed() {
            return Err(DropReason::IcmpRateLimited);
        }
        if let Some(address) = self.options.settings.router_source.address(source, self.options.own_ipv4) {
            return Ok(address);
        }
        let (_, destination) = quoted_ends(packet, header)?;
        self.options.map.ipv4(destination).ok_or(DropReason::IcmpQuoteForeign)
    }
}

/// Refuses fragments that can be none, by themselves.
fn check_part(header: &NetworkHeader) -> Result<(), DropReason> {
    let Some(part) = header.part() else { return Ok(()) };
    Part::new_checked(header.protocol, part.offset, part.more, header.payload).map(|_| ())
}

fn sum(addresses: &[&[u8]]) -> Sum {
    addresses.iter().fold(Sum::ZERO, |sum, address| sum.add_bytes(address))
}

fn leave<K: Pool>(
    pool: &K,
    packet: K::Packet,
    crossing: Crossing,
    mut emit: impl FnMut(K::Packet),
) -> Result<(), DropReason> {
    match crossing {
        Crossing::Whole => emit(packet),
        Crossing::Cut { mtu } => fragment::cut(pool, packet, mtu, emit)?,
    }
    Ok(())
}

#[cfg(test)]
#[path = "standalone_tests.rs"]
mod tests;
