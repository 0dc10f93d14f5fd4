//! What nodes of a virtual network are told by DHCP, besides what provisioning says of each: its address, mask, router, MTU
//! and name.

use core::net::Ipv4Addr;
use ipnet::Ipv4Net;

/// The most name servers.
pub const MAX_DNS: usize = 8;
/// The most routes: with the default route they fit into one option (RFC 3442).
pub const MAX_ROUTES: usize = 16;
/// The longest name of a domain, in bytes.
pub const MAX_DOMAIN: usize = 253;
/// The longest name of a file to start from, in bytes.
pub const MAX_BOOT_FILE: usize = 127;
/// The shortest and the longest lease, in seconds: a minute, and some 31 years.
pub const LEASES: core::ops::RangeInclusive<u32> = 60..=1_000_000_000;
/// The lease where none is given, in seconds.
pub const LEASE: u32 = 3_600;

/// What a virtual network's nodes are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name servers, the best first; up to [`MAX_DNS`].
    pub dns: Vec<Ipv4Addr>,
    /// The domain of names without one; up to [`MAX_DOMAIN`] bytes, or empty.
    pub domain: String,
    /// For how long a node may keep what it was told, in seconds: one of [`LEASES`].
    pub lease_seconds: u32,
    /// Routes besides those to the subnet and by the gateway, and the router of each; up to [`MAX_ROUTES`].
    pub routes: Vec<(Ipv4Net, Ipv4Addr)>,
    /// Where nodes load what they start from.
    pub boot: Option<Boot>,
}

/// Where nodes load what they start from (PXE).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// The TFTP server.
    pub server: Ipv4Addr,
    /// The file's name; up to [`MAX_BOOT_FILE`] bytes.
    pub file: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { dns: Vec::new(), domain: String::new(), lease_seconds: LEASE, routes: Vec::new(), boot: None }
    }
}
