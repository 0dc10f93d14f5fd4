//! From an uplink: is the sender where provisioning says that it is?
//!
//! This compares addresses. It presumes that the substrate lets no host send from another's prefix (BCP 38).

use super::{Arrival, FromUplink, Inbound, external, routed, router};
use crate::address::{Delivery, Layout, Locator, SubstrateAddress};
use crate::drop::DropReason;
use crate::id::VnetId;
use crate::packet::Packet;
use crate::pipeline::Outbox;
use crate::plain::Six;
use crate::table::mapping::{FoundMapping, Mapping, MappingKey};
use core::net::Ipv6Addr;

/// Takes the source apart, and asks for what provisioning says of its (vnet, IPv4), unless it can be none.
///
/// On the straight line a source in the destination's vnet is looked up without being taken apart: if it is where its
/// mapping says, it is legal, since that mapping's locator is; if not, [`check`] takes it apart.
pub(crate) fn ask(
    uplink: &FromUplink<'_>,
    packet: &mut impl Packet,
    item: &mut Inbound<'_>,
) -> Result<(), DropReason> {
    let receiver = item.receiver;
    if external::accept(uplink, packet, item) {
        return Ok(());
    }
    let arrival = item.arrival(packet);
    let router = match legal(uplink, arrival).and_then(|()| routed::source(uplink, arrival, receiver)) {
        Ok(router) => router,
        Err(reason) => {
            maybe_router(uplink, packet, arrival, reason, false)?;
            None
        }
    };
    let own = || MappingKey::new(arrival.source_vnet, arrival.header.source);
    item.asked = uplink.view.ask(router.unwrap_or_else(own));
    Ok(())
}

/// Compares prefix and slot of the source with what was found.
#[inline(always)]
pub(crate) fn check<P: Packet>(
    uplink: &FromUplink<'_>,
    packet: &mut P,
    item: &mut Inbound<'_>,
    out: &mut impl Outbox<P>,
) -> Result<(), DropReason> {
    let key = item.asked.key();
    let lives = |mapping: FoundMapping<'_>| mapping.words(key) == Six::of_plain(packet).source_locator();
    match (item.plain, item.mapping) {
        (Some(_), Some(mapping)) if mapping.value().state.is_live() && lives(mapping) => Ok(()),
        _ => check_in_full(uplink, packet, item, out),
    }
}

/// What is not plain, and so may be an error, or is not simply where its mapping says.
#[inline(never)]
fn check_in_full<P: Packet>(
    uplink: &FromUplink<'_>,
    packet: &mut P,
    item: &mut Inbound<'_>,
    out: &mut impl Outbox<P>,
) -> Result<(), DropReason> {
    let key = item.asked.key();
    let mapping = item.mapping.map(|mapping| mapping.mapping(key));
    let receiver = item.receiver;
    // One whose address looks like a node's has come this far.
    let external = external::accept(uplink, packet, item);
    let arrival = item.arrival(packet);
    if arrival.not_a_node.is_none()
        && !external
        && let Err(reason) = legal(uplink, arrival).and_then(|()| lives(uplink, mapping, arrival))
    {
        let moves = mapping.is_some_and(|mapping| mapping.also_accept.is_some());
        maybe_router(uplink, packet, arrival, reason, moves)?;
    }
    if !router::is_error(packet, arrival) {
        return Ok(());
    }
    let receiver = receiver.ok_or(DropReason::DstUnknownNode)?;
    router::accept(uplink, packet, arrival, receiver, out)
}

/// Whether the source's (vnet, IPv4), or the router that it is behind, is provisioned to be where the packet came from.
fn lives(uplink: &FromUplink<'_>, mapping: Option<Mapping>, arrival: &Arrival) -> Result<(), DropReason> {
    let mapping = mapping.ok_or(DropReason::SrcUnknownNode)?;
    if !lives_at(uplink.snapshot.layout, &mapping, arrival.source, arrival.behind) {
        return Err(mismatch(uplink, &mapping, arrival.source));
    }
    if mapping.state.is_live() { Ok(()) } else { Err(DropReason::SrcNotLive) }
}

/// A source that is no node's is refused, unless the packet may be a router's, which is seen to later. While the node
/// `moves` a mismatch is no news.
#[cold]
fn maybe_router(
    uplink: &FromUplink<'_>,
    packet: &mut impl Packet,
    arrival: &mut Arrival,
    reason: DropReason,
    moves: bool,
) -> Result<(), DropReason> {
    if reason == DropReason::SrcOwnPrefix || arrival.group || !router::is_error(packet, arrival) {
        if !moves {
            uplink.note(reason, arrival.source);
        }
        return Err(reason);
    }
    arrival.not_a_node = Some(reason);
    Ok(())
}

/// Refuses sources that no owner on another host can have.
fn legal(uplink: &FromUplink<'_>, arrival: &mut Arrival) -> Result<(), DropReason> {
    let decoded = uplink.snapshot.layout.decode(arrival.source);
    let SubstrateAddress { prefix, delivery, vnet, .. } =
        decoded.map_err(|_| DropReason::SrcAddressInvalid)?;
    match delivery {
        Delivery::Owner => {}
        // Networks behind routers are their vnet's alone, and no members of groups.
        Delivery::Slot if vnet != arrival.destination_vnet || arrival.group => {
            return Err(DropReason::SrcNotRouted);
        }
        Delivery::Slot => arrival.behind = true,
        Delivery::Group => return Err(DropReason::SrcAddressInvalid),
    }
    if Some(prefix) == uplink.prefix {
        return Err(DropReason::SrcOwnPrefix);
    }
    if vnet != arrival.destination_vnet && !is_known(uplink, vnet, arrival.destination_vnet) {
        return Err(DropReason::SrcUnknownVnet);
    }
    arrival.source_vnet = vnet;
    Ok(())
}

/// Whether this host has anything to do with a vnet: a part in it, or a part in one that is its peer.
fn is_known(uplink: &FromUplink<'_>, vnet: VnetId, destination: VnetId) -> bool {
    let snapshot = uplink.snapshot;
    snapshot.vnet(vnet).is_some() || snapshot.vnet(destination).is_some_and(|own| own.peering(vnet).is_some())
}

/// Whether the upper 96 bits of `source` are where the mapping says, or, during a move, where the node may be too; with the
/// flag of what is `behind` a router if the mapping is of one.
#[inline]
pub(crate) fn lives_at(layout: Layout, mapping: &Mapping, source: Ipv6Addr, behind: bool) -> bool {
    let is_at =
        |place: &Locator| if behind { place.by_slot(layout).leads(source) } else { place.leads(source) };
    is_at(&mapping.locator) || mapping.also_accept.as_ref().is_some_and(is_at)
}

/// What is wrong with a source that is not where its mapping says.
fn mismatch(uplink: &FromUplink<'_>, mapping: &Mapping, source: Ipv6Addr) -> DropReason {
    let has_prefix = |place: &Locator| place.prefix(uplink.snapshot.layout).contains(source);
    if has_prefix(&mapping.locator) || mapping.also_accept.as_ref().is_some_and(has_prefix) {
        DropReason::SrcSlotMismatch
    } else {
        DropReason::SrcPrefixMismatch
    }
}
