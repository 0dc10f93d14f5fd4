//! A site as the stages want it: snapshot, mapping table, counters.

use crate::site::{self, Device, Site};
use anyhow::Result;
use overlane_dataplane::address::Locator;
use overlane_dataplane::counters::{PerWorker, Traffic};
use overlane_dataplane::group::GroupLimit;
use overlane_dataplane::id::PortId;
use overlane_dataplane::limit::IcmpLimit;
use overlane_dataplane::snapshot::{HostSnapshot, Interface, PortRole, Uplink, Vnet};
use overlane_dataplane::table::flow::{FlowLimits, FlowTable, Timeouts};
use overlane_dataplane::table::mapping::{Mapping, MappingKey, MappingTable, State, mapping_table};
use overlane_dataplane::table::qsbr::Domain;
use std::sync::Arc;

/// Everything the workers share. Nothing of it changes while they run.
#[derive(Debug)]
pub struct Host {
    /// What the host is and has.
    pub snapshot: HostSnapshot,
    /// Where addresses live.
    pub table: MappingTable,
    /// The flows of stateful vnets, of which a site has none: as small as can be.
    pub flows: FlowTable,
    /// The ports by their index; the uplink is the first.
    pub ports: Vec<Port>,
    /// The readers' domain.
    pub domain: Arc<Domain>,
}

/// A port of the host.
#[derive(Debug)]
pub struct Port {
    /// Its id.
    pub id: PortId,
    /// Its name with capsule.
    pub name: String,
    /// Its device.
    pub device: Device,
    /// Its counters.
    pub traffic: Arc<PerWorker<Traffic>>,
}

impl Host {
    /// The site for `workers` workers. `seed` is secret and random.
    ///
    /// # Errors
    /// When there are too many ports or mappings.
    pub fn new(site: &Site, workers: usize, seed: [u64; 2]) -> Result<Self> {
        let mut snapshot = HostSnapshot::empty(site.layout);
        snapshot.prefix = Some(site.prefix);
        for (id, subnets) in &site.networks {
            let uplink_drops = Arc::new(PerWorker::new(workers));
            snapshot.vnets.push(Arc::new(Vnet::new(*id, subnets.clone(), uplink_drops)));
        }
        let mut ports = vec![Port::new(0, site::UPLINK, &site.uplink.device, workers)?];
        let uplink = Arc::new(Uplink {
            name: site::UPLINK.to_owned(),
            port: ports[0].id,
            mac: site.uplink.mac,
            mtu: site.uplink.mtu,
            addresses: site.uplink.addresses.clone(),
            next_hop: Some(site.uplink.next_hop),
            link_up: true,
            traffic: Arc::clone(&ports[0].traffic),
            icmp_limit: IcmpLimit::default().buckets(workers),
        });
        snapshot.ports.push(PortRole::Uplink(Arc::clone(&uplink)));
        snapshot.uplinks.push(uplink);

        let domain = Domain::new(workers, 1024);
        let own: usize = site.interfaces.iter().map(|interface| interface.addresses.len()).sum();
        // Nothing more is written once the host is made: the writer goes, the table stays.
        let (mut writer, table) = mapping_table(&domain, site.mappings.len() + own, seed);
        for interface in &site.interfaces {
            let port = Port::new(ports.len(), &interface.id, &interface.device, workers)?;
            let Some(vnet) = snapshot.vnet(interface.vnet).cloned() else { continue };
            let locator = Locator::new(site.layout, site.prefix, interface.slot, interface.vnet)?;
            for address in &interface.addresses {
                let value = Mapping { locator, also_accept: None, local: Some(port.id), state: State::Live };
                writer.insert(MappingKey::new(interface.vnet, *address), value)?;
            }
            let interface = Arc::new(Interface {
                name: interface.id.clone(),
                port: port.id,
                slot: interface.slot,
                vnet,
                mac: interface.mac,
                addresses: interface.addresses.clone(),
                policy: None,
                settling: false,
                mtu: interface.mtu,
                traffic: Arc::clone(&port.traffic),
                icmp_limit: IcmpLimit::default().buckets(workers),
                cap: None,
                group_limit: GroupLimit::default().buckets(workers),
            });
            if site.layout.has_slots()
                && let Some(place) = snapshot.slots.get_mut(usize::from(interface.slot.get()))
            {
                *place = Some(Arc::clone(&interface));
            }
            snapshot.ports.push(PortRole::Node(interface));
            ports.push(port);
        }
        for (key, locator) in &site.mappings {
            let value = Mapping { locator: *locator, also_accept: None, local: None, state: State::Live };
            writer.insert(*key, value)?;
        }
        let limits = FlowLimits::new(*FlowLimits::CAPACITY.start(), Timeouts::default())?;
        let flows = FlowTable::new(&domain, &limits, workers, seed);
        Ok(Self { snapshot, table, flows, ports, domain })
    }
}

impl Port {
    fn new(index: usize, name: &str, device: &Device, workers: usize) -> Result<Self> {
        Ok(Self {
            id: PortId::new(u16::try_from(index)?)?,
            name: name.to_owned(),
            device: device.clone(),
            traffic: Arc::new(PerWorker::new(workers)),
        })
    }
}
