//! The configuration file: strict, and precise about what is wrong with it.
//!
//! What the file says is read into raw types with the place of every value, then checked into [`Config`], whose
//! values are all legal. Everything that is accepted has an effect.

mod flows;
mod groups;
mod raw;
mod resolve;
#[cfg(test)]
mod tests;
mod translate;
mod translator;

pub use translator::{Addresses, TranslatorConfig};

use crate::provisioning::model::DeviceName;
use core::net::{Ipv6Addr, SocketAddr};
use core::time::Duration;
use overlane_api::config::{FileError, Source};
use overlane_api::tls::TlsFiles;
use overlane_dataplane::address::Layout;
use overlane_dataplane::fragment::FragmentLimits;
use overlane_dataplane::group::GroupLimit;
use overlane_dataplane::limit::IcmpLimit;
use overlane_dataplane::resolve::ResolveLimits;
use overlane_dataplane::table::flow::FlowLimits;
use overlane_dataplane::translate::Settings;
use std::path::{Path, PathBuf};

/// A checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// This host's id.
    pub host: String,
    /// How long a shutdown may take before the process exits regardless.
    pub shutdown_deadline: Duration,
    /// The layout that the substrate must have; `None`: as provisioning says.
    pub layout: Option<Layout>,
    /// The way to the substrate.
    pub uplink: UplinkConfig,
    /// The workers.
    pub workers: WorkersConfig,
    /// How packets are translated.
    pub translate: Settings,
    /// How many ICMP errors an interface, and an uplink, is worth to each worker.
    pub icmp: IcmpLimit,
    /// What an interface may ask of each worker for groups.
    pub groups: GroupLimit,
    /// How much of fragmented traffic each worker remembers.
    pub fragments: FragmentLimits,
    /// How many flows of stateful vnets are known, and for how long.
    pub flows: FlowLimits,
    /// How much of what is resolved on demand may wait, and be asked.
    pub resolve: ResolveLimits,
    /// For how long a mapping is held that was resolved on demand.
    pub mapping_expiry: Duration,
    /// How long a path MTU that the substrate has told lasts.
    pub path_mtu_expiry: Duration,
    /// Where the desired state comes from.
    pub provisioning: ProvisioningConfig,
    /// Where state is kept between runs.
    pub state_directory: PathBuf,
    /// How long entries serve without contact to the service.
    pub stale_max: Duration,
    /// Where metrics, health and status are served.
    pub telemetry_listen: SocketAddr,
    /// What is logged, as `tracing_subscriber::EnvFilter` directives.
    pub log_level: String,
}

/// The way to the substrate.
#[derive(Debug, Clone, PartialEq)]
pub struct UplinkConfig {
    /// Its name in metrics and logs.
    pub name: String,
    /// What carries it.
    pub device: UplinkDevice,
    /// The largest IPv6 packet in bytes, 1,280 to 65,535: a device of its own is set to it, one that is an interface of
    /// the kernel carries at most its own MTU. `None`: what the device has.
    pub mtu: Option<u16>,
    /// The engine's own address on it.
    pub address: UplinkAddress,
}

/// What carries the uplink.
#[derive(Debug, Clone, PartialEq)]
pub enum UplinkDevice {
    /// A kernel interface, through a packet socket, shared with the host's kernel.
    Packet(DeviceName),
    /// A DPDK device: a PCI address or a vdev with its arguments.
    Devargs(String),
}

/// The engine's own address on the uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UplinkAddress {
    /// From router advertisements.
    Auto,
    /// Given.
    Static {
        /// The engine's own address.
        address: Ipv6Addr,
        /// The router: link-local, or in the address's on-link prefix.
        gateway: Ipv6Addr,
    },
}

/// The workers.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkersConfig {
    /// One worker on each of these cores; empty: one worker on the last core that the process may use.
    pub cores: Vec<usize>,
    /// What a worker does when there is nothing to do.
    pub idle: Idle,
    /// Packet buffers in the mempool.
    pub mempool: u32,
    /// Which memory buffers come from.
    pub hugepages: Hugepages,
}

/// What a worker does when there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// Polls on.
    Spin,
    /// Sleeps until a packet comes, for longer and longer.
    Backoff,
}

/// Which memory buffers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hugepages {
    /// Hugepages when enough are free, ordinary memory when not.
    Auto,
    /// Hugepages, or the engine does not start.
    Always,
    /// Ordinary memory.
    Never,
}

/// Where the desired state comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum ProvisioningConfig {
    /// The provisioning service, over mutual TLS.
    Service(ServiceConfig),
    /// One file, read again on SIGHUP.
    File(PathBuf),
}

/// How to reach the provisioning service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceConfig {
    /// `host:port`.
    pub address: String,
    /// The name that its certificate must carry.
    pub server_name: String,
    /// The TLS files that lead to it: the certificate's SAN is the host's id. `None`: without TLS, on this machine.
    pub tls: Option<TlsFiles>,
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`FileError`] naming file, line, field and legal values of the first thing that is wrong.
    pub fn load(file: &Path) -> Result<Self, FileError> {
        Self::parse(&Source::read(file)?)
    }

    /// Checks configuration text.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(source: &Source) -> Result<Self, FileError> {
        raw::check(source, source.parse()?)
    }
}
