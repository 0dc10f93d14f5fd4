//! Values that come from outside, checked one by one; each refusal names the field and its legal values.

use super::record::SubnetRecord;
use crate::error::{Error, Result};
use ipnet::Ipv4Net;
use overlane_api::access::Placement;
use overlane_api::dhcp::Dhcp;
use overlane_api::group::GroupSettings;
use overlane_api::resource::{
    Attachment, DEFAULT_PAGE, DEVICE_NAME_LEGAL, ID_LEGAL, MAX_PAGE, RateLimit, Subnet, is_device_name, is_id,
};
use overlane_api::route::{MAX_ROUTES, MAX_TRANSIT};
use overlane_dataplane::address::{HostPrefix, Layout};
use overlane_dataplane::cap;
use overlane_dataplane::dhcp;
use overlane_dataplane::group;
use overlane_dataplane::id::{Slot, VnetId};
use overlane_dataplane::illegal::Illegal;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::route;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest description, in bytes.
const MAX_DESCRIPTION: usize = 256;
/// Most subnets of a network.
const MAX_SUBNETS: usize = 64;
/// Most interfaces of a node.
pub(super) const MAX_INTERFACES: usize = 16;
/// Most tags of a node.
const MAX_TAGS: usize = 16;
/// Most addresses of an interface.
const MAX_ADDRESSES: usize = 64;

/// Text from outside, short enough for a message.
pub(super) fn shown(text: &str) -> String {
    let short: String = text.chars().take(64).collect();
    if short.len() < text.len() { format!("{short:?}…") } else { format!("{short:?}") }
}

pub(crate) fn id(field: &str, id: &str) -> Result<()> {
    if is_id(id) {
        return Ok(());
    }
    Err(Error::invalid(field, format!("{} is not an id", shown(id)), ID_LEGAL))
}

/// Tags as they are kept: sorted, none twice.
pub(super) fn tags(tags: &[String]) -> Result<Vec<String>> {
    if tags.len() > MAX_TAGS {
        return Err(Error::invalid(
            "tags",
            format!("{} given", tags.len()),
            format!("up to {MAX_TAGS} of them"),
        ));
    }
    for (place, tag) in tags.iter().enumerate() {
        id(&format!("tags[{place}]"), tag)?;
    }
    let mut tags = tags.to_vec();
    tags.sort_unstable();
    tags.dedup();
    Ok(tags)
}

pub(super) fn description(text: &str) -> Result<()> {
    self::text("description", text)
}

/// Text for people.
pub(super) fn text(field: &str, text: &str) -> Result<()> {
    if text.len() <= MAX_DESCRIPTION && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::invalid(
        field,
        format!("{} bytes, or a control character", text.len()),
        "up to 256 bytes of text without control characters",
    ))
}

/// What a network's nodes are told by DHCP.
pub(super) fn dhcp(given: &Dhcp) -> Result<()> {
    let address = |field: String, text: &String| -> Result<Ipv4Addr> {
        text.parse()
            .map_err(|_| Error::invalid(&field, format!("{} is no address", shown(text)), "an IPv4 address"))
    };
    let dns = given.dns.iter().enumerate();
    let dns = dns.map(|(place, server)| address(format!("dhcp.dns[{place}]"), server));
    let routes = given.routes.iter().enumerate().map(|(place, route)| {
        let (field, legal) = (format!("dhcp.routes[{place}].cidr"), "IPv4 in CIDR form, like 10.9.0.0/16");
        let net = route.cidr.parse();
        let net =
            net.map_err(|_| Error::invalid(&field, format!("{} is none", shown(&route.cidr)), legal))?;
        Ok((net, address(format!("dhcp.routes[{place}].via"), &route.via)?))
    });
    let boot = given.boot.as_ref().map(|boot| -> Result<dhcp::Boot> {
        let server = address("dhcp.boot.server".to_owned(), &boot.server)?;
        Ok(dhcp::Boot { server, file: boot.file.clone() })
    });
    let settings = dhcp::Settings {
        dns: dns.collect::<Result<_>>()?,
        domain: given.domain.clone().unwrap_or_default(),
        lease_seconds: given.lease_seconds,
        routes: routes.collect::<Result<_>>()?,
        boot: boot.transpose()?,
    };
    settings.check().map_err(|error| illegal("dhcp", error))
}

/// How a network carries broadcast and multicast.
pub(super) fn group_settings(given: &GroupSettings) -> Result<()> {
    let net = |(place, text): (usize, &String)| {
        let refuse = |_| {
            let legal = "IPv4 in CIDR form, like 224.0.0.0/24";
            Error::invalid(format!("groups.confined[{place}]"), format!("{} is none", shown(text)), legal)
        };
        text.parse().map_err(refuse)
    };
    let confined = given.confined.iter().enumerate().map(net).collect::<Result<_>>()?;
    let settings = group::Settings { broadcast: given.broadcast, confined };
    settings.check().map_err(|error| illegal("groups", error))
}

/// How much a node may send.
pub(super) fn rate(given: RateLimit) -> Result<()> {
    limit(given).check().map_err(|error| illegal("rate", error))
}

/// The same as the data plane has it.
pub(super) const fn limit(RateLimit { packets_per_second, bits_per_second }: RateLimit) -> cap::RateLimit {
    cap::RateLimit { packets_per_second, bits_per_second }
}

/// The refusal of a setting within `outer` that the data plane could not go by.
fn illegal(outer: &str, Illegal { field, legal, given }: Illegal) -> Error {
    Error::invalid(format!("{outer}.{field}"), format!("{} is none of them", shown(&given)), legal)
}

/// How many a page has, if `given` is asked for.
pub(crate) fn page(given: Option<u32>) -> Result<usize> {
    let limit = given.unwrap_or(DEFAULT_PAGE);
    if (1..=MAX_PAGE).contains(&limit) {
        return Ok(limit as usize);
    }
    Err(Error::invalid("limit", format!("{limit} is out of range"), format!("1 to {MAX_PAGE}")))
}

/// The groups of an interface, sorted, each once.
pub(super) fn groups(given: &[String]) -> Result<Vec<Ipv4Addr>> {
    let most = group::MAX_GROUPS;
    if given.len() > most {
        return Err(Error::invalid(
            "groups",
            format!("{} given", given.len()),
            format!("up to {most} of them"),
        ));
    }
    let mut groups = std::collections::BTreeSet::new();
    for (place, text) in given.iter().enumerate() {
        let group = text.parse::<Ipv4Addr>().ok().filter(Ipv4Addr::is_multicast);
        groups.insert(group.ok_or_else(|| {
            let message = format!("{} is no group", shown(text));
            Error::invalid(
                format!("groups[{place}]"),
                message,
                "a multicast address of 224.0.0.0/4, like 239.1.2.3",
            )
        })?);
    }
    Ok(groups.into_iter().collect())
}

/// The networks behind an interface, sorted.
pub(super) fn routes(given: &[String]) -> Result<Vec<Ipv4Net>> {
    networks("routes", given, MAX_ROUTES)
}

/// The networks that an interface may send from besides, sorted.
pub(super) fn transit(given: &[String]) -> Result<Vec<Ipv4Net>> {
    networks("transit", given, MAX_TRANSIT)
}

fn networks(field: &'static str, given: &[String], most: usize) -> Result<Vec<Ipv4Net>> {
    if given.len() > most {
        return Err(Error::invalid(field, format!("{} given", given.len()), format!("up to {most} of them")));
    }
    let mut nets = std::collections::BTreeSet::new();
    for (place, text) in given.iter().enumerate() {
        let refuse = |problem: &str, legal: &str| {
            Err(Error::invalid(format!("{field}[{place}]"), format!("{} {problem}", shown(text)), legal))
        };
        let net = text.parse::<Ipv4Net>().ok().filter(|net| route::check(field, *net).is_ok());
        match net {
            None => return refuse("is none", route::LEGAL),
            Some(net) if !nets.insert(net) => return refuse("is given twice", "each network once"),
            Some(_) => {}
        }
    }
    Ok(nets.into_iter().collect())
}

fn list(field: &str, length: usize, most: usize) -> Result<()> {
    if (1..=most).contains(&length) {
        return Ok(());
    }
    Err(Error::invalid(field, format!("{length} given"), format!("1 to {most} of them")))
}

pub(super) fn vnet(number: u32) -> Result<u32> {
    VnetId::new(number)
        .map(VnetId::get)
        .map_err(|error| Error::invalid("vnet", format!("{number} is out of range"), error.legal))
}

pub(super) fn capacity(number: u32) -> Result<()> {
    if (1..=Slot::COUNT as u32).contains(&number) {
        return Ok(());
    }
    Err(Error::invalid("capacity", format!("{number} is out of range"), "1 to 64"))
}

pub(super) fn slot(number: u32) -> Result<u8> {
    let refuse = || Error::invalid("slot", format!("{number} is out of range"), "0 to 63");
    let slot = u8::try_from(number).map_err(|_| refuse())?;
    Slot::new(slot).map(Slot::get).map_err(|_| refuse())
}

pub(super) fn prefix(layout: Layout, text: &str) -> Result<Ipv6Addr> {
    HostPrefix::parse(layout, text).map(HostPrefix::network).map_err(|error| {
        Error::invalid("prefix", format!("{} is not a host prefix", shown(text)), error.legal)
    })
}

pub(super) fn mac(text: &str) -> Result<String> {
    match text.parse::<MacAddr>() {
        Ok(mac) if mac.is_station() => Ok(mac.to_string()),
        _ => Err(Error::invalid(
            "mac",
            format!("{} is not a station's hardware address", shown(text)),
            "six octets like 02:00:5e:10:00:01, not a group's, not all zero",
        )),
    }
}

pub(super) fn attachment(attachment: &Attachment) -> Result<()> {
    let device = attachment.device.as_str();
    if is_device_name(device) {
        return Ok(());
    }
    Err(Error::invalid(
        "attachment.device",
        format!("{} is not a device's name", shown(device)),
        DEVICE_NAME_LEGAL,
    ))
}

/// Most hosts that an entity may place nodes on.
const MAX_HOSTS: usize = 1024;

/// What operators let an entity place by itself.
pub(super) fn placement(placement: &Placement) -> Result<()> {
    list("placement.hosts", placement.hosts.len(), MAX_HOSTS)?;
    for (place, host) in placement.hosts.iter().enumerate() {
        id(&format!("placement.hosts[{place}]"), host)?;
    }
    let prefix = placement.device_prefix.as_str();
    // With at least one character behind it, it has to be a device's name.
    if !prefix.is_empty() && is_device_name(&format!("{prefix}0")) {
        return Ok(());
    }
    Err(Error::invalid(
        "placement.device_prefix",
        format!("{} is no beginning of a device's name", shown(prefix)),
        "1 to 14 letters, digits, '_', '.' and '-', not beginning with '-'",
    ))
}

const CIDR_LEGAL: &str = "an IPv4 network of length 8 to 30 with no bits set behind it, like 10.0.0.0/24; not in \
                          0.0.0.0/8, 127.0.0.0/8 or 224.0.0.0/3";

pub(super) fn subnets(given: &[Subnet]) -> Result<Vec<SubnetRecord>> {
    list("subnets", given.len(), MAX_SUBNETS)?;
    let mut subnets: Vec<SubnetRecord> = Vec::with_capacity(given.len());
    for (place, subnet) in given.iter().enumerate() {
        let field = |name: &str| format!("subnets[{place}].{name}");
        let refuse =
            || Error::invalid(field("cidr"), format!("{} is not a subnet", shown(&subnet.cidr)), CIDR_LEGAL);
        let net: Ipv4Net = subnet.cidr.parse().map_err(|_| refuse())?;
        let first = net.network();
        let special = first.octets().first().is_none_or(|&octet| matches!(octet, 0 | 127 | 224..));
        if !(8..=30).contains(&net.prefix_len())
            || net.addr() != first
            || special
            || net.contains(&Ipv4Addr::LOCALHOST)
        {
            return Err(refuse());
        }
        if let Some(other) = subnets.iter().find(|other| other.net.contains(&net) || net.contains(&other.net))
        {
            return Err(Error::invalid(
                field("cidr"),
                format!("{net} overlaps {}", other.net),
                "subnets that do not overlap",
            ));
        }
        let gateway = subnet.gateway.as_deref().map(|text| {
            text.parse().ok().filter(|gateway| is_host_of(net, *gateway)).ok_or_else(|| {
                Error::invalid(
                    field("gateway"),
                    format!("{} cannot be the gateway of {net}", shown(text)),
                    format!("an address of {net} other than its first and last"),
                )
            })
        });
        subnets.push(SubnetRecord { net, gateway: gateway.transpose()? });
    }
    Ok(subnets)
}

fn is_host_of(net: Ipv4Net, address: Ipv4Addr) -> bool {
    net.contains(&address) && address != net.network() && address != net.broadcast()
}

/// Parses an interface's addresses; where they may lie is checked by [`address_in`].
pub(super) fn addresses(given: &[String]) -> Result<Vec<Ipv4Addr>> {
    list("addresses", given.len(), MAX_ADDRESSES)?;
    let mut addresses = Vec::with_capacity(given.len());
    for (place, text) in given.iter().enumerate() {
        let field = format!("addresses[{place}]");
        let Ok(address) = text.parse::<Ipv4Addr>() else {
            return Err(Error::invalid(
                field,
                format!("{} is not an IPv4 address", shown(text)),
                "four numbers like 10.0.0.5",
            ));
        };
        if addresses.contains(&address) {
            return Err(Error::invalid(field, format!("{address} is given twice"), "each address once"));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

/// Whether a node may have the address: inside a subnet, and not special in it.
pub(super) fn address_in(subnets: &[SubnetRecord], address: Ipv4Addr) -> Result<()> {
    let nets: Vec<String> = subnets.iter().map(|subnet| subnet.net.to_string()).collect();
    let legal =
        format!("an address of {}, other than its first, its last and its gateway", nets.join(" or "));
    let Some(subnet) = subnets.iter().find(|subnet| subnet.net.contains(&address)) else {
        return Err(Error::invalid("", format!("{address} is in no subnet of the network"), legal));
    };
    let what = if subnet.gateway == Some(address) {
        "the gateway"
    } else if address == subnet.net.network() {
        "the network's own address"
    } else if address == subnet.net.broadcast() {
        "the broadcast address"
    } else {
        return Ok(());
    };
    Err(Error::invalid("", format!("{address} is {what} of {}", subnet.net), legal))
}

pub(super) fn interfaces(length: usize) -> Result<()> {
    list("interfaces", length, MAX_INTERFACES)
}
