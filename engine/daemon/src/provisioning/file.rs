//! Static mode: the whole site in one TOML file, the same for every engine, checked as the API checks.

#[path = "file_rules.rs"]
mod rules;

use super::desired::{DesiredState, Kept};
use super::model::{
    Attachment, AttachmentKind, Change, DeviceName, Host, Interface, MAX_ADDRESSES, MAX_INTERFACES, Mapping,
    Target, Vnet,
};
use super::rule::Tags;
use super::wire::{check_subnets, is_host_of, is_unicast};
use core::net::Ipv4Addr;
use core::ops::Range;
use hashbrown::{HashMap, HashSet};
use ipnet::{Ipv4Net, Ipv6Net};
use overlane_api::config::{FileError, Source};
use overlane_api::policy::DefaultAction;
use overlane_api::resource::{DEVICE_NAME_LEGAL, is_id};
use overlane_dataplane::address::{HostPrefix, Layout, Locator};
use overlane_dataplane::cap::RateLimit;
use overlane_dataplane::dhcp;
use overlane_dataplane::external::{External, Externals};
use overlane_dataplane::group;
use overlane_dataplane::id::{Slot, VnetId};
use overlane_dataplane::illegal::Illegal;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::route::{Route, Routes, Transit};
use overlane_dataplane::snapshot::Subnet;
use rules::{RawPeering, RawRule, default_action};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSite {
    layout: Option<Spanned<String>>,
    #[serde(default)]
    host: Vec<RawHost>,
    #[serde(default)]
    network: Vec<RawNetwork>,
    #[serde(default)]
    interface: Vec<RawInterface>,
    #[serde(default)]
    mapping: Vec<RawMapping>,
    #[serde(default)]
    peering: Vec<RawPeering>,
    #[serde(default)]
    rule: Vec<RawRule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHost {
    id: Spanned<String>,
    prefix: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNetwork {
    id: Spanned<String>,
    vnet: Spanned<u32>,
    #[serde(default)]
    stateful: bool,
    #[serde(default)]
    default_action: DefaultAction,
    #[serde(default)]
    subnets: Vec<RawSubnet>,
    dhcp: Option<Spanned<RawDhcp>>,
    groups: Option<Spanned<RawGroups>>,
    #[serde(default)]
    externals: Vec<Spanned<RawExternal>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExternal {
    ipv6: Ipv6Net,
    ipv4: Ipv4Net,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGroups {
    broadcast: Option<bool>,
    confined: Option<Vec<Ipv4Net>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDhcp {
    #[serde(default)]
    dns: Vec<Ipv4Addr>,
    #[serde(default)]
    domain: String,
    lease_seconds: Option<u32>,
    #[serde(default)]
    routes: Vec<RawRoute>,
    boot: Option<RawBoot>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoute {
    cidr: Ipv4Net,
    via: Ipv4Addr,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBoot {
    server: Ipv4Addr,
    file: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSubnet {
    cidr: Spanned<String>,
    gateway: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInterface {
    id: Spanned<String>,
    host: Spanned<String>,
    network: Spanned<String>,
    slot: Option<Spanned<u8>>,
    mac: Option<Spanned<String>>,
    addresses: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    tags: Vec<Spanned<String>>,
    #[serde(default)]
    groups: Vec<Spanned<Ipv4Addr>>,
    #[serde(default)]
    routes: Vec<Spanned<Ipv4Net>>,
    #[serde(default)]
    transit: Vec<Spanned<Ipv4Net>>,
    rate: Option<Spanned<RawRate>>,
    attachment: Option<RawAttachment>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRate {
    packets_per_second: Option<u32>,
    bits_per_second: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAttachment {
    kind: Spanned<String>,
    device: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMapping {
    network: Spanned<String>,
    address: Spanned<String>,
    host: Spanned<String>,
    slot: Option<Spanned<u8>>,
}

/// Reads a site file and takes from it what concerns `own_host`. The state has no revision yet.
///
/// # Errors
/// [`FileError`] naming file, line, field and legal values of the first thing that is wrong anywhere in the file.
pub fn load(file: &Path, own_host: &str) -> Result<DesiredState, FileError> {
    parse(&Source::read(file)?, own_host)
}

/// As [`load`], from text.
///
/// # Errors
/// As [`load`].
pub fn parse(source: &Source, own_host: &str) -> Result<DesiredState, FileError> {
    let raw: RawSite = source.parse()?;
    let layout = match &raw.layout {
        Some(text) => text.as_ref().parse().map_err(|_| {
            source.error(&text.span(), format!("must be slot64, plain72 or plain64, not {:?}", text.as_ref()))
        })?,
        None => Layout::default(),
    };
    let mut site = Site::new(source, own_host, layout);
    site.hosts(&raw.host)?;
    site.networks(&raw.network)?;
    for peering in &raw.peering {
        site.peering(peering)?;
    }
    site.check_externals(&raw.network)?;
    for interface in &raw.interface {
        site.interface(interface)?;
    }
    for mapping in &raw.mapping {
        site.mapping(mapping)?;
    }
    for rule in &raw.rule {
        site.rule(rule)?;
    }
    Ok(site.finish())
}

/// The subnets of a vnet and of its peers.
fn nets(vnet: &Vnet) -> Vec<Ipv4Net> {
    let peers = vnet.peerings.iter().flat_map(|peering| peering.subnets.iter().copied());
    vnet.subnets.iter().map(|subnet| subnet.net).chain(peers).collect()
}

/// The file's contents, as far as they have been checked.
struct Site<'a> {
    source: &'a Source,
    own_host: &'a str,
    layout: Layout,
    hosts: HashMap<String, HostPrefix>,
    networks: HashMap<String, Arc<Vnet>>,
    interface_ids: HashSet<String>,
    /// Who has a host's slot.
    slots: HashMap<(HostPrefix, Slot), String>,
    devices: HashMap<String, String>,
    /// The addresses of each node, on whichever host.
    nodes: HashMap<String, Vec<Target>>,
    /// The numbers of tags.
    tags: HashMap<String, u32>,
    /// The hosts that have members of groups.
    groups: HashMap<Target, BTreeSet<HostPrefix>>,
    /// The networks behind the routers of vnets.
    routes: HashMap<VnetId, Arc<Routes>>,
    state: DesiredState,
}

const ID_LEGAL: &str = "1 to 63 lower-case letters, digits and '-'";
const INTERFACE_LEGAL: &str = "<node>/<interface>, each 1 to 63 lower-case letters, digits and '-'";

/// Everything in a static file is of one revision.
const REVISION: u64 = 1;

const fn kept<T>(value: T) -> Kept<T> {
    Kept { revision: REVISION, value }
}

impl<'a> Site<'a> {
    fn new(source: &'a Source, own_host: &'a str, layout: Layout) -> Self {
        Self {
            source,
            own_host,
            layout,
            hosts: HashMap::new(),
            networks: HashMap::new(),
            interface_ids: HashSet::new(),
            slots: HashMap::new(),
            devices: HashMap::new(),
            nodes: HashMap::new(),
            tags: HashMap::new(),
            groups: HashMap::new(),
            routes: HashMap::new(),
            state: DesiredState::default(),
        }
    }

    fn refuse<T>(&self, span: &Range<usize>, message: impl Into<String>) -> Result<T, FileError> {
        Err(self.source.error(span, message))
    }

    fn check<T>(&self, value: &Spanned<String>, legal: &str, parsed: Option<T>) -> Result<T, FileError> {
        parsed.ok_or_else(|| {
            self.source.error(&value.span(), format!("must be {legal}, not {:?}", value.as_ref()))
        })
    }

    /// What was made of `given`, if it may be.
    fn legal<T, U>(
        &self,
        given: &Spanned<T>,
        outer: &str,
        checked: Result<(), Illegal>,
        made: U,
    ) -> Result<U, FileError> {
        checked
            .map(|()| made)
            .map_err(|illegal| self.source.error(&given.span(), format!("{outer}{illegal}")))
    }

    fn hosts(&mut self, hosts: &[RawHost]) -> Result<(), FileError> {
        let mut prefixes = HashMap::new();
        for raw in hosts {
            let id =
                self.check(&raw.id, ID_LEGAL, is_id(raw.id.as_ref()).then(|| raw.id.as_ref().clone()))?;
            let prefix = HostPrefix::parse(self.layout, raw.prefix.as_ref()).map_err(|error| {
                let message = format!("must be {}, not {:?}", error.legal, raw.prefix.as_ref());
                self.source.error(&raw.prefix.span(), message)
            })?;
            if let Some(other) = prefixes.insert(prefix, id.clone()) {
                return self.refuse(&raw.prefix.span(), format!("{prefix} is host {other}'s already"));
            }
            if self.hosts.insert(id.clone(), prefix).is_some() {
                return self.refuse(&raw.id.span(), format!("host {id} is there already"));
            }
        }
        let Some(prefix) = self.hosts.get(self.own_host) else {
            let message = format!("must describe this engine's host, {:?}", self.own_host);
            return Err(self.source.missing("[[host]]", message));
        };
        let host = Host { id: self.own_host.to_owned(), layout: self.layout, prefix: *prefix };
        self.state.host = Some(kept(host));
        Ok(())
    }

    fn networks(&mut self, networks: &[RawNetwork]) -> Result<(), FileError> {
        let mut vnets = HashMap::new();
        for raw in networks {
            let name =
                self.check(&raw.id, ID_LEGAL, is_id(raw.id.as_ref()).then(|| raw.id.as_ref().clone()))?;
            let Ok(id) = VnetId::new(*raw.vnet.as_ref()) else {
                let message = format!("must be 1 to 16777215, not {}", raw.vnet.as_ref());
                return self.refuse(&raw.vnet.span(), message);
            };
            if let Some(other) = vnets.insert(id, name.clone()) {
                return self.refuse(&raw.vnet.span(), format!("{id} is network {other}'s already"));
            }
            let mut subnets = Vec::new();
            for raw in &raw.subnets {
                let legal = "IPv4 in CIDR form, like 10.0.0.0/24";
                let net: Ipv4Net = self.check(&raw.cidr, legal, raw.cidr.as_ref().parse().ok())?;
                let gateway = match &raw.gateway {
                    Some(text) => Some(self.check(text, "an IPv4 address", text.as_ref().parse().ok())?),
                    None => None,
                };
                subnets.push(Subnet { net, gateway });
                if let Err((legal, given)) = check_subnets(&subnets) {
                    return self.refuse(&raw.cidr.span(), format!("subnets must be {legal}, not {given}"));
                }
            }
            let vnet = Arc::new(Vnet {
                id,
                name: name.clone(),
                subnets,
                stateful: raw.stateful,
                default_action: default_action(raw.default_action),
                peerings: Vec::new(),
                on_demand: false,
                dhcp: raw.dhcp.as_ref().map(|dhcp| self.dhcp(dhcp)).transpose()?.map(Arc::new),
                groups: raw
                    .groups
                    .as_ref()
                    .map(|groups| self.groups(groups))
                    .transpose()?
                    .unwrap_or_default(),
                // Those of its interfaces, when they have been read.
                routes: Arc::default(),
                externals: Arc::new(self.externals(&raw.externals)?),
            });
            if self.networks.insert(name.clone(), vnet).is_some() {
                return self.refuse(&raw.id.span(), format!("network {name} is there already"));
            }
        }
        Ok(())
    }

    fn dhcp(&self, given: &Spanned<RawDhcp>) -> Result<dhcp::Settings, FileError> {
        let raw = given.as_ref();
        let settings = dhcp::Settings {
            dns: raw.dns.clone(),
            domain: raw.domain.clone(),
            lease_seconds: raw.lease_seconds.unwrap_or(dhcp::LEASE),
            routes: raw.routes.iter().map(|route| (route.cidr, route.via)).collect(),
            boot: raw.boot.as_ref().map(|boot| dhcp::Boot { server: boot.server, file: boot.file.clone() }),
        };
        self.legal(given, "dhcp.", settings.check(), settings)
    }

    fn groups(&self, given: &Spanned<RawGroups>) -> Result<group::Settings, FileError> {
        let (raw, usual) = (given.as_ref(), group::Settings::default());
        let settings = group::Settings {
            broadcast: raw.broadcast.unwrap_or(usual.broadcast),
            confined: raw.confined.clone().unwrap_or(usual.confined),
        };
        self.legal(given, "groups.", settings.check(), settings)
    }

    /// The host has members of broadcast, and of these groups.
    fn join(&mut self, vnet: VnetId, groups: &[Ipv4Addr], host: HostPrefix) {
        for ipv4 in groups.iter().copied().chain([Ipv4Addr::BROADCAST]) {
            let hosts = self.groups.entry(Target { vnet, ipv4 }).or_default();
            hosts.insert(host);
        }
    }

    fn host_of(&self, name: &Spanned<String>) -> Result<HostPrefix, FileError> {
        let prefix = self.hosts.get(name.as_ref()).copied();
        self.check(name, "the id of a [[host]] of this file", prefix)
    }

    fn network_of(&self, name: &Spanned<String>) -> Result<Arc<Vnet>, FileError> {
        let network = self.networks.get(name.as_ref()).cloned();
        self.check(name, "the id of a [[network]] of this file", network)
    }

    fn slot(&self, slot: Option<&Spanned<u8>>, at: &Range<usize>) -> Result<Slot, FileError> {
        match slot {
            Some(raw) => match Slot::new(*raw.as_ref()) {
                Ok(slot) if self.layout.has_slots() || slot == Slot::ZERO => Ok(slot),
                Ok(_) => self.refuse(&raw.span(), format!("must be left out in layout {}", self.layout)),
                Err(_) => self.refuse(&raw.span(), format!("must be 0 to 63, not {}", raw.as_ref())),
            },
            None if self.layout.has_slots() => {
                self.refuse(at, "needs slot = 0 to 63, another for each of its host")
            }
            None => Ok(Slot::ZERO),
        }
    }

    fn address(&self, text: &Spanned<String>, vnet: &Vnet) -> Result<Ipv4Addr, FileError> {
        let parsed = text.as_ref().parse().ok().filter(|address| is_unicast(*address));
        let address = self.check(text, "a unicast IPv4 address", parsed)?;
        let inside =
            vnet.subnets.is_empty() || vnet.subnets.iter().any(|subnet| is_host_of(&subnet.net, address));
        if !inside {
            let message = format!("{address} is no host address of a subnet of network {}", vnet.name);
            return self.refuse(&text.span(), message);
        }
        if vnet.subnets.iter().any(|subnet| subnet.gateway == Some(address)) {
            return self.refuse(&text.span(), format!("{address} is the gateway of network {}", vnet.name));
        }
        Ok(address)
    }

    fn put_mapping(
        &mut self,
        vnet: &Vnet,
        text: &Spanned<String>,
        locator: Locator,
        tags: &Tags,
    ) -> Result<Ipv4Addr, FileError> {
        let address = self.address(text, vnet)?;
        let target = Target { vnet: vnet.id, ipv4: address };
        let mapping = Mapping { locator, also_accept: None, live: true, tags: tags.clone() };
        if self.state.mappings.insert(target, kept(mapping)).is_some() {
            return self.refuse(&text.span(), format!("{address} is there already in network {}", vnet.name));
        }
        Ok(address)
    }

    fn locator(
        &self,
        prefix: HostPrefix,
        slot: Slot,
        vnet: VnetId,
        at: &Range<usize>,
    ) -> Result<Locator, FileError> {
        Locator::new(self.layout, prefix, slot, vnet)
            .map_err(|error| self.source.error(at, error.to_string()))
    }

    fn interface(&mut self, raw: &RawInterface) -> Result<(), FileError> {
        let at = raw.id.span();
        let id = raw.id.as_ref();
        let legal = id.split_once('/').is_some_and(|(node, name)| is_id(node) && is_id(name));
        let id = self.check(&raw.id, INTERFACE_LEGAL, legal.then(|| id.clone()))?;
        if !self.interface_ids.insert(id.clone()) {
            return self.refuse(&at, format!("interface {id} is there already"));
        }
        let prefix = self.host_of(&raw.host)?;
        let vnet = self.network_of(&raw.network)?;
        let slot = self.slot(raw.slot.as_ref(), &at)?;
        if self.layout.has_slots()
            && let Some(other) = self.slots.insert((prefix, slot), id.clone())
        {
            return self.refuse(&at, format!("slot {slot} of its host is interface {other}'s already"));
        }
        let locator = self.locator(prefix, slot, vnet.id, &at)?;
        let tags = self.tags_of(&raw.tags)?;
        let mut addresses = Vec::new();
        for text in raw.addresses.as_ref() {
            addresses.push(self.put_mapping(&vnet, text, locator, &tags)?);
        }
        let node = id.split_once('/').map_or(id.as_str(), |(node, _)| node).to_owned();
        let targets = addresses.iter().map(|ipv4| Target { vnet: vnet.id, ipv4: *ipv4 });
        self.nodes.entry(node).or_default().extend(targets);
        if addresses.is_empty() || addresses.len() > MAX_ADDRESSES {
            return self.refuse(&raw.addresses.span(), format!("must be 1 to {MAX_ADDRESSES} addresses"));
        }
        if let Some(first) = addresses.first() {
            self.routes_of(raw, &vnet, *first)?;
        }
        addresses.sort_unstable();
        let mac = match &raw.mac {
            Some(text) => {
                let mac = text.as_ref().parse::<MacAddr>().ok().filter(|mac| mac.is_station());
                Some(self.check(text, "a station's MAC address, like 02:00:5e:10:00:01", mac)?)
            }
            None => None,
        };
        let attachment = raw.attachment.as_ref().map(|raw| self.attachment(raw)).transpose()?;
        let groups = self.groups_of(&raw.groups)?;
        self.join(vnet.id, &groups, prefix);
        if raw.host.as_ref() != self.own_host {
            return Ok(());
        }
        // Only this host's interfaces have to say how they are attached.
        let Some(mac) = mac else {
            return self.refuse(
                &at,
                format!("an interface of this host, {}, needs mac = its hardware address", self.own_host),
            );
        };
        let Some(attachment) = attachment else {
            let message = format!(
                "an interface of this host, {}, needs attachment = {{ kind = \"veth\" or \"tap\", device = … }}",
                self.own_host
            );
            return self.refuse(&at, message);
        };
        let device = attachment.device.as_str().to_owned();
        if let Some(other) = self.devices.insert(device, id.clone()) {
            return self.refuse(&at, format!("device {} is interface {other}'s already", attachment.device));
        }
        if self.state.interfaces.len() >= MAX_INTERFACES {
            return self.refuse(&at, format!("this host has more than {MAX_INTERFACES} interfaces"));
        }
        self.state.vnets.insert(vnet.id, kept(vnet.clone()));
        let id: Arc<str> = id.into();
        let vnet = vnet.id;
        let rate = raw.rate.as_ref().map(|rate| self.rate(rate)).transpose()?.unwrap_or_default();
        let interface =
            Interface { id: id.clone(), vnet, slot, mac, addresses, attachment, tags, groups, rate };
        self.state.interfaces.insert(id, kept(Arc::new(interface)));
        Ok(())
    }

    fn groups_of(&self, raw: &[Spanned<Ipv4Addr>]) -> Result<Vec<Ipv4Addr>, FileError> {
        let mut groups = BTreeSet::new();
        for raw in raw {
            let group = *raw.as_ref();
            if !group.is_multicast() || groups.len() == group::MAX_GROUPS {
                let most = group::MAX_GROUPS;
                return self.refuse(
                    &raw.span(),
                    format!("must be one of up to {most} groups of 224.0.0.0/4, not {group}"),
                );
            }
            groups.insert(group);
        }
        Ok(groups.into_iter().collect())
    }

    fn externals(&self, given: &[Spanned<RawExternal>]) -> Result<Externals, FileError> {
        let (mut known, mut all) = (Externals::default(), Vec::new());
        for external in given {
            let RawExternal { ipv6, ipv4 } = *external.as_ref();
            all.push(External { ipv6, ipv4 });
            known = Externals::new(all.clone())
                .map_err(|illegal| self.source.error(&external.span(), illegal.to_string()))?;
        }
        Ok(known)
    }

    /// Whether the externals of networks are apart from the subnets of these and of their peers.
    fn check_externals(&self, networks: &[RawNetwork]) -> Result<(), FileError> {
        for raw in networks {
            let Some(vnet) = self.networks.get(raw.id.as_ref()) else { continue };
            let nets = nets(vnet);
            if let Some((external, subnet)) = vnet.externals.among(&nets) {
                let message =
                    format!("{external} must be apart from {subnet}, a subnet of its network or of a peer");
                let at = raw.externals.first().map_or_else(|| raw.id.span(), Spanned::span);
                return self.refuse(&at, message);
            }
            let mut prefixes = self.hosts.iter();
            if let Some((host, ipv6)) =
                prefixes.find_map(|(host, prefix)| Some((host, vnet.externals.inside(*prefix)?)))
            {
                let at = raw.externals.first().map_or_else(|| raw.id.span(), Spanned::span);
                return self.refuse(&at, format!("{ipv6} must not lie in the prefix of host {host}"));
            }
        }
        Ok(())
    }

    /// Adds what is behind an interface whose first address is `router`.
    fn routes_of(&mut self, raw: &RawInterface, vnet: &Vnet, router: Ipv4Addr) -> Result<(), FileError> {
        let nets = nets(vnet);
        let known = self.routes.get(&vnet.id).cloned().unwrap_or_default();
        let (mut routes, mut transits) = (known.routes().to_vec(), known.transits().to_vec());
        let given =
            raw.routes.iter().map(|net| (net, true)).chain(raw.transit.iter().map(|net| (net, false)));
        for (given, is_route) in given {
            let net = *given.as_ref();
            match routes.iter_mut().find(|route| route.net == net) {
                _ if !is_route => transits.push(Transit { net, via: router }),
                Some(route) => route.via.push(router),
                // Who is silent nobody tells.
                None => routes.push(Route { net, via: vec![router], silent: Vec::new() }),
            }
            let all = Routes::new(routes.clone(), transits.clone());
            let all = all.map_err(|illegal| self.source.error(&given.span(), illegal.to_string()))?;
            if is_route && let Some((_, subnet)) = all.inside(&nets) {
                let message = format!("{net} must not lie in {subnet}, a subnet of its network or of a peer");
                return self.refuse(&given.span(), message);
            }
            self.routes.insert(vnet.id, Arc::new(all));
        }
        Ok(())
    }

    fn rate(&self, given: &Spanned<RawRate>) -> Result<RateLimit, FileError> {
        let RawRate { packets_per_second, bits_per_second } = *given.as_ref();
        let limit = RateLimit { packets_per_second, bits_per_second };
        self.legal(given, "rate.", limit.check(), limit)
    }

    fn attachment(&self, raw: &RawAttachment) -> Result<Attachment, FileError> {
        let kind = match raw.kind.as_ref().as_str() {
            "veth" => Some(AttachmentKind::Veth),
            "tap" => Some(AttachmentKind::Tap),
            _ => None,
        };
        Ok(Attachment {
            kind: self.check(&raw.kind, "veth or tap", kind)?,
            device: self.check(&raw.device, DEVICE_NAME_LEGAL, DeviceName::new(raw.device.as_ref()))?,
        })
    }

    fn mapping(&mut self, raw: &RawMapping) -> Result<(), FileError> {
        let at = raw.address.span();
        let prefix = self.host_of(&raw.host)?;
        let vnet = self.network_of(&raw.network)?;
        let slot = self.slot(raw.slot.as_ref(), &at)?;
        let locator = self.locator(prefix, slot, vnet.id, &at)?;
        self.join(vnet.id, &[], prefix);
        self.put_mapping(&vnet, &raw.address, locator, &None).map(|_| ())
    }

    /// The state, without the mappings of vnets that have no interface here and no peer that has.
    fn finish(mut self) -> DesiredState {
        for (id, routes) in self.routes {
            if let Some(kept) = self.state.vnets.get_mut(&id) {
                Arc::make_mut(&mut kept.value).routes = routes;
            }
        }
        let vnets = &self.state.vnets;
        let peers = vnets.values().flat_map(|kept| &kept.value.peerings).map(|peering| peering.vnet);
        let told: HashSet<VnetId> = vnets.keys().copied().chain(peers).collect();
        self.state.mappings.retain(|target, _| told.contains(&target.vnet));
        let groups = self.groups.into_iter().filter(|(group, _)| self.state.vnets.contains_key(&group.vnet));
        self.state.groups = groups.map(|(group, hosts)| (group, kept(hosts.into_iter().collect()))).collect();
        self.state
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
