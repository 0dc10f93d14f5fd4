//! The site: what this host is and has, from one TOML file. Names are those of the engine's static file where they mean
//! the same; `site.toml` beside the README explains each.

use anyhow::{Context, Result, bail, ensure};
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;
use ipnet::Ipv4Net;
use overlane_dataplane::address::{HostPrefix, Layout, Locator};
use overlane_dataplane::id::{Slot, VnetId};
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::snapshot::Subnet;
use overlane_dataplane::table::mapping::MappingKey;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

/// What one of capsule's buffers holds behind its headroom, less an Ethernet header: capsule has one segment for each
/// packet.
const MTU_MAX: u16 = 2_034;
const NODE_MTUS: core::ops::RangeInclusive<u16> = 68..=MTU_MAX;
const UPLINK_MTUS: core::ops::RangeInclusive<u16> = 1_280..=MTU_MAX;
const BUFFERS: core::ops::RangeInclusive<u32> = 1_023..=0xff_ffff;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSite {
    layout: Option<String>,
    prefix: String,
    cores: Vec<usize>,
    main_core: Option<usize>,
    buffers: Option<u32>,
    hugepages: Option<bool>,
    uplink: RawUplink,
    #[serde(default)]
    network: Vec<RawNetwork>,
    #[serde(default)]
    interface: Vec<RawInterface>,
    #[serde(default)]
    mapping: Vec<RawMapping>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUplink {
    device: String,
    arguments: Option<String>,
    mac: String,
    next_hop: String,
    #[serde(default)]
    addresses: Vec<Ipv6Addr>,
    mtu: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNetwork {
    id: String,
    vnet: u32,
    #[serde(default)]
    subnets: Vec<RawSubnet>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSubnet {
    cidr: Ipv4Net,
    gateway: Option<Ipv4Addr>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInterface {
    id: String,
    network: String,
    slot: Option<u8>,
    mac: String,
    addresses: Vec<Ipv4Addr>,
    mtu: Option<u16>,
    device: String,
    arguments: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMapping {
    network: String,
    address: Ipv4Addr,
    prefix: String,
    slot: Option<u8>,
}

/// A host and its networks, checked.
#[derive(Debug)]
pub struct Site {
    /// How substrate addresses are laid out.
    pub layout: Layout,
    /// This host's prefix.
    pub prefix: HostPrefix,
    /// The cores that carry packets, at least one; every port has a queue on each.
    pub cores: Vec<usize>,
    /// Where capsule's main thread is to run; none of `cores`.
    pub main_core: Option<usize>,
    /// Packet buffers of each NUMA node.
    pub buffers: u32,
    /// Whether packet memory is on hugepages; `None`: if enough are free.
    pub hugepages: Option<bool>,
    /// The way to the substrate.
    pub uplink: Uplink,
    /// The virtual networks, by id.
    pub networks: BTreeMap<VnetId, Vec<Subnet>>,
    /// The interfaces of this host's nodes, at least one.
    pub interfaces: Vec<Interface>,
    /// Where addresses live, without those of `interfaces`.
    pub mappings: HashMap<MappingKey, Locator>,
}

/// A DPDK device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// A PCI address or a vdev's name.
    pub name: String,
    /// What the vdev is told.
    pub arguments: Option<String>,
}

/// The way to the substrate.
#[derive(Debug)]
pub struct Uplink {
    /// Its device.
    pub device: Device,
    /// The hardware address that frames leave with.
    pub mac: MacAddr,
    /// The hardware address of the router.
    pub next_hop: MacAddr,
    /// Addresses of the driver's own.
    pub addresses: Vec<Ipv6Addr>,
    /// Largest IPv6 packet, in bytes.
    pub mtu: u16,
}

/// A node's interface.
#[derive(Debug)]
pub struct Interface {
    /// Its name in the report; also its port's.
    pub id: String,
    /// Its network.
    pub vnet: VnetId,
    /// Its slot.
    pub slot: Slot,
    /// Its hardware address.
    pub mac: MacAddr,
    /// Its addresses, at least one.
    pub addresses: Vec<Ipv4Addr>,
    /// Largest IPv4 packet it takes, in bytes.
    pub mtu: u16,
    /// Its device.
    pub device: Device,
}

impl Site {
    /// Reads a site file.
    ///
    /// # Errors
    /// What is wrong first, with the field's name and its legal values.
    pub fn load(file: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        text.parse().with_context(|| format!("{} is no site", file.display()))
    }
}

impl FromStr for Site {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let raw: RawSite = toml::from_str(text)?;
        let layout = match &raw.layout {
            Some(name) => name.parse().map_err(|_| wrong("layout", "slot64, plain72 or plain64", name))?,
            None => Layout::default(),
        };
        let prefix = host_prefix(layout, "prefix", &raw.prefix)?;
        let cores = cores(&raw)?;
        let buffers = raw.buffers.unwrap_or(16_383);
        ensure!(BUFFERS.contains(&buffers), wrong("buffers", "1023 to 16777215", buffers));
        let mut ports = Ports::default();
        let uplink = uplink(&raw.uplink, &mut ports)?;
        let (names, networks) = self::networks(&raw.network)?;
        let mut site = Self {
            layout,
            prefix,
            cores,
            main_core: raw.main_core,
            buffers,
            hugepages: raw.hugepages,
            uplink,
            networks,
            interfaces: Vec::new(),
            mappings: HashMap::new(),
        };
        let mut owned = HashSet::new();
        for interface in &raw.interface {
            let interface = site.interface(interface, &names, &mut ports, &mut owned);
            site.interfaces.push(interface?);
        }
        ensure!(!site.interfaces.is_empty(), "[[interface]]: at least one is needed");
        for mapping in &raw.mapping {
            let vnet = network(&names, "mapping.network", &mapping.network)?;
            let slot = site.slot("mapping.slot", mapping.slot)?;
            let prefix = host_prefix(layout, "mapping.prefix", &mapping.prefix)?;
            let key = MappingKey::new(vnet, mapping.address);
            let locator = Locator::new(layout, prefix, slot, vnet).context("mapping")?;
            let twice = !owned.insert(key) || site.mappings.insert(key, locator).is_some();
            ensure!(
                !twice,
                "mapping.address: {} is there already in network {}",
                mapping.address,
                mapping.network
            );
        }
        Ok(site)
    }
}

impl Site {
    fn slot(&self, field: &str, slot: Option<u8>) -> Result<Slot> {
        match slot {
            Some(slot) if self.layout.has_slots() => Slot::new(slot).context(field.to_owned()),
            None if !self.layout.has_slots() => Ok(Slot::ZERO),
            Some(_) => bail!("{field}: must be left out in layout {}", self.layout),
            None => bail!("{field}: must be 0 to 63"),
        }
    }

    fn interface(
        &self,
        raw: &RawInterface,
        names: &HashMap<String, VnetId>,
        ports: &mut Ports,
        owned: &mut HashSet<MappingKey>,
    ) -> Result<Interface> {
        let field = |name: &str| format!("interface {:?}, {name}", raw.id);
        let vnet = network(names, &field("network"), &raw.network)?;
        let slot = self.slot(&field("slot"), raw.slot)?;
        let taken = self.layout.has_slots() && self.interfaces.iter().any(|other| other.slot == slot);
        ensure!(!taken, "{}: {slot} is another's", field("slot"));
        ensure!(!raw.addresses.is_empty(), "{}: at least one is needed", field("addresses"));
        for address in &raw.addresses {
            let key = MappingKey::new(vnet, *address);
            ensure!(owned.insert(key), "{}: {address} is there already in its network", field("addresses"));
        }
        let mtu = raw.mtu.unwrap_or(1_480);
        ensure!(NODE_MTUS.contains(&mtu), wrong(&field("mtu"), &format!("68 to {MTU_MAX}"), mtu));
        Ok(Interface {
            id: ports.name(&raw.id)?,
            vnet,
            slot,
            mac: station(&field("mac"), &raw.mac)?,
            addresses: raw.addresses.clone(),
            mtu,
            device: ports.device(&raw.device, raw.arguments.as_ref())?,
        })
    }
}

/// Ports are found by their names, and devices attached once.
#[derive(Default)]
struct Ports {
    names: HashSet<String>,
    devices: HashSet<String>,
}

/// The uplink's port.
pub(crate) const UPLINK: &str = "uplink";

impl Ports {
    fn name(&mut self, name: &str) -> Result<String> {
        ensure!(
            !name.is_empty() && name != UPLINK,
            wrong("interface.id", "a name other than \"uplink\"", name)
        );
        ensure!(self.names.insert(name.to_owned()), "interface.id: {name} is there already");
        Ok(name.to_owned())
    }

    fn device(&mut self, name: &str, arguments: Option<&String>) -> Result<Device> {
        let legal = "a PCI address like 0000:03:00.0 or a vdev like net_tap0";
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-:.".contains(&byte);
        ensure!(!name.is_empty() && name.bytes().all(plain), wrong("device", legal, name));
        ensure!(self.devices.insert(name.to_owned()), "device: {name} is another port's");
        Ok(Device { name: name.to_owned(), arguments: arguments.cloned() })
    }
}

fn cores(raw: &RawSite) -> Result<Vec<usize>> {
    let mut cores = raw.cores.clone();
    cores.sort_unstable();
    cores.dedup();
    ensure!(!cores.is_empty() && cores.len() == raw.cores.len(), "cores: must be at least one, each once");
    if let Some(main) = raw.main_core.filter(|main| cores.contains(main)) {
        bail!("main_core: must be none of cores, not {main}");
    }
    Ok(cores)
}

fn uplink(raw: &RawUplink, ports: &mut Ports) -> Result<Uplink> {
    let mtu = raw.mtu.unwrap_or(1_500);
    ensure!(UPLINK_MTUS.contains(&mtu), wrong("uplink.mtu", &format!("1280 to {MTU_MAX}"), mtu));
    Ok(Uplink {
        device: ports.device(&raw.device, raw.arguments.as_ref())?,
        mac: station("uplink.mac", &raw.mac)?,
        next_hop: station("uplink.next_hop", &raw.next_hop)?,
        addresses: raw.addresses.clone(),
        mtu,
    })
}

type Networks = (HashMap<String, VnetId>, BTreeMap<VnetId, Vec<Subnet>>);

fn networks(raw: &[RawNetwork]) -> Result<Networks> {
    let (mut names, mut networks) = Networks::default();
    for raw in raw {
        let vnet = VnetId::new(raw.vnet).context("network.vnet")?;
        let mut subnets: Vec<Subnet> = Vec::new();
        for RawSubnet { cidr, gateway } in &raw.subnets {
            let apart = |other: &Subnet| !other.net.contains(cidr) && !cidr.contains(&other.net);
            ensure!(subnets.iter().all(apart), "network {}, subnets: {cidr} overlaps another", raw.id);
            let inside = gateway.is_none_or(|gateway| cidr.contains(&gateway));
            ensure!(inside, "network {}, subnets: the gateway must be in {cidr}", raw.id);
            subnets.push(Subnet { net: cidr.trunc(), gateway: *gateway });
        }
        ensure!(networks.insert(vnet, subnets).is_none(), "network.vnet: {vnet} is there already");
        ensure!(names.insert(raw.id.clone(), vnet).is_none(), "network.id: {} is there already", raw.id);
    }
    Ok((names, networks))
}

fn network(names: &HashMap<String, VnetId>, field: &str, name: &str) -> Result<VnetId> {
    names.get(name).copied().ok_or_else(|| wrong(field, "the id of a [[network]]", name))
}

fn host_prefix(layout: Layout, field: &str, text: &str) -> Result<HostPrefix> {
    HostPrefix::parse(layout, text).map_err(|error| wrong(field, error.legal, text))
}

fn station(field: &str, text: &str) -> Result<MacAddr> {
    let mac = text.parse::<MacAddr>().ok().filter(|mac| mac.is_station());
    mac.ok_or_else(|| wrong(field, "a station's hardware address like 02:00:5e:10:00:01", text))
}

fn wrong(field: &str, legal: &str, given: impl core::fmt::Debug) -> anyhow::Error {
    anyhow::anyhow!("{field}: must be {legal}, not {given:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../site.toml");

    #[test]
    fn sample_file_is_a_site() {
        let site: Site = SAMPLE.parse().unwrap();
        assert_eq!(site.prefix.to_string(), "fd00:0:0:a::/64");
        assert_eq!((site.interfaces.len(), site.networks.len(), site.mappings.len()), (1, 1, 1));
        assert_eq!((site.interfaces[0].mtu, site.uplink.mtu, site.buffers), (1480, 1500, 16_383));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_legal_values() {
        let cases = [
            ("prefix = \"fd00:0:0:a::/64\"", "prefix = \"fd00::/63\"", "prefix: must be"),
            ("cores = [1]", "cores = []", "cores: must be at least one"),
            ("cores = [1]", "cores = [1]\nmain_core = 1", "main_core: must be none of cores, not 1"),
            ("cores = [1]", "cores = [1]\nbuffers = 5", "buffers: must be 1023 to 16777215, not 5"),
            (
                "next_hop = \"02:00:5e:00:00:02\"",
                "next_hop = \"01:00:5e:00:00:02\"",
                "uplink.next_hop: must be a station",
            ),
            ("next_hop", "hop = 1\nnext_hop", "unknown field `hop`"),
            ("mtu = 1500", "mtu = 9000", "uplink.mtu: must be 1280 to 2034, not 9000"),
            ("mtu = 1480", "mtu = 67", "interface \"web/eth0\", mtu: must be 68 to 2034, not 67"),
            ("vnet = 7", "vnet = 0", "network.vnet"),
            ("gateway = \"10.0.0.1\"", "gateway = \"10.0.1.1\"", "the gateway must be in 10.0.0.0/24"),
            ("slot = 1", "slot = 64", "interface \"web/eth0\", slot"),
            ("slot = 2", "", "mapping.slot: must be 0 to 63"),
            ("address = \"10.0.0.6\"", "address = \"10.0.0.5\"", "10.0.0.5 is there already"),
            ("device = \"net_tap0\"", "device = \"net_af_packet0\"", "net_af_packet0 is another port's"),
            ("device = \"net_tap0\"", "device = \"net_tap0 --x\"", "device: must be a PCI address"),
        ];
        for (from, to, expected) in cases {
            assert!(SAMPLE.contains(from), "{from}");
            let error = SAMPLE.replacen(from, to, 1).parse::<Site>().unwrap_err();
            let text = format!("{error:#}");
            assert!(text.contains(expected), "{to}: {text}");
        }
    }
}
