//! Between the sync protocol's messages and the checked model: groups.

use super::model::{MAX_GROUP_HOSTS, Target};
use super::wire::{WireError, encode_prefix, prefix, vnet_id, wrong};
use core::net::Ipv4Addr;
use overlane_api::sync;
use overlane_dataplane::address::{HostPrefix, Layout};
use overlane_dataplane::group;
use std::sync::Arc;

/// How a vnet carries broadcast and multicast.
pub(super) fn settings(put: sync::GroupSettings) -> Result<group::Settings, WireError> {
    if put.confined.len() > group::MAX_CONFINED {
        return Err(wrong("groups.confined", format!("at most {}", group::MAX_CONFINED), put.confined.len()));
    }
    let net = |cidr: &String| {
        cidr.parse().map_err(|_| wrong("groups.confined", "IPv4 in CIDR form, like 224.0.0.0/24", cidr))
    };
    let confined = put.confined.iter().map(net).collect::<Result<_, _>>()?;
    let settings = group::Settings { broadcast: !put.no_broadcast, confined };
    settings.check().map_err(|illegal| wrong("put_vnet.groups", illegal.legal, illegal.given))?;
    Ok(settings)
}

pub(super) fn encode_settings(settings: &group::Settings) -> sync::GroupSettings {
    let confined = settings.confined.iter().map(ToString::to_string).collect();
    sync::GroupSettings { no_broadcast: !settings.broadcast, confined }
}

pub(super) fn key(field: &'static str, vnet: u32, ipv4: u32) -> Result<Target, WireError> {
    let ipv4 = Ipv4Addr::from_bits(ipv4);
    if !ipv4.is_multicast() && !ipv4.is_broadcast() {
        return Err(wrong(field, "a group of 224.0.0.0/4, or 255.255.255.255", ipv4));
    }
    Ok(Target { vnet: vnet_id(field, vnet)?, ipv4 })
}

pub(super) fn hosts(put: &sync::Group, layout: Layout) -> Result<(Target, Arc<[HostPrefix]>), WireError> {
    const HOSTS: &str = "put_group.hosts";
    let group = key("put_group.ipv4", put.vnet, put.ipv4)?;
    if put.hosts.len() > MAX_GROUP_HOSTS {
        return Err(wrong(HOSTS, format!("at most {MAX_GROUP_HOSTS}"), put.hosts.len()));
    }
    let hosts = put.hosts.iter().map(|bytes| prefix(HOSTS, bytes, layout));
    let mut hosts = hosts.collect::<Result<Vec<_>, _>>()?;
    hosts.sort_unstable();
    hosts.dedup();
    if hosts.len() != put.hosts.len() {
        return Err(wrong(HOSTS, "different from each other", "the same twice"));
    }
    Ok((group, hosts.into()))
}

/// The hosts of a group as a message.
pub(super) fn encode_hosts(group: Target, hosts: &[HostPrefix], layout: Layout) -> sync::Group {
    let hosts = hosts.iter().map(|host| encode_prefix(*host, layout)).collect();
    sync::Group { vnet: group.vnet.get(), ipv4: group.ipv4.to_bits(), hosts }
}

/// The groups of an interface, sorted, each once.
pub(super) fn of_interface(given: &[u32]) -> Result<Vec<Ipv4Addr>, WireError> {
    const FIELD: &str = "put_interface.groups";
    if given.len() > group::MAX_GROUPS {
        return Err(wrong(FIELD, format!("at most {}", group::MAX_GROUPS), given.len()));
    }
    let mut groups: Vec<_> = given.iter().map(|bits| Ipv4Addr::from_bits(*bits)).collect();
    if let Some(other) = groups.iter().find(|group| !group.is_multicast()) {
        return Err(wrong(FIELD, "groups of 224.0.0.0/4", other));
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}
