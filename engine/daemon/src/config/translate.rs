//! How packets are translated, and what is kept for that: `[translate]`, `[icmp]`, `[fragments]`, `[path_mtu]`.

use super::WorkersConfig;
use core::time::Duration;
use ipnet::Ipv4Net;
use overlane_api::config::{FileError, Source, Text, Value};
use overlane_dataplane::fragment::FragmentLimits;
use overlane_dataplane::limit::IcmpLimit;
use overlane_dataplane::translate::{RouterSource, Settings};
use serde::Deserialize;
use toml::Spanned;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Translate {
    traffic_class: Text,
    udp_without_checksum: Text,
    lowest_ipv6_mtu: Value<toml::Value>,
    fragmented_icmp: Text,
    router_source: Text,
    tcp_mss_clamp: Value<bool>,
    // For `overlane-engine translate` only; `translator.rs` takes them.
    pub(super) node_mtu: Value<u32>,
    pub(super) gateway: Text,
    pub(super) network: Text,
    #[serde(default)]
    pub(super) map: Vec<RawMap>,
}

/// One of `[[translate.map]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMap {
    pub(super) ipv4: Spanned<String>,
    pub(super) ipv6: Spanned<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Icmp {
    rate: Value<u32>,
    burst: Value<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fragments {
    datagrams: Value<usize>,
    held: Value<usize>,
    timeout: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PathMtu {
    expiry: Text,
}

/// Most of `[icmp] rate` and `burst`: more is no limit any more.
const MOST_ERRORS: u32 = 1_000_000;
/// What part of the packet buffers fragments that wait may take: one in so many.
const HELD_SHARE: usize = 4;
/// How long a path MTU must last at least (RFC 8201, 4) and may last at most.
const LEAST_EXPIRY: Duration = Duration::from_secs(5 * 60);
const MOST_EXPIRY: Duration = Duration::from_secs(24 * 3600);
/// How long it lasts unless told otherwise, as RFC 8201, 4 recommends.
const EXPIRY: Duration = Duration::from_secs(10 * 60);

impl Translate {
    pub(super) fn check(&self, source: &Source) -> Result<Settings, FileError> {
        let default = Settings::default();
        let either = |value: &Text, yes: &str, no: &str, default: bool| {
            let legal = format!("{yes} or {no}");
            let parse = |text: &str| (text == yes || text == no).then_some(text == yes);
            source.optional(value, &legal, parse).map(|given| given.unwrap_or(default))
        };
        Ok(Settings {
            copy_traffic_class: either(&self.traffic_class, "copy", "zero", default.copy_traffic_class)?,
            compute_udp_checksum: either(
                &self.udp_without_checksum,
                "compute",
                "drop",
                default.compute_udp_checksum,
            )?,
            lowest_ipv6_mtu: self.lowest_ipv6_mtu(source)?.unwrap_or(default.lowest_ipv6_mtu),
            carry_fragmented_icmp: either(
                &self.fragmented_icmp,
                "carry",
                "drop",
                default.carry_fragmented_icmp,
            )?,
            router_source: source
                .optional(
                    &self.router_source,
                    "gateway, or an IPv4 prefix of unicast addresses, of length 8 to 32, like 192.0.0.0/24",
                    router_source,
                )?
                .unwrap_or(default.router_source),
            clamp_tcp_mss: self.tcp_mss_clamp.as_ref().map_or(default.clamp_tcp_mss, |clamp| *clamp.as_ref()),
        })
    }

    /// Refuses what has no effect on an engine that runs: it knows all this from provisioning and its ports.
    pub(super) fn refuse_for_engine(&self, source: &Source) -> Result<(), FileError> {
        let message = "is for overlane-engine translate only, and has no effect on an engine that runs; keep it in a \
                       file of its own";
        source.refuse(&self.node_mtu, message)?;
        for text in [&self.gateway, &self.network] {
            source.refuse(text, message)?;
        }
        self.map.first().map_or(Ok(()), |map| Err(source.error(&map.ipv4.span(), message)))
    }

    fn lowest_ipv6_mtu(&self, source: &Source) -> Result<Option<Option<u16>>, FileError> {
        let Some(value) = &self.lowest_ipv6_mtu else { return Ok(None) };
        let number = |number: i64| u16::try_from(number).ok().filter(|mtu| *mtu >= Settings::MIN_IPV6_MTU);
        match value.as_ref() {
            toml::Value::String(text) if text == "path" => Ok(Some(None)),
            toml::Value::Integer(given) if let Some(mtu) = number(*given) => Ok(Some(Some(mtu))),
            other => {
                let (least, most) = (Settings::MIN_IPV6_MTU, u16::MAX);
                let message = format!("must be \"path\", or {least} to {most} bytes, not {other}");
                Err(source.error(&value.span(), message))
            }
        }
    }
}

impl Icmp {
    pub(super) fn check(&self, source: &Source) -> Result<IcmpLimit, FileError> {
        let default = IcmpLimit::default();
        Ok(IcmpLimit {
            rate: source
                .number(&self.rate, " errors per second", &(1..=MOST_ERRORS))?
                .unwrap_or(default.rate),
            burst: source.number(&self.burst, " errors", &(1..=MOST_ERRORS))?.unwrap_or(default.burst),
        })
    }
}

impl Fragments {
    pub(super) fn check(
        &self,
        source: &Source,
        workers: &WorkersConfig,
    ) -> Result<FragmentLimits, FileError> {
        let default = FragmentLimits::default();
        let datagrams = source.number(&self.datagrams, " datagrams", &FragmentLimits::DATAGRAMS)?;
        let timeout = source.duration(&self.timeout, &FragmentLimits::TIMEOUT)?;
        // Whoever sends first fragments never must not take the buffers that all other packets need.
        let share = workers.mempool as usize / HELD_SHARE / workers.cores.len().max(1);
        let most = share.clamp(1, *FragmentLimits::HELD.end());
        let what = " fragments, a quarter of [workers] mempool over all workers";
        let held = source.number(&self.held, what, &(*FragmentLimits::HELD.start()..=most))?;
        let limits = FragmentLimits::new(
            datagrams.unwrap_or(default.datagrams()),
            held.unwrap_or(default.held().min(most)),
            timeout.unwrap_or(default.timeout()),
        );
        limits.map_err(|error| source.missing("[fragments]", error.to_string()))
    }
}

impl PathMtu {
    pub(super) fn check(&self, source: &Source) -> Result<Duration, FileError> {
        Ok(source.duration(&self.expiry, &(LEAST_EXPIRY..=MOST_EXPIRY))?.unwrap_or(EXPIRY))
    }
}

/// The gateway, or a prefix whose addresses can all be a packet's source.
fn router_source(text: &str) -> Option<RouterSource> {
    if text == "gateway" {
        return Some(RouterSource::Gateway);
    }
    let net: Ipv4Net = text.parse().ok()?;
    let [first, ..] = net.network().octets();
    let unicast = (1..224).contains(&first) && first != 127;
    let legal = net.prefix_len() >= 8 && net.network() == net.addr() && unicast;
    legal.then_some(RouterSource::Pool(net))
}
