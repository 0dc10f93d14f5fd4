//! Malformed frames of every kind, into a node's port and into the uplink: counted, and nothing else happens.

use crate::fixture::Case;
use anyhow::{Context, Result, ensure};
use etherparse::{ArpOperation, Ipv4Header};
use overlane_cli::lab::attack::substrate_port;
use overlane_cli::lab::engine;
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::inject::{Macs, RawPort, arp, tcp4, udp4, udp6};
use overlane_cli::lab::metrics::Metrics;
use overlane_cli::lab::plan::{NODE_DEVICE, Node};
use overlane_cli::lab::probe::ping;
use overlane_cli::lab::process::start_time;
use overlane_cli::lab::wait;
use overlane_dataplane::mac::MacAddr;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    Case::Shared("frames_cut_at_every_byte_into_a_node_port_are_counted_drops", cut_from_node),
    Case::Shared("wrong_lengths_and_garbage_into_a_node_port_are_counted_drops", wrong_from_node),
    Case::Shared("frames_cut_at_every_byte_into_the_uplink_are_counted_drops", cut_from_substrate),
    Case::Shared("wrong_lengths_and_garbage_into_the_uplink_are_counted_drops", wrong_from_substrate),
];

const ETHERNET: usize = 14;

/// Sends all frames and requires that each is counted as dropped, that the engine is the same process as before and
/// forwards, and that every packet buffer is back in the mempool.
fn all_dropped(lab: &Lab, host: &str, noise: &[&str], port: &RawPort, frames: &[Vec<u8>]) -> Result<()> {
    let name = engine::process_name(host);
    let before = engine::scrape(lab, host)?;
    let pid = lab.with_process(&name, |process| Ok(process.pid()))?;
    let started = start_time(pid);
    for (index, frame) in frames.iter().enumerate() {
        port.send(frame)?;
        // The engine shares a core with others; its socket's ring holds some hundreds of frames.
        if index % 64 == 63 {
            wait_dropped(lab, host, noise, &before, index as u64 + 1)?;
        }
    }
    let now = wait_dropped(lab, host, noise, &before, frames.len() as u64)?;
    let counted = dropped(&now, &before, noise);
    ensure!(counted == frames.len() as u64, "{counted} drops for {} frames", frames.len());
    ensure!(started.is_some() && start_time(pid) == started, "the engine is not the process that it was");
    for (from, to) in [("acme-1", "acme-2"), ("acme-1", "acme-3")] {
        let result = ping(&lab.namespace(from), lab.node(to)?.ipv4, 2)?;
        ensure!(result.is_complete(), "{from} does not reach {to} afterwards");
    }
    wait_mempool_full(lab, host)
}

fn dropped(now: &Metrics, before: &Metrics, noise: &[&str]) -> u64 {
    let drops = now.drops_since(before);
    drops.iter().filter(|(reason, _)| !noise.contains(&reason.as_str())).map(|(_, count)| count).sum()
}

fn wait_dropped(lab: &Lab, host: &str, noise: &[&str], before: &Metrics, count: u64) -> Result<Metrics> {
    wait::until_ok("the frames to be dropped", Duration::from_secs(5), || {
        let now = engine::scrape(lab, host)?;
        let counted = dropped(&now, before, noise);
        ensure!(counted >= count, "{counted} of {count} counted: {:?}", now.drops_since(before));
        Ok(now)
    })
}

/// Waits until as many packet buffers are free as there are: none leaked.
pub(crate) fn wait_mempool_full(lab: &Lab, host: &str) -> Result<()> {
    wait::until_ok("the mempool to be full", Duration::from_secs(5), || {
        let metrics = engine::scrape(lab, host)?;
        let (size, free) =
            (metrics.sum("overlane_mempool_size", &[]), metrics.sum("overlane_mempool_free", &[]));
        ensure!(size > 0.0, "the engine does not tell the size of its mempool");
        ensure!(size == free, "{free} of {size} buffers are free");
        Ok(())
    })
}

/// Every prefix of a frame that a device sends: from the bare Ethernet header on.
fn cut(frame: &[u8]) -> Vec<Vec<u8>> {
    (ETHERNET..frame.len()).filter_map(|length| Some(frame.get(..length)?.to_vec())).collect()
}

fn node_port(lab: &Lab) -> Result<(RawPort, Node, Node)> {
    let (from, to) = (lab.node("acme-1")?, lab.node("acme-3")?);
    Ok((RawPort::open(&lab.namespace(&from.id), NODE_DEVICE)?, from, to))
}

// What nodes' kernels send by themselves, IPv6 at every link; and what the host's own kernel receives on the shared uplink, as when the
// service acknowledges a report of these very frames.
const NODE_NOISE: &[&str] = &["ethertype_unsupported", "not_our_prefix"];
const UPLINK_NOISE: &[&str] = &["not_our_prefix"];

fn cut_from_node(lab: &Lab) -> Result<()> {
    let (port, from, to) = node_port(lab)?;
    let macs = Macs::between(&from, &to)?;
    let asking = Macs { destination: MacAddr::BROADCAST, ..macs };
    let mut frames = cut(&udp4(macs, from.ipv4, to.ipv4, b"twelve bytes")?);
    frames.extend(cut(&tcp4(macs, from.ipv4, to.ipv4, b"twelve bytes")?));
    frames.extend(cut(&arp(
        asking,
        ArpOperation::REQUEST,
        (from.mac()?, from.ipv4),
        (MacAddr::ZERO, to.ipv4),
    )?));
    all_dropped(lab, &from.host, NODE_NOISE, &port, &frames)
}

fn cut_from_substrate(lab: &Lab) -> Result<()> {
    let plan = lab.plan();
    let (from, to) = (lab.node("acme-3")?, lab.node("acme-1")?);
    let (port, macs) = substrate_port(lab, &to.host)?;
    let frame = udp6(macs, plan.substrate_address(&from)?, plan.substrate_address(&to)?, b"twelve bytes")?;
    all_dropped(lab, &to.host, UPLINK_NOISE, &port, &cut(&frame))
}

/// The frame with some bytes set, counted from the beginning of the IP header.
fn altered(frame: &[u8], changes: &[(usize, u8)]) -> Result<Vec<u8>> {
    let mut frame = frame.to_vec();
    for (offset, value) in changes {
        *frame.get_mut(ETHERNET + offset).context("the frame is shorter")? = *value;
    }
    Ok(frame)
}

/// The same with the IPv4 header's checksum set right again, so that only the change is wrong.
fn altered4(frame: &[u8], changes: &[(usize, u8)]) -> Result<Vec<u8>> {
    let frame = altered(frame, &[changes, &[(10, 0), (11, 0)]].concat())?;
    let words = frame.get(ETHERNET..ETHERNET + 20).context("no header")?.chunks_exact(2);
    let mut sum: u32 = words.map(|w| w.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [high, low] = (!(sum as u16)).to_be_bytes();
    altered(&frame, &[(10, high), (11, low)])
}

/// Pseudo-random bytes, the same on every run (xorshift64).
struct Noise(u64);

impl Noise {
    fn byte(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u8
    }

    fn fill(&mut self, frame: &mut [u8]) {
        frame.iter_mut().for_each(|byte| *byte = self.byte());
    }
}

fn wrong_from_node(lab: &Lab) -> Result<()> {
    let (port, from, to) = node_port(lab)?;
    let macs = Macs::between(&from, &to)?;
    let udp = udp4(macs, from.ipv4, to.ipv4, b"twelve bytes")?;
    let tcp = tcp4(macs, from.ipv4, to.ipv4, b"twelve bytes")?;
    let mut frames = vec![
        altered4(&udp, &[(0, 0x55)])?,
        altered4(&udp, &[(0, 0x65)])?,
        altered4(&udp, &[(0, 0x44)])?,
        altered4(&udp, &[(0, 0x40)])?,
        altered4(&udp, &[(0, 0x4f)])?,
        altered4(&udp, &[(2, 0xff), (3, 0xff)])?,
        altered4(&udp, &[(2, 0), (3, 41)])?,
        altered4(&udp, &[(2, 0), (3, 19)])?,
        altered4(&udp, &[(2, 0), (3, 0)])?,
        altered(&udp, &[(10, 0x12), (11, 0x34)])?,
        // UDP's length: more than there is, less than its header.
        altered4(&udp, &[(24, 0xff), (25, 0xff)])?,
        altered4(&udp, &[(24, 0), (25, 7)])?,
        // TCP's data offset: beyond the segment, within the fixed header.
        altered4(&tcp, &[(32, 0xf0)])?,
        altered4(&tcp, &[(32, 0x40)])?,
        // A TTL that is used up, a protocol that covers addresses (AH).
        altered4(&udp, &[(8, 1)])?,
        altered4(&udp, &[(8, 0)])?,
        altered4(&udp, &[(9, 51)])?,
    ];
    let asking = Macs { destination: MacAddr::BROADCAST, ..macs };
    let request = arp(asking, ArpOperation::REQUEST, (from.mac()?, from.ipv4), (MacAddr::ZERO, to.ipv4))?;
    // Hardware type, protocol type, both lengths, the operation.
    for change in [(1, 6), (2, 0x86), (4, 8), (5, 16), (7, 9)] {
        frames.push(altered(&request, &[change])?);
    }
    ensure!(udp.len() >= ETHERNET + Ipv4Header::MIN_LEN, "a UDP frame of {} bytes", udp.len());
    let mut noise = Noise(0x6f76_6572_6c61_6e65);
    for round in 0..400usize {
        let mut frame = udp.get(..ETHERNET).context("no Ethernet header")?.to_vec();
        frame.resize(ETHERNET + round % 200, 0);
        noise.fill(frame.get_mut(ETHERNET..).unwrap_or_default());
        if round % 4 == 0 {
            // Also the Ethernet header is noise.
            noise.fill(&mut frame);
        }
        frames.push(frame);
    }
    all_dropped(lab, &from.host, NODE_NOISE, &port, &frames)
}

fn wrong_from_substrate(lab: &Lab) -> Result<()> {
    let plan = lab.plan();
    let (from, to) = (lab.node("acme-3")?, lab.node("acme-1")?);
    let (port, macs) = substrate_port(lab, &to.host)?;
    let udp = udp6(macs, plan.substrate_address(&from)?, plan.substrate_address(&to)?, b"twelve bytes")?;
    let mut frames = vec![
        altered(&udp, &[(0, 0x40)])?,
        altered(&udp, &[(0, 0x70)])?,
        // The payload length: more than there is, less than a UDP header.
        altered(&udp, &[(4, 0xff), (5, 0xff)])?,
        altered(&udp, &[(5, 21)])?,
        altered(&udp, &[(5, 7)])?,
        altered(&udp, &[(5, 0)])?,
        // Hop-by-hop options, a routing header and a destination header that are noise, AH.
        altered(&udp, &[(6, 0)])?,
        altered(&udp, &[(6, 43)])?,
        altered(&udp, &[(6, 51)])?,
        altered(&udp, &[(6, 60)])?,
        altered(&udp, &[(7, 1)])?,
        altered(&udp, &[(7, 0)])?,
        // UDP's length.
        altered(&udp, &[(44, 0xff), (45, 0xff)])?,
        altered(&udp, &[(44, 0), (45, 7)])?,
    ];
    let mut noise = Noise(0x6c61_6e65_6f76_6572);
    for round in 0..400usize {
        let mut frame = udp.get(..ETHERNET).context("no Ethernet header")?.to_vec();
        frame.resize(ETHERNET + 1 + round % 200, 0);
        noise.fill(frame.get_mut(ETHERNET..).unwrap_or_default());
        // Any version but 6: what is IPv6 and for others is not this engine's to count as malformed.
        if let Some(version) = frame.get_mut(ETHERNET) {
            *version &= 0x5f;
        }
        frames.push(frame);
    }
    all_dropped(lab, &to.host, UPLINK_NOISE, &port, &frames)
}
