//! A system without an engine: a plain Linux host with an IPv6 address of its own, at the substrate's router.

use super::handle::Lab;
use super::netns::Namespace;
use super::wiring::IPV6_SETTINGS;
use anyhow::Result;
use std::net::Ipv6Addr;

/// The host's device.
const DEVICE: &str = "eth0";

/// A plain host; it and its link go when this is dropped.
#[derive(Debug)]
pub struct Outside {
    host: Namespace,
    router: Namespace,
    link: String,
    address: Ipv6Addr,
}

impl Outside {
    /// Makes host `number` of the lab and joins it to the router.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub fn make(lab: &Lab, number: u8) -> Result<Self> {
        let address = |last| Ipv6Addr::new(0xfd00, 0, 2, number.into(), 0, 0, 0, last);
        let outside = Self {
            host: lab.namespace(&format!("extra{number}")),
            router: lab.plan().router(),
            link: format!("outside{number}"),
            address: address(5),
        };
        let Self { host, router, link, .. } = &outside;
        host.create()?;
        host.sysctl(&IPV6_SETTINGS)?;
        router.ip(&format!(
            "link add {link} type veth peer name {DEVICE} netns {host}\n\
             addr add {}/64 dev {link} nodad\nlink set {link} up",
            address(1)
        ))?;
        host.ip(&format!(
            "addr add {}/64 dev {DEVICE} nodad\nlink set {DEVICE} up\nroute add default via {}",
            outside.address,
            address(1)
        ))?;
        Ok(outside)
    }

    /// The host's namespace.
    #[must_use]
    pub const fn host(&self) -> &Namespace {
        &self.host
    }

    /// The host's address.
    #[must_use]
    pub const fn address(&self) -> Ipv6Addr {
        self.address
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // What cannot be taken away now goes with the lab.
        let _ = self.router.ip(&format!("link del {}", self.link));
        let _ = self.host.delete();
    }
}
