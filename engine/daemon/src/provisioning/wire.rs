//! Between the sync protocol's messages and the checked model. Every field from the wire is hostile until it is here.

use super::model::{
    Attachment, AttachmentKind, Change, DeviceName, Host, Interface, MAX_ADDRESSES, MAX_NAME, MAX_PEERINGS,
    MAX_SUBNETS, Mapping, Revision, Target, Vnet, What,
};
use super::rule_wire::{action, encode_action, encode_rule, encode_tags, node_tags, rule};
use super::{external_wire, group_wire, route_wire};
use crate::telemetry::WorkerVitals;
use core::fmt::Display;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use ipnet::Ipv4Net;
use overlane_api::resource::DEVICE_NAME_LEGAL;
use overlane_api::sync;
use overlane_dataplane::address::{HostPrefix, Layout, Locator};
use overlane_dataplane::cap::RateLimit;
use overlane_dataplane::dhcp;
use overlane_dataplane::id::{Slot, VnetId};
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::policy::Action;
use overlane_dataplane::snapshot::{Peering, Subnet};
use std::sync::Arc;

/// A message that is refused: the field, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {legal}, not {given}")]
pub struct WireError {
    /// The field, like `put_interface.slot`.
    pub field: &'static str,
    /// Its legal values.
    pub legal: String,
    /// What came, shortened.
    pub given: String,
}

pub(super) fn wrong(field: &'static str, legal: impl Into<String>, given: impl Display) -> WireError {
    let given: String = given.to_string().chars().take(64).collect();
    WireError { field, legal: legal.into(), given: given.escape_debug().to_string() }
}

pub(super) fn absent(field: &'static str) -> WireError {
    wrong(field, "present", "absent")
}

/// Checks a revision.
///
/// # Errors
/// [`WireError`] naming the field.
pub fn revision(revision: Option<&sync::Revision>) -> Result<Revision, WireError> {
    let revision = revision.ok_or_else(|| absent("revision"))?;
    let given = format!("{} bytes", revision.incarnation.len());
    let incarnation = <[u8; 16]>::try_from(revision.incarnation.as_slice());
    let incarnation = incarnation.map_err(|_| wrong("revision.incarnation", "16 bytes", given))?;
    Ok(Revision { incarnation, number: revision.number })
}

/// A revision as a message.
#[must_use]
pub fn encode_revision(revision: Revision) -> sync::Revision {
    sync::Revision { incarnation: revision.incarnation.to_vec(), number: revision.number }
}

/// What the workers have done, as a message; `None` when there are none (any more).
#[must_use]
pub fn workers(workers: &[WorkerVitals]) -> Option<sync::WorkersReport> {
    let microseconds = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let report = |worker: &WorkerVitals| sync::WorkerReport {
        core: u32::try_from(worker.core).unwrap_or(u32::MAX),
        packets: worker.packets,
        receive_cycles: worker.cycles.receive,
        classify_cycles: worker.cycles.classify,
        authorise_cycles: worker.cycles.authorise,
        translate_cycles: worker.cycles.translate,
        send_cycles: worker.cycles.send,
        turn_cycles: worker.cycles.turns,
        busy_us: microseconds(worker.busy),
        total_us: microseconds(worker.total),
    };
    (!workers.is_empty()).then(|| sync::WorkersReport { workers: workers.iter().map(report).collect() })
}

/// Checks the engine's own host.
///
/// # Errors
/// [`WireError`] naming the field.
pub fn host(host: &sync::Host) -> Result<Host, WireError> {
    let layout: Layout =
        host.layout.parse().map_err(|_| wrong("host.layout", "slot64, plain72 or plain64", &host.layout))?;
    let prefix = HostPrefix::parse(layout, &host.prefix)
        .map_err(|error| wrong("host.prefix", error.legal, &host.prefix))?;
    Ok(Host { id: name("host.id", &host.id)?, layout, prefix })
}

/// Checks one change; locations are read in `layout`.
///
/// # Errors
/// [`WireError`] naming the field.
pub fn change(change: sync::Change, layout: Layout) -> Result<Change, WireError> {
    use sync::change::What as Wire;
    let what = match change.what.ok_or_else(|| absent("change.what"))? {
        Wire::PutHost(put) => {
            let put = host(&put)?;
            if put.layout != layout {
                return Err(wrong("put_host.layout", format!("{layout}, as it was at Welcome"), put.layout));
            }
            What::PutHost(put)
        }
        Wire::PutVnet(put) => What::PutVnet(vnet(put)?),
        Wire::DeleteVnet(id) => What::DeleteVnet(vnet_id("delete_vnet", id)?),
        Wire::PutInterface(put) => What::PutInterface(interface(put, layout)?),
        Wire::DeleteInterface(id) => What::DeleteInterface(name("delete_interface", &id)?.into()),
        Wire::PutMapping(put) => {
            let (target, mapping) = mapping(put, layout)?;
            What::PutMapping(target, mapping)
        }
        Wire::DeleteMapping(key) => What::DeleteMapping(target(key)?),
        Wire::RefreshMapping(put) => {
            let (target, mapping) = mapping(put, layout)?;
            What::RefreshMapping(target, mapping)
        }
        Wire::PutGroup(put) => {
            let (group, hosts) = group_wire::hosts(&put, layout)?;
            What::PutGroup(group, hosts)
        }
        Wire::DeleteGroup(key) => What::DeleteGroup(group_wire::key("delete_group", key.vnet, key.ipv4)?),
        Wire::PutRule(put) => What::PutRule(rule(put)?),
        Wire::DeleteRule(id) => What::DeleteRule(name("delete_rule", &id)?.into()),
    };
    Ok(Change { revision: change.revision, what })
}

/// What the service says of a mapping that it was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolution {
    /// What that is true for.
    pub revision: Revision,
    /// The mapping and the change that last touched it, or why it is not told.
    pub outcome: Result<(u64, Mapping), sync::RefusalReason>,
}

/// Checks the answer to a request for the mapping of `asked`.
///
/// # Errors
/// [`WireError`] naming the field.
pub fn resolution(
    response: sync::ResolveResponse,
    asked: Target,
    layout: Layout,
) -> Result<Resolution, WireError> {
    use sync::resolve_response::Outcome;
    let revision = revision(response.revision.as_ref())?;
    let outcome = match response.outcome.ok_or_else(|| absent("resolve.outcome"))? {
        Outcome::Mapping(told) => {
            let (target, mapping) = mapping(told, layout)?;
            if target != asked {
                return Err(wrong("resolve.mapping.key", asked.to_string(), target));
            }
            // A service of before tells the moment only.
            let touched = match response.mapping_revision {
                0 => revision.number,
                touched => touched,
            };
            Ok((touched, mapping))
        }
        // A reason that is not known is one all the same.
        Outcome::Refusal(refusal) => Err(refusal.reason()),
    };
    Ok(Resolution { revision, outcome })
}

/// A change as a message.
#[must_use]
pub fn encode_change(change: &Change, layout: Layout) -> sync::Change {
    use sync::change::What as Wire;
    let what = match &change.what {
        What::PutHost(host) => Wire::PutHost(encode_host(host)),
        What::PutVnet(vnet) => Wire::PutVnet(encode_vnet(vnet)),
        What::DeleteVnet(id) => Wire::DeleteVnet(id.get()),
        What::PutInterface(interface) => Wire::PutInterface(encode_interface(interface)),
        What::DeleteInterface(id) => Wire::DeleteInterface(id.to_string()),
        What::PutMapping(target, mapping) => Wire::PutMapping(encode_mapping(*target, mapping, layout)),
        What::DeleteMapping(target) => Wire::DeleteMapping(encode_target(*target)),
        What::RefreshMapping(target, mapping) => {
            Wire::RefreshMapping(encode_mapping(*target, mapping, layout))
        }
        What::PutGroup(group, hosts) => Wire::PutGroup(group_wire::encode_hosts(*group, hosts, layout)),
        What::DeleteGroup(group) => Wire::DeleteGroup(encode_target(*group)),
        What::PutRule(rule) => Wire::PutRule(encode_rule(rule)),
        What::DeleteRule(id) => Wire::DeleteRule(id.to_string()),
    };
    sync::Change { revision: change.revision, what: Some(what) }
}

pub(super) fn name(field: &'static str, text: &str) -> Result<String, WireError> {
    let legal = (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control);
    let legal = legal.then(|| text.to_owned());
    legal.ok_or_else(|| wrong(field, format!("1 to {MAX_NAME} bytes of printable text"), text))
}

pub(super) fn vnet_id(field: &'static str, id: u32) -> Result<VnetId, WireError> {
    VnetId::new(id).map_err(|error| wrong(field, error.legal, id))
}

fn slot(field: &'static str, slot: u32, layout: Layout) -> Result<Slot, WireError> {
    let legal = if layout.has_slots() { "0 to 63" } else { "0 in a layout without slots" };
    u8::try_from(slot)
        .ok()
        .and_then(|slot| Slot::new(slot).ok())
        .filter(|slot| layout.has_slots() || *slot == Slot::ZERO)
        .ok_or_else(|| wrong(field, legal, slot))
}

fn vnet(put: sync::Vnet) -> Result<Vnet, WireError> {
    let id = vnet_id("put_vnet.id", put.id)?;
    let name = if put.name.is_empty() { id.to_string() } else { name("put_vnet.name", &put.name)? };
    if put.subnets.len() > MAX_SUBNETS {
        return Err(wrong("put_vnet.subnets", format!("at most {MAX_SUBNETS}"), put.subnets.len()));
    }
    let subnets: Vec<Subnet> = put.subnets.iter().map(subnet).collect::<Result<_, _>>()?;
    check_subnets(&subnets).map_err(|(legal, given)| wrong("put_vnet.subnets", legal, given))?;
    // A service that knows no rules says nothing of them.
    let default_action = match put.default_action {
        0 => Action::Allow,
        given => action("put_vnet.default_action", given)?,
    };
    if put.peerings.len() > MAX_PEERINGS {
        return Err(wrong("put_vnet.peerings", format!("at most {MAX_PEERINGS}"), put.peerings.len()));
    }
    let peerings: Vec<Peering> = put.peerings.iter().map(peering).collect::<Result<_, _>>()?;
    check_peerings(id, &subnets, &peerings)
        .map_err(|(legal, given)| wrong("put_vnet.peerings", legal, given))?;
    let dhcp = put.dhcp.map(dhcp_settings).transpose()?.map(Arc::new);
    let on_demand = put.on_demand;
    let groups = put.groups.map(group_wire::settings).transpose()?.unwrap_or_default();
    let routes = route_wire::routes(&put.routes, &put.transits)?;
    let nets: Vec<_> = subnets.iter().map(|subnet| subnet.net).collect();
    let nets = [nets, peerings.iter().flat_map(|peering| &peering.subnets).copied().collect()].concat();
    if let Some((route, subnet)) = routes.inside(&nets) {
        return Err(wrong(
            "put_vnet.routes",
            format!("networks that do not lie in the subnet {subnet}"),
            route,
        ));
    }
    Ok(Vnet {
        id,
        name,
        subnets,
        stateful: false,
        default_action,
        peerings,
        on_demand,
        dhcp,
        groups,
        routes: Arc::new(routes),
        externals: Arc::new(external_wire::externals(&put.externals, &nets)?),
    })
}

fn dhcp_settings(put: sync::Dhcp) -> Result<dhcp::Settings, WireError> {
    let address = |field, text: &String| text.parse().map_err(|_| wrong(field, "an IPv4 address", text));
    let route = |route: &sync::DhcpRoute| {
        let legal = "IPv4 in CIDR form, like 10.9.0.0/16";
        let net = route.cidr.parse().map_err(|_| wrong("dhcp.routes.cidr", legal, &route.cidr))?;
        Ok((net, address("dhcp.routes.via", &route.via)?))
    };
    // Counted before any is read.
    for (field, count, most) in
        [("dhcp.dns", put.dns.len(), dhcp::MAX_DNS), ("dhcp.routes", put.routes.len(), dhcp::MAX_ROUTES)]
    {
        if count > most {
            return Err(wrong(field, format!("at most {most}"), count));
        }
    }
    let boot = put.boot.map(|boot| {
        let server = address("dhcp.boot.server", &boot.server)?;
        Ok(dhcp::Boot { server, file: boot.file })
    });
    let settings = dhcp::Settings {
        dns: put.dns.iter().map(|server| address("dhcp.dns", server)).collect::<Result<_, _>>()?,
        domain: put.domain,
        lease_seconds: put.lease_seconds,
        routes: put.routes.iter().map(route).collect::<Result<_, WireError>>()?,
        boot: boot.transpose()?,
    };
    settings.check().map_err(|illegal| wrong("put_vnet.dhcp", illegal.legal, illegal.given))?;
    Ok(settings)
}

fn encode_dhcp(settings: &dhcp::Settings) -> sync::Dhcp {
    let route =
        |(net, via): &(Ipv4Net, Ipv4Addr)| sync::DhcpRoute { cidr: net.to_string(), via: via.to_string() };
    let boot =
        |boot: &dhcp::Boot| sync::DhcpBoot { server: boot.server.to_string(), file: boot.file.clone() };
    sync::Dhcp {
        dns: settings.dns.iter().map(ToString::to_string).collect(),
        domain: settings.domain.clone(),
        lease_seconds: settings.lease_seconds,
        routes: settings.routes.iter().map(route).collect(),
        boot: settings.boot.as_ref().map(boot),
    }
}

fn peering(peering: &sync::Peering) -> Result<Peering, WireError> {
    if peering.cidrs.len() > MAX_SUBNETS {
        return Err(wrong("peering.cidrs", format!("at most {MAX_SUBNETS}"), peering.cidrs.len()));
    }
    let net = |cidr: &String| {
        let net: Option<Ipv4Net> = cidr.parse().ok().filter(|net: &Ipv4Net| net.trunc() == *net);
        net.ok_or_else(|| wrong("peering.cidrs", "IPv4 in CIDR form, like 10.0.0.0/24", cidr))
    };
    Ok(Peering {
        vnet: vnet_id("peering.vnet", peering.vnet)?,
        subnets: peering.cidrs.iter().map(net).collect::<Result<_, _>>()?,
        default_action: action("peering.default_action", peering.default_action)?,
        on_demand: peering.on_demand,
    })
}

/// Peerings as they must be, here and in the static file: with others, each once, and no address in more than one of all
/// these networks. The error is what would be legal, and what is not.
pub(crate) fn check_peerings(
    own: VnetId,
    subnets: &[Subnet],
    peerings: &[Peering],
) -> Result<(), (&'static str, String)> {
    let mut nets: Vec<Ipv4Net> = subnets.iter().map(|subnet| subnet.net).collect();
    for (index, peering) in peerings.iter().enumerate() {
        let earlier = peerings.iter().take(index).any(|other| other.vnet == peering.vnet);
        if peering.vnet == own || earlier {
            return Err(("with other vnets, each once", peering.vnet.to_string()));
        }
        nets.extend(&peering.subnets);
    }
    // Sorted by their beginning, what overlaps lies side by side.
    nets.sort_unstable();
    match nets.iter().zip(nets.iter().skip(1)).find(|(one, two)| one.contains(*two)) {
        Some((one, two)) => {
            Err(("with vnets whose subnets overlap with no other's", format!("{one} and {two}")))
        }
        None => Ok(()),
    }
}

fn subnet(subnet: &sync::Subnet) -> Result<Subnet, WireError> {
    let net: Ipv4Net = subnet
        .cidr
        .parse()
        .map_err(|_| wrong("subnet.cidr", "IPv4 in CIDR form, like 10.0.0.0/24", &subnet.cidr))?;
    let gateway = match subnet.gateway.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| wrong("subnet.gateway", "an IPv4 address or empty", text))?),
    };
    Ok(Subnet { net, gateway })
}

/// Subnets as they must be, here and in the static file: host bits zero, apart from each other, gateways inside.
/// The error is what would be legal, and what is not.
pub(crate) fn check_subnets(subnets: &[Subnet]) -> Result<(), (&'static str, String)> {
    for (index, Subnet { net, gateway }) in subnets.iter().enumerate() {
        if net.trunc() != *net {
            return Err(("with zeros behind the prefix length", net.to_string()));
        }
        if let Some(gateway) = gateway
            && !is_host_of(net, *gateway)
        {
            return Err((
                "with a gateway that is a host address of its subnet",
                format!("{gateway} in {net}"),
            ));
        }
        let earlier = subnets.iter().take(index);
        if let Some(other) = earlier.map(|other| other.net).find(|o| o.contains(net) || net.contains(o)) {
            return Err(("apart from each other", format!("{net} and {other}")));
        }
    }
    Ok(())
}

/// Whether an address may be a node's or a gateway's in a subnet: not its network or broadcast address (which /31 and
/// /32 do not have, RFC 3021).
pub(crate) fn is_host_of(net: &Ipv4Net, address: Ipv4Addr) -> bool {
    net.contains(&address)
        && (net.prefix_len() >= 31 || address != net.network() && address != net.broadcast())
}

/// Whether a node may have this address at all.
pub(crate) fn is_unicast(address: Ipv4Addr) -> bool {
    !address.is_multicast()
        && !address.is_broadcast()
        && !address.is_loopback()
        && address.octets().first() != Some(&0)
}

fn unicast(field: &'static str, bits: u32) -> Result<Ipv4Addr, WireError> {
    let address = Ipv4Addr::from_bits(bits);
    is_unicast(address).then_some(address).ok_or_else(|| wrong(field, "a unicast IPv4 address", address))
}

fn interface(put: sync::Interface, layout: Layout) -> Result<Interface, WireError> {
    let mac = <[u8; 6]>::try_from(put.mac.as_slice()).ok().map(MacAddr).filter(|mac| mac.is_station());
    let mac = mac
        .ok_or_else(|| wrong("put_interface.mac", "six octets of a station", format!("{:02x?}", put.mac)))?;
    let count = put.addresses.len();
    if count == 0 || count > MAX_ADDRESSES {
        return Err(wrong("put_interface.addresses", format!("1 to {MAX_ADDRESSES} addresses"), count));
    }
    let mut addresses = put
        .addresses
        .into_iter()
        .map(|bits| unicast("put_interface.addresses", bits))
        .collect::<Result<Vec<_>, _>>()?;
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.len() != count {
        return Err(wrong("put_interface.addresses", "different from each other", "the same twice"));
    }
    let attachment = put.attachment.ok_or_else(|| absent("put_interface.attachment"))?;
    let kind = match attachment.kind() {
        sync::AttachmentKind::Veth => AttachmentKind::Veth,
        sync::AttachmentKind::Tap => AttachmentKind::Tap,
        sync::AttachmentKind::Unspecified => {
            return Err(wrong("put_interface.attachment.kind", "veth or tap", attachment.kind));
        }
    };
    let device = DeviceName::new(&attachment.device)
        .ok_or_else(|| wrong("put_interface.attachment.device", DEVICE_NAME_LEGAL, &attachment.device))?;
    Ok(Interface {
        id: name("put_interface.id", &put.id)?.into(),
        vnet: vnet_id("put_interface.vnet", put.vnet)?,
        slot: slot("put_interface.slot", put.slot, layout)?,
        mac,
        addresses,
        attachment: Attachment { kind, device },
        tags: node_tags("put_interface.tags", &put.tags)?,
        groups: group_wire::of_interface(&put.groups)?,
        rate: put.rate.map_or(Ok(RateLimit::default()), rate_limit)?,
    })
}

fn rate_limit(put: sync::RateLimit) -> Result<RateLimit, WireError> {
    let limit = RateLimit {
        packets_per_second: Some(put.packets_per_second).filter(|rate| *rate != 0),
        bits_per_second: Some(put.bits_per_second).filter(|rate| *rate != 0),
    };
    limit.check().map_err(|illegal| {
        wrong("put_interface.rate", format!("{} of {}, or 0", illegal.field, illegal.legal), illegal.given)
    })?;
    Ok(limit)
}

fn target(key: sync::MappingKey) -> Result<Target, WireError> {
    Ok(Target { vnet: vnet_id("mapping.key.vnet", key.vnet)?, ipv4: unicast("mapping.key.ipv4", key.ipv4)? })
}

fn mapping(put: sync::Mapping, layout: Layout) -> Result<(Target, Mapping), WireError> {
    let live = match put.state() {
        sync::MappingState::Live => true,
        sync::MappingState::Down => false,
        sync::MappingState::Unspecified => return Err(wrong("mapping.state", "live or down", put.state)),
    };
    let target = target(put.key.ok_or_else(|| absent("mapping.key"))?)?;
    let location = put.location.ok_or_else(|| absent("mapping.location"))?;
    let locator = locator(&location, target.vnet, layout)?;
    let also_accept =
        put.also_accept.map(|location| self::locator(&location, target.vnet, layout)).transpose()?;
    let tags = node_tags("put_mapping.tags", &put.tags)?;
    Ok((target, Mapping { locator, also_accept, live, tags }))
}

/// The prefix of a host, of as many bytes as it is long.
pub(super) fn prefix(field: &'static str, bytes: &[u8], layout: Layout) -> Result<HostPrefix, WireError> {
    let length = usize::from(layout.prefix_length() / 8);
    let mut octets = [0; 16];
    match octets.get_mut(..length) {
        Some(front) if bytes.len() == length => front.copy_from_slice(bytes),
        _ => return Err(wrong(field, format!("{length} bytes"), format!("{} bytes", bytes.len()))),
    }
    let address = Ipv6Addr::from_octets(octets);
    HostPrefix::new(layout, address).map_err(|error| wrong(field, error.legal, address))
}

pub(super) fn encode_prefix(prefix: HostPrefix, layout: Layout) -> Vec<u8> {
    let length = usize::from(layout.prefix_length() / 8);
    prefix.network().octets().into_iter().take(length).collect()
}

fn locator(location: &sync::Location, vnet: VnetId, layout: Layout) -> Result<Locator, WireError> {
    let prefix = prefix("mapping.location.prefix", &location.prefix, layout)?;
    let slot = slot("mapping.location.slot", location.slot, layout)?;
    Locator::new(layout, prefix, slot, vnet).map_err(|error| wrong("mapping.location", error.legal, prefix))
}

fn encode_host(host: &Host) -> sync::Host {
    sync::Host { id: host.id.clone(), layout: host.layout.to_string(), prefix: host.prefix.to_string() }
}

fn encode_vnet(vnet: &Vnet) -> sync::Vnet {
    let subnet = |subnet: &Subnet| sync::Subnet {
        cidr: subnet.net.to_string(),
        gateway: subnet.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
    };
    let peering = |peering: &Peering| sync::Peering {
        vnet: peering.vnet.get(),
        cidrs: peering.subnets.iter().map(ToString::to_string).collect(),
        default_action: encode_action(peering.default_action).into(),
        on_demand: peering.on_demand,
    };
    let (routes, transits) = route_wire::encode(&vnet.routes);
    sync::Vnet {
        id: vnet.id.get(),
        name: vnet.name.clone(),
        subnets: vnet.subnets.iter().map(subnet).collect(),
        default_action: encode_action(vnet.default_action).into(),
        peerings: vnet.peerings.iter().map(peering).collect(),
        on_demand: vnet.on_demand,
        dhcp: vnet.dhcp.as_deref().map(encode_dhcp),
        groups: Some(group_wire::encode_settings(&vnet.groups)),
        routes,
        transits,
        externals: external_wire::encode(&vnet.externals),
    }
}

fn encode_interface(interface: &Interface) -> sync::Interface {
    let kind = match interface.attachment.kind {
        AttachmentKind::Veth => sync::AttachmentKind::Veth,
        AttachmentKind::Tap => sync::AttachmentKind::Tap,
    };
    sync::Interface {
        id: interface.id.to_string(),
        vnet: interface.vnet.get(),
        slot: interface.slot.get().into(),
        mac: interface.mac.0.to_vec(),
        addresses: interface.addresses.iter().map(|address| address.to_bits()).collect(),
        attachment: Some(sync::Attachment {
            kind: kind.into(),
            device: interface.attachment.device.as_str().to_owned(),
        }),
        tags: encode_tags(&interface.tags),
        groups: interface.groups.iter().map(|group| group.to_bits()).collect(),
        rate: (!interface.rate.is_none()).then(|| sync::RateLimit {
            packets_per_second: interface.rate.packets_per_second.unwrap_or_default(),
            bits_per_second: interface.rate.bits_per_second.unwrap_or_default(),
        }),
    }
}

fn encode_target(target: Target) -> sync::MappingKey {
    sync::MappingKey { vnet: target.vnet.get(), ipv4: target.ipv4.to_bits() }
}

fn encode_mapping(target: Target, mapping: &Mapping, layout: Layout) -> sync::Mapping {
    let location = |locator: &Locator| sync::Location {
        prefix: encode_prefix(locator.prefix(layout), layout),
        slot: locator.slot(layout).get().into(),
    };
    let state = if mapping.live { sync::MappingState::Live } else { sync::MappingState::Down };
    sync::Mapping {
        key: Some(encode_target(target)),
        location: Some(location(&mapping.locator)),
        also_accept: mapping.also_accept.as_ref().map(location),
        state: state.into(),
        tags: encode_tags(&mapping.tags),
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
