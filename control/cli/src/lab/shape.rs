//! What may differ from one lab to another: the MTUs of its links, their offloads, and how its engines are tuned.

use super::plan::Plan;
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// MTU of the substrate's links unless a lab asks for another.
pub const SUBSTRATE_MTU: u16 = 1500;
/// How much longer the IPv6 header is than the IPv4 header that it replaces.
pub const HEADER_GROWTH: u16 = 20;
/// The least MTU of a link that carries IPv6 (RFC 8200, section 5).
const LEAST_SUBSTRATE_MTU: u16 = 1280;
/// What every IPv4 host takes in one piece (RFC 791, section 3.1): nodes with less are no use.
const LEAST_NODE_MTU: u16 = 576;

/// The MTUs, offloads and engine settings of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// MTU of the router's links in bytes, from 1280 on.
    pub mtu: u16,
    /// Hosts, by id, whose link to the router has another MTU.
    pub link_mtus: BTreeMap<String, u16>,
    /// MTU of nodes' devices in bytes, from 576 on; `None` for what fits the router's links: 20 less than theirs.
    pub node_mtu: Option<u16>,
    /// Whether nodes, hosts and router leave checksums and segmentation to their devices, as Linux does by default.
    pub offloads: bool,
    /// Sections added to every engine's configuration file, in its own format.
    pub engine: String,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            mtu: SUBSTRATE_MTU,
            link_mtus: BTreeMap::new(),
            node_mtu: None,
            offloads: true,
            engine: String::new(),
        }
    }
}

impl Shape {
    /// MTU of nodes' devices, in bytes.
    #[must_use]
    pub fn node_mtu(&self) -> u16 {
        self.node_mtu.unwrap_or(self.mtu - HEADER_GROWTH)
    }

    /// MTU of a host's link to the router, in bytes.
    #[must_use]
    pub fn link_mtu(&self, host: &str) -> u16 {
        self.link_mtus.get(host).copied().unwrap_or(self.mtu)
    }

    /// Whether a lab of this plan can be made so.
    ///
    /// # Errors
    /// Names the value that does not do, and the legal ones.
    pub fn check(&self, plan: &Plan) -> Result<()> {
        for (host, mtu) in &self.link_mtus {
            plan.host(host)?;
            ensure!(*mtu >= LEAST_SUBSTRATE_MTU, "the MTU of {host}'s link must be 1280 to 65535, not {mtu}");
        }
        ensure!(
            self.mtu >= LEAST_SUBSTRATE_MTU,
            "the MTU of the router's links must be 1280 to 65535, not {}",
            self.mtu
        );
        let node = self.node_mtu();
        ensure!(node >= LEAST_NODE_MTU, "the MTU of nodes must be 576 to 65535, not {node}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_get_the_mtu_that_the_substrate_can_carry() {
        assert_eq!(Shape::default().node_mtu(), 1480);
        assert_eq!(Shape { mtu: 9000, ..Shape::default() }.node_mtu(), 8980);
        assert_eq!(Shape { node_mtu: Some(1500), ..Shape::default() }.node_mtu(), 1500);
    }

    #[test]
    fn what_no_link_can_have_is_refused_by_name() {
        let plan = Plan::standard("ovl").unwrap();
        let links = |host: &str, mtu| BTreeMap::from([(host.to_owned(), mtu)]);
        Shape { link_mtus: links("host-b", 1300), ..Shape::default() }.check(&plan).unwrap();
        for (shape, word) in [
            (Shape { mtu: 1279, ..Shape::default() }, "1280 to 65535"),
            (Shape { node_mtu: Some(575), ..Shape::default() }, "576 to 65535"),
            (Shape { link_mtus: links("host-b", 1279), ..Shape::default() }, "host-b"),
            (Shape { link_mtus: links("host-c", 1300), ..Shape::default() }, "host-c"),
        ] {
            let error = format!("{:#}", shape.check(&plan).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }
}
