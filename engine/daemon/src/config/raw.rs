//! The configuration as it is written, and its checks.

use super::flows::Flows;
use super::groups::Groups;
use super::resolve::Resolve;
use super::translate::{Fragments, Icmp, PathMtu, Translate};
use super::{
    Config, Hugepages, Idle, ProvisioningConfig, ServiceConfig, UplinkAddress, UplinkConfig, UplinkDevice,
    WorkersConfig,
};
use crate::provisioning::model::DeviceName;
use core::net::{Ipv6Addr, SocketAddr};
use core::ops::Range;
use core::time::Duration;
use overlane_api::config::{FileError, LOG_LEVEL_LEGAL, Source, Text, Value};
use overlane_api::resource::{DEVICE_NAME_LEGAL, is_id};
use overlane_api::tls::TlsFiles;
use overlane_dataplane::address::Layout;
use serde::Deserialize;
use toml::Spanned;
use tracing_subscriber::EnvFilter;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    // What may be left out for a translator, an engine needs.
    pub(super) engine: Option<Engine>,
    #[serde(default)]
    pub(super) substrate: Substrate,
    pub(super) uplink: Option<Spanned<Uplink>>,
    #[serde(default)]
    workers: Workers,
    #[serde(default)]
    pub(super) translate: Translate,
    #[serde(default)]
    pub(super) icmp: Icmp,
    #[serde(default)]
    pub(super) groups: Groups,
    #[serde(default)]
    fragments: Fragments,
    #[serde(default)]
    flows: Flows,
    #[serde(default)]
    resolve: Resolve,
    #[serde(default)]
    path_mtu: PathMtu,
    pub(super) provisioning: Option<Spanned<Provisioning>>,
    #[serde(default)]
    state: State,
    #[serde(default)]
    telemetry: Telemetry,
    #[serde(default)]
    log: Log,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Engine {
    pub(super) host: Spanned<String>,
    shutdown_deadline: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Substrate {
    pub(super) layout: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Uplink {
    name: Text,
    kind: Text,
    device: Text,
    devargs: Text,
    pub(super) mtu: Value<u32>,
    pub(super) address: Text,
    pub(super) gateway: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Workers {
    cores: Value<Vec<u16>>,
    idle: Text,
    mempool: Value<u32>,
    hugepages: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provisioning {
    service: Text,
    server_name: Text,
    ca: Text,
    cert: Text,
    key: Text,
    crl: Text,
    insecure: Option<Spanned<bool>>,
    file: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    directory: Text,
    stale_max: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Telemetry {
    listen: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    level: Text,
}

/// Default time for an ordered shutdown.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);
/// Default of `[state] stale_max`.
const STALE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Default number of packet buffers: a burst in flight per queue of a few dozen ports, about 40 MiB.
const MEMPOOL: u32 = 16_384;
/// Most workers: one bit each in DPDK's default build.
const MAX_WORKERS: usize = 64;

pub(super) fn check(source: &Source, raw: Raw) -> Result<Config, FileError> {
    let check = Check { source };
    let missing = |table: &str| source.missing(table, "must be there; conf/engine.toml shows what it has");
    let engine = raw.engine.ok_or_else(|| missing("[engine]"))?;
    let uplink = raw.uplink.ok_or_else(|| missing("[uplink]"))?;
    let provisioning = raw.provisioning.ok_or_else(|| missing("[provisioning]"))?;
    raw.translate.refuse_for_engine(source)?;
    let host = check.host(&engine)?;
    let workers = check.workers(raw.workers)?;
    let (resolve, mapping_expiry) = raw.resolve.check(source)?;
    let level =
        |text: &str| (!text.trim().is_empty() && EnvFilter::try_new(text).is_ok()).then(|| text.to_owned());
    Ok(Config {
        host,
        shutdown_deadline: source
            .duration(&engine.shutdown_deadline, &(Duration::from_secs(1)..=Duration::from_secs(300)))?
            .unwrap_or(SHUTDOWN_DEADLINE),
        layout: check.layout(&raw.substrate)?,
        uplink: check.uplink(uplink)?,
        fragments: raw.fragments.check(source, &workers)?,
        flows: raw.flows.check(source)?,
        resolve,
        mapping_expiry,
        workers,
        translate: raw.translate.check(source)?,
        icmp: raw.icmp.check(source)?,
        groups: raw.groups.check(source)?,
        path_mtu_expiry: raw.path_mtu.check(source)?,
        provisioning: check.provisioning(provisioning)?,
        state_directory: raw
            .state
            .directory
            .as_ref()
            .map(|value| source.path(value))
            .transpose()?
            .unwrap_or_else(|| "/var/lib/overlane-engine".into()),
        stale_max: source
            .duration(&raw.state.stale_max, &(Duration::from_secs(1)..=Duration::from_secs(365 * 24 * 3600)))?
            .unwrap_or(STALE_MAX),
        telemetry_listen: raw
            .telemetry
            .listen
            .as_ref()
            .map(|value| source.listen(value, "127.0.0.1:9470"))
            .transpose()?
            .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9470))),
        log_level: source
            .optional(&raw.log.level, LOG_LEVEL_LEGAL, level)?
            .unwrap_or_else(|| "info".to_owned()),
    })
}

pub(super) struct Check<'a> {
    pub(super) source: &'a Source,
}

impl Check<'_> {
    pub(super) fn host(&self, raw: &Engine) -> Result<String, FileError> {
        self.source.text(&raw.host, "a host id of 1 to 63 lower-case letters, digits and '-'", |text| {
            is_id(text).then(|| text.to_owned())
        })
    }

    pub(super) fn layout(&self, raw: &Substrate) -> Result<Option<Layout>, FileError> {
        self.source.optional(&raw.layout, "slot64, plain72 or plain64", |text| text.parse().ok())
    }

    fn uplink(&self, raw: Spanned<Uplink>) -> Result<UplinkConfig, FileError> {
        let span = raw.span();
        let raw = raw.into_inner();
        let Some(kind) = raw.kind else { return Err(self.source.error(&span, "missing field 'kind'")) };
        let kind_span = kind.span();
        let kind = kind.into_inner();
        let device = match (kind.as_str(), raw.device, raw.devargs) {
            ("packet", Some(device), devargs) => {
                self.source.refuse(&devargs, "has no effect with kind = \"packet\"; remove it")?;
                UplinkDevice::Packet(self.source.text(&device, DEVICE_NAME_LEGAL, DeviceName::new)?)
            }
            ("devargs", device, Some(devargs)) => {
                self.source.refuse(&device, "has no effect with kind = \"devargs\"; remove it")?;
                let legal = "DPDK devargs, like 0000:03:00.0 or net_af_xdp0,iface=eth1";
                UplinkDevice::Devargs(
                    self.source.text(&devargs, legal, |text| is_devargs(text).then(|| text.to_owned()))?,
                )
            }
            ("packet", None, _) => {
                let message = format!("kind = \"packet\" needs device = {DEVICE_NAME_LEGAL}");
                return Err(self.source.error(&kind_span, message));
            }
            ("devargs", _, None) => {
                let message =
                    "kind = \"devargs\" needs devargs = a PCI address or a DPDK vdev with its arguments";
                return Err(self.source.error(&kind_span, message));
            }
            _ => {
                let message = format!("must be packet or devargs, not {kind:?}");
                return Err(self.source.error(&kind_span, message));
            }
        };
        let name = self
            .source
            .optional(&raw.name, "a name of 1 to 63 lower-case letters, digits and '-'", |text| {
                is_id(text).then(|| text.to_owned())
            })?
            .unwrap_or_else(|| "uplink".to_owned());
        let address = match self.own_address(&raw.address)? {
            Some((span, address, prefix_length)) => {
                let Some(gateway) = &raw.gateway else {
                    let message = "a static address needs gateway = the router's IPv6 address";
                    return Err(self.source.error(&span, message));
                };
                let gateway = self.router(gateway, address, prefix_length)?;
                UplinkAddress::Static { address, gateway }
            }
            None => {
                self.source.refuse(&raw.gateway, "has no effect with address = \"auto\"; remove it")?;
                UplinkAddress::Auto
            }
        };
        let mtu = self.mtu(&raw.mtu)?;
        Ok(UplinkConfig { name, device, mtu, address })
    }

    /// The address on the uplink, where it stands, and the length of its on-link prefix; `None`: auto.
    pub(super) fn own_address(
        &self,
        value: &Text,
    ) -> Result<Option<(Range<usize>, Ipv6Addr, u8)>, FileError> {
        let Some(value) = value.as_ref().filter(|value| value.as_ref() != "auto") else { return Ok(None) };
        let legal = "auto, or an IPv6 address with the length of its on-link prefix, like fd00:0:0:ff::2/64";
        let (address, prefix_length) = self.source.text(value, legal, |text| {
            let (address, length) = text.split_once('/')?;
            let (address, length) = (address.parse().ok()?, length.parse::<u8>().ok()?);
            (is_station(address) && (1..=128).contains(&length)).then_some((address, length))
        })?;
        Ok(Some((value.span(), address, prefix_length)))
    }

    /// The router beside `address`.
    pub(super) fn router(
        &self,
        value: &Spanned<String>,
        address: Ipv6Addr,
        prefix_length: u8,
    ) -> Result<Ipv6Addr, FileError> {
        let gateway = self.source.text(value, "an IPv6 unicast address", |text| {
            text.parse()
                .ok()
                .filter(|address: &Ipv6Addr| is_station(*address) || address.is_unicast_link_local())
        })?;
        let on_link = !0u128 << (128 - u32::from(prefix_length));
        let same_link = (address.to_bits() ^ gateway.to_bits()) & on_link == 0;
        if gateway == address || !(same_link || gateway.is_unicast_link_local()) {
            let message = format!(
                "must be link-local or another address of the prefix of {address}/{prefix_length}, not {gateway}"
            );
            return Err(self.source.error(&value.span(), message));
        }
        Ok(gateway)
    }

    pub(super) fn mtu(&self, value: &Value<u32>) -> Result<Option<u16>, FileError> {
        Ok(self.source.number(value, " bytes", &(1280..=65_535))?.map(|mtu| mtu as u16))
    }

    fn workers(&self, raw: Workers) -> Result<WorkersConfig, FileError> {
        let mut cores = Vec::new();
        if let Some(list) = &raw.cores {
            cores.extend(list.as_ref().iter().map(|core| usize::from(*core)));
            let mut sorted = cores.clone();
            sorted.sort_unstable();
            sorted.dedup();
            if sorted.len() != cores.len() || cores.is_empty() || cores.len() > MAX_WORKERS {
                let message = format!("must be 1 to {MAX_WORKERS} different core numbers, like [2, 3]");
                return Err(self.source.error(&list.span(), message));
            }
        }
        let idle = self
            .source
            .optional(&raw.idle, "spin or backoff", |text| match text {
                "spin" => Some(Idle::Spin),
                "backoff" => Some(Idle::Backoff),
                _ => None,
            })?
            .unwrap_or(if cores.is_empty() { Idle::Backoff } else { Idle::Spin });
        let hugepages = self
            .source
            .optional(&raw.hugepages, "auto, always or never", |text| match text {
                "auto" => Some(Hugepages::Auto),
                "always" => Some(Hugepages::Always),
                "never" => Some(Hugepages::Never),
                _ => None,
            })?
            .unwrap_or(Hugepages::Auto);
        let mempool =
            self.source.number(&raw.mempool, " packet buffers", &(1024..=16 << 20))?.unwrap_or(MEMPOOL);
        Ok(WorkersConfig { cores, idle, mempool, hugepages })
    }

    pub(super) fn provisioning(&self, raw: Spanned<Provisioning>) -> Result<ProvisioningConfig, FileError> {
        let span = raw.span();
        let raw = raw.into_inner();
        match (raw.file, raw.service) {
            (Some(file), None) => {
                for value in [&raw.server_name, &raw.ca, &raw.cert, &raw.key, &raw.crl] {
                    self.source.refuse(value, "has no effect with file = …; remove one of them")?;
                }
                self.source.refuse(&raw.insecure, "has no effect with file = …; remove one of them")?;
                Ok(ProvisioningConfig::File(self.source.path(&file)?))
            }
            (None, Some(service)) => {
                let legal = "the service's host:port, like control.example:9471 or [fd00::1]:9471";
                let address = self
                    .source
                    .text(&service, legal, |text| split_host_port(text).map(|_| text.to_owned()))?;
                let server_name =
                    self.source.optional(&raw.server_name, "a DNS name or an IP address", |text| {
                        (!text.is_empty()).then(|| text.to_owned())
                    })?;
                let need = |value: Text, field: &str, what: &str| match value {
                    Some(value) => self.source.path(&value),
                    None => {
                        let message = format!("service = … needs {field} = the file with {what}, PEM");
                        Err(self.source.error(&span, message))
                    }
                };
                let host = split_host_port(&address).map(|(host, _)| host.to_owned()).unwrap_or_default();
                let tls = if raw.insecure.is_some_and(Spanned::into_inner) {
                    for value in [&raw.server_name, &raw.ca, &raw.cert, &raw.key, &raw.crl] {
                        self.source
                            .refuse(value, "has no effect with insecure = true; remove one of them")?;
                    }
                    let legal = "127.0.0.1:port or [::1]:port with insecure = true";
                    self.source.text(&service, legal, |_| is_loopback(&host).then_some(()))?;
                    None
                } else {
                    Some(TlsFiles {
                        ca: need(raw.ca, "ca", "the certificates that are trusted")?,
                        certificate: need(raw.cert, "cert", "the engine's certificate")?,
                        key: need(raw.key, "key", "the certificate's key")?,
                        crl: raw.crl.as_ref().map(|file| self.source.path(file)).transpose()?,
                    })
                };
                let server_name = server_name.unwrap_or(host);
                Ok(ProvisioningConfig::Service(ServiceConfig { address, server_name, tls }))
            }
            (Some(file), Some(_)) => {
                Err(self.source.error(&file.span(), "must be either service = … or file = …, not both"))
            }
            (None, None) => {
                Err(self.source.error(&span, "must have service = \"host:port\" or file = \"static.toml\""))
            }
        }
    }
}

/// Whether a host of `split_host_port` is this machine's own address.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<core::net::IpAddr>();
    address.is_ok_and(|address| address.is_loopback())
}

fn is_devargs(text: &str) -> bool {
    !text.is_empty() && text.len() <= 1024 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_station(address: Ipv6Addr) -> bool {
    !address.is_multicast()
        && !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_unicast_link_local()
        && address.to_ipv4_mapped().is_none()
}

/// Host and port of `host:port` or `[address]:port`.
fn split_host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']').filter(|host| host.parse::<Ipv6Addr>().is_ok())?,
        None => host,
    };
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let ok = host.parse::<Ipv6Addr>().is_ok() && text.starts_with('[')
        || !host.is_empty() && host.bytes().all(legal);
    ok.then_some((host, port))
}
