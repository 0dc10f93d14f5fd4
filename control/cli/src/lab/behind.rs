//! A network behind a node: a machine of its own, reached through the node's kernel alone, which forwards as any Linux router
//! does.

use super::handle::Lab;
use super::netns::Namespace;
use super::plan::Node;
use anyhow::Result;
use std::net::Ipv4Addr;

/// The machine's device.
const DEVICE: &str = "eth0";

/// A machine behind a node; it and its link go when this is dropped.
#[derive(Debug)]
pub struct Behind {
    machine: Namespace,
    router: Namespace,
    link: String,
    address: Ipv4Addr,
}

impl Behind {
    /// Makes machine `number` of the lab at `address` and joins it to a node, which is the first host of its network of 24 bits.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub fn make(lab: &Lab, node: &Node, number: u8, address: Ipv4Addr) -> Result<Self> {
        let (machine, router) = (lab.namespace(&format!("extra{number}")), lab.namespace(&node.id));
        let behind = Self { machine, router, link: format!("behind{number}"), address };
        let Self { machine, router, link, .. } = &behind;
        let [a, b, c, _] = address.octets();
        let gateway = Ipv4Addr::new(a, b, c, 1);
        machine.create()?;
        router.ip(&format!(
            "link add {link} type veth peer name {DEVICE} netns {machine}\n\
             addr add {gateway}/24 dev {link}\nlink set {link} up"
        ))?;
        machine.ip(&format!(
            "addr add {address}/24 dev {DEVICE}\nlink set {DEVICE} up\nroute add default via {gateway}"
        ))?;
        router.sysctl(&[("ipv4/ip_forward", "1")])?;
        Ok(behind)
    }

    /// The machine's namespace.
    #[must_use]
    pub const fn machine(&self) -> &Namespace {
        &self.machine
    }

    /// The machine's address.
    #[must_use]
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        // What cannot be taken away now goes with the lab.
        let _ = self.router.ip(&format!("link del {}", self.link));
        let _ = self.router.sysctl(&[("ipv4/ip_forward", "0")]);
        let _ = self.machine.delete();
    }
}
