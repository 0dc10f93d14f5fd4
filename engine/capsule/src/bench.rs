//! Forwarding between vdevs that cost next to nothing, and what it costs.

use crate::driver::{self, Limits};
use crate::pcap;
use crate::report::Report;
use crate::site::Site;
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use overlane_dataplane::address::{HostPrefix, Layout, Locator};
use overlane_dataplane::id::{Slot, VnetId};
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::wire::{ethernet, ipv4, ipv6, protocol, udp};
use serde::Serialize;
use std::fmt::Write;

/// What is measured.
#[derive(Debug, Clone, Args)]
pub struct Bench {
    /// Which way packets are translated
    #[arg(long, value_enum, default_value_t = Direction::FourToSix)]
    pub direction: Direction,
    /// Bytes of each frame as it comes in, with the frame check sequence (from the substrate at least 66)
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u16).range(64..=1_500))]
    pub size: u16,
    /// Addresses elsewhere, and frames in the capture, one for each
    #[arg(long, value_name = "N", default_value_t = 1_024, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub flows: u16,
    /// How many seconds to measure, 0.1 to 86400
    #[arg(long, value_name = "N", default_value = "5", value_parser = seconds)]
    pub seconds: Duration,
    /// The core to measure on; another must be left for capsule's main thread
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub core: usize,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
pub enum Direction {
    /// From a node to the substrate
    #[value(name = "4to6")]
    #[serde(rename = "4to6")]
    FourToSix,
    /// From the substrate to a node, the source verified
    #[value(name = "6to4")]
    #[serde(rename = "6to4")]
    SixToFour,
}

/// A bench's result.
#[derive(Debug, Serialize)]
pub struct Measured {
    driver: &'static str,
    direction: Direction,
    size: u16,
    flows: u16,
    #[serde(flatten)]
    report: Report,
}

const LAYOUT: Layout = Layout::Slot64;
const PREFIX: &str = "fd00:0:0:a::/64";
const UPLINK: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);
const NODE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 1);
const VNET: u32 = 7;
/// Frames are counted with it, and come without it.
const CHECK_SEQUENCE: usize = 4;

/// Reads a number of seconds.
///
/// # Errors
/// What it must be.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "must be 0.1 to 86400".to_owned())
}

/// Where the n-th address elsewhere is: 64 on a host.
fn elsewhere(index: u16) -> Result<(HostPrefix, Slot, Ipv4Addr)> {
    let network = 0xfd00_0000_0001_0000_u128 + u128::from(index / 64);
    let prefix = HostPrefix::new(LAYOUT, Ipv6Addr::from_bits(network << 64))?;
    Ok((prefix, Slot::new((index % 64) as u8)?, Ipv4Addr::from_bits(0x0a00_0000 + u32::from(index))))
}

/// Measures.
///
/// # Errors
/// As [`driver::run`]; and when a packet was dropped, since then it is not forwarding that was measured.
pub fn run(bench: &Bench) -> Result<Measured> {
    let directory = tempfile::tempdir().context("no place for the capture")?;
    let capture = directory.path().join("in.pcap");
    let frames = (0..bench.flows).map(|index| frame(bench, index)).collect::<Result<Vec<_>>>()?;
    pcap::write(&capture, &frames)?;

    let from = format!("rx_pcap={},infinite_rx=1", capture.display());
    let (pcap, null) = (("net_pcap0", from.as_str()), ("net_null0", "no-rx=1"));
    let (node, uplink) = match bench.direction {
        Direction::FourToSix => (pcap, null),
        Direction::SixToFour => (null, pcap),
    };
    let site: Site = site(bench, node, uplink)?.parse()?;
    let limits = Limits { time: Some(bench.seconds), ..Limits::default() };
    let report = driver::run(&site, limits)?;
    let sent: u64 = report.ports.iter().map(|port| port.sent).sum();
    ensure!(
        report.packets > 0 && sent == report.packets,
        "{sent} of {} packets were forwarded: {:?}",
        report.packets,
        report.ports
    );
    Ok(Measured {
        driver: "capsule",
        direction: bench.direction,
        size: bench.size,
        flows: bench.flows,
        report,
    })
}

fn site(bench: &Bench, node: (&str, &str), uplink: (&str, &str)) -> Result<String> {
    let mut site = format!(
        r#"
        prefix = "{PREFIX}"
        cores = [{}]
        [uplink]
        device = "{}"
        arguments = "{}"
        mac = "{UPLINK}"
        next_hop = "{ROUTER}"
        [[network]]
        id = "bench"
        vnet = {VNET}
        subnets = [{{ cidr = "10.0.0.0/8" }}]
        [[interface]]
        id = "node"
        network = "bench"
        slot = 0
        mac = "{NODE}"
        addresses = ["{ADDRESS}"]
        device = "{}"
        arguments = "{}"
        "#,
        bench.core, uplink.0, uplink.1, node.0, node.1,
    );
    for index in 0..bench.flows {
        let (prefix, slot, address) = elsewhere(index)?;
        writeln!(
            site,
            "[[mapping]]\nnetwork = \"bench\"\naddress = \"{address}\"\nprefix = \"{prefix}\"\nslot = {slot}"
        )?;
    }
    Ok(site)
}

/// The frame of a flow: UDP, with the checksum left wrong, which stays so on the way.
fn frame(bench: &Bench, index: u16) -> Result<Vec<u8>> {
    let vnet = VnetId::new(VNET)?;
    let (prefix, slot, other) = elsewhere(index)?;
    let length = usize::from(bench.size) - CHECK_SEQUENCE;
    let mut bytes = Vec::with_capacity(length);
    match bench.direction {
        Direction::FourToSix => {
            let mut header = [0; ethernet::LENGTH];
            ethernet::emit(&mut header, MacAddr::dummy(vnet, other), NODE, ethernet::ethertype::IPV4);
            bytes.extend(header);
            let mut header = [0; ipv4::LENGTH];
            let fields = ipv4::Fields {
                tos: 0,
                total_length: u16::try_from(length - ethernet::LENGTH)?,
                identification: 0,
                dont_fragment: true,
                more_fragments: false,
                fragment_offset: 0,
                ttl: 64,
                protocol: protocol::UDP,
                source: ADDRESS,
                destination: other,
            };
            fields.emit(&mut header);
            bytes.extend(header);
        }
        Direction::SixToFour => {
            let own = Locator::new(LAYOUT, HostPrefix::parse(LAYOUT, PREFIX)?, Slot::ZERO, vnet)?;
            let mut header = [0; ethernet::LENGTH];
            ethernet::emit(&mut header, UPLINK, ROUTER, ethernet::ethertype::IPV6);
            bytes.extend(header);
            let mut header = [0; ipv6::LENGTH];
            // As large as the frame has room for; 64 bytes have none for a datagram, so those are a bit larger.
            let room = (length - ethernet::LENGTH).saturating_sub(ipv6::LENGTH).max(udp::LENGTH);
            let fields = ipv6::Fields {
                traffic_class: 0,
                payload_length: u16::try_from(room)?,
                next_header: protocol::UDP,
                hop_limit: 60,
                source: Locator::new(LAYOUT, prefix, slot, vnet)?.address(other),
                destination: own.address(ADDRESS),
            };
            fields.emit(&mut header);
            bytes.extend(header);
        }
    }
    let datagram = length.saturating_sub(bytes.len()).max(udp::LENGTH);
    for word in [40_000, 9, u16::try_from(datagram)?, 0x1234] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.resize(bytes.len() + datagram - udp::LENGTH, 0);
    Ok(bytes)
}
