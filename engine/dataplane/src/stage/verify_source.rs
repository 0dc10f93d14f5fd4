//! From an uplink: is the sender where provisioning says that it is?
//!
//! This compares addresses. It presumes that the substrate lets no host send from another's prefix (BCP 38).

use super::{Burst, FromUplink, Inbound, look_up, router};
use crate::address::{Delivery, Locator, SubstrateAddress};
use crate::drop::DropReason;
use crate::packet::Packet;
use crate::pipeline::Outbox;
use crate::table::mapping::{Mapping, MappingKey};
use core::net::Ipv6Addr;

/// Takes the source apart, looks its (vnet, IPv4) up, and compares prefix and slot with what was found.
#[inline]
pub(crate) fn run<'a, P: Packet>(
    uplink: &FromUplink<'a>,
    burst: &mut Burst<Inbound<'a, P>>,
    out: &mut impl Outbox<P>,
) {
    burst.each(uplink, |item| match legal(uplink, item) {
        Ok(()) => Ok(()),
        Err(reason) => maybe_router(item, reason),
    });
    let key = |item: &Inbound<'a, P>| MappingKey::new(item.source_vnet, item.header.source);
    look_up::run(uplink.table, uplink.reader, burst, key, |item, mapping| item.mapping = mapping);
    burst.each(uplink, |item| {
        if item.not_a_node.is_none()
            && let Err(reason) = lives(uplink, item)
        {
            maybe_router(item, reason)?;
        }
        if router::is_error(item) { router::accept(uplink, item, out) } else { Ok(()) }
    });
}

/// Whether the source's (vnet, IPv4) is provisioned to be where the packet came from.
#[inline]
fn lives<P>(uplink: &FromUplink<'_>, item: &Inbound<'_, P>) -> Result<(), DropReason> {
    let mapping = item.mapping.ok_or(DropReason::SrcUnknownNode)?;
    if !lives_at(mapping, item.source) {
        return Err(mismatch(uplink, mapping, item.source));
    }
    if mapping.live { Ok(()) } else { Err(DropReason::SrcNotLive) }
}

/// A source that is no node's is refused, unless the packet may be a router's, which is seen to later.
#[cold]
fn maybe_router<P: Packet>(item: &mut Inbound<'_, P>, reason: DropReason) -> Result<(), DropReason> {
    if reason == DropReason::SrcOwnPrefix || !router::is_error(item) {
        return Err(reason);
    }
    item.not_a_node = Some(reason);
    Ok(())
}

/// Refuses sources that no owner on another host can have.
#[inline]
fn legal<P>(uplink: &FromUplink<'_>, item: &mut Inbound<'_, P>) -> Result<(), DropReason> {
    let decoded = uplink.snapshot.layout.decode(item.source);
    let SubstrateAddress { prefix, delivery, vnet, .. } =
        decoded.map_err(|_| DropReason::SrcAddressInvalid)?;
    match delivery {
        Delivery::Owner => {}
        Delivery::Slot => return Err(DropReason::SrcFormUnsupported),
        Delivery::Group => return Err(DropReason::SrcAddressInvalid),
    }
    if Some(prefix) == uplink.prefix {
        return Err(DropReason::SrcOwnPrefix);
    }
    if vnet != item.destination_vnet && uplink.snapshot.vnet(vnet).is_none() {
        return Err(DropReason::SrcUnknownVnet);
    }
    item.source_vnet = vnet;
    Ok(())
}

/// Whether the upper 96 bits of `source` are where the mapping says, or, during a move, where the node may be too.
#[inline]
pub(crate) fn lives_at(mapping: &Mapping, source: Ipv6Addr) -> bool {
    let is_at = |place: &Locator| place.leads(source);
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
