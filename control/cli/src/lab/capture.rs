//! A capture on the router, and what it shows: plain packets with the virtual addresses inside the substrate's.

use super::plan::{LAYOUT, Plan};
use super::process::{Process, log_path};
use super::wait;
use anyhow::{Context, Result, ensure};
use etherparse::{LaxPacketHeaders, NetHeaders, TransportHeader};
use nix::sys::signal::Signal;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// tcpdump at work on a device of the router.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    /// Starts tcpdump on the router's `device` and waits until it captures.
    ///
    /// # Errors
    /// If tcpdump cannot run, or refuses the filter.
    pub fn start(plan: &Plan, state: &Path, device: &str, filter: &str) -> Result<Self> {
        let file = state.join(format!("{device}.pcap"));
        let log = log_path(state, "tcpdump");
        Process::clear(state, "tcpdump")?;
        let _ = std::fs::remove_file(&log);
        let mut command = plan.router().command("tcpdump");
        // -Z: the file lies where only root may write; -U and immediate mode: packets are in the file as soon as they
        // are captured.
        command
            .args([
                "-i",
                device,
                "-n",
                "-U",
                "--immediate-mode",
                "-s",
                "256",
                "-c",
                "20000",
                "-Z",
                "root",
                "-w",
            ])
            .arg(&file);
        command.arg(format!("ip6 and not icmp6 and ({filter})"));
        let mut process = Process::start(state, "tcpdump", command)?;
        wait::until("tcpdump to listen", Duration::from_secs(5), || {
            let said = std::fs::read_to_string(&log)?;
            ensure!(process.is_running(), "tcpdump ended: {said}");
            Ok(said.contains("listening on").then_some(()))
        })
        .inspect_err(|_| {
            let _ = process.kill();
        })?;
        Ok(Self { process, file })
    }

    /// Ends the capture, once it has at least this many packets.
    ///
    /// # Errors
    /// If so many do not come, tcpdump does not end, or its file is no capture.
    pub fn finish(mut self, at_least: usize) -> Result<Vec<Vec<u8>>> {
        wait::until(&format!("{at_least} captured packets"), Duration::from_secs(5), || {
            Ok((self.read().is_ok_and(|frames| frames.len() >= at_least)).then_some(()))
        })?;
        self.process.signal(Signal::SIGINT)?;
        self.process.wait(Duration::from_secs(5))?;
        self.read()
    }

    fn read(&self) -> Result<Vec<Vec<u8>>> {
        read_pcap(&std::fs::read(&self.file).with_context(|| format!("{:?}", self.file))?)
    }

    /// Where the capture lies.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }
}

/// The frames of a capture in the classic format, written on this machine (its byte order).
fn read_pcap(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    let magic = bytes.first_chunk::<4>().map(|magic| u32::from_ne_bytes(*magic));
    ensure!(matches!(magic, Some(0xa1b2_c3d4 | 0xa1b2_3c4d)), "not a capture file of this machine");
    let mut rest = bytes.get(24..).context("the capture file is cut off")?;
    let mut frames = Vec::new();
    // A record: seconds, fraction, captured length, length on the wire.
    while let Some((header, after)) = rest.split_first_chunk::<16>() {
        let [.., a, b, c, d, _, _, _, _] = *header;
        let length = usize::try_from(u32::from_ne_bytes([a, b, c, d]))?;
        // The last record may be half written.
        let Some(frame) = after.get(..length) else { break };
        frames.push(frame.to_vec());
        rest = after.get(length..).unwrap_or_default();
    }
    Ok(frames)
}

/// A captured packet, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// Where it came from on the substrate.
    pub source: Ipv6Addr,
    /// Where it went on the substrate.
    pub destination: Ipv6Addr,
    /// The transport, directly behind the IPv6 header: its name, ports and flags.
    pub transport: String,
    /// Whether the transport is TCP.
    pub is_tcp: bool,
    /// Bytes of the IPv6 packet.
    pub length: usize,
}

/// Takes a frame apart; `None` if it is no IPv6 packet with TCP or UDP directly behind the fixed header.
#[must_use]
pub fn decode(frame: &[u8]) -> Option<Decoded> {
    // A capture cuts packets off, which the strict reader would refuse.
    let packet = LaxPacketHeaders::from_ethernet(frame).ok()?;
    let Some(NetHeaders::Ipv6(ip, extensions)) = packet.net else { return None };
    if !extensions.is_empty() {
        return None;
    }
    let (transport, is_tcp) = match packet.transport? {
        TransportHeader::Tcp(tcp) => {
            let flags =
                [(tcp.syn, "SYN"), (tcp.fin, "FIN"), (tcp.rst, "RST"), (tcp.psh, "PSH"), (tcp.ack, "ACK")];
            let flags: Vec<&str> = flags.into_iter().filter_map(|(set, name)| set.then_some(name)).collect();
            (format!("TCP {} > {} {}", tcp.source_port, tcp.destination_port, flags.join("+")), true)
        }
        TransportHeader::Udp(udp) => (format!("UDP {} > {}", udp.source_port, udp.destination_port), false),
        _ => return None,
    };
    Some(Decoded {
        source: Ipv6Addr::from(ip.source),
        destination: Ipv6Addr::from(ip.destination),
        transport,
        is_tcp,
        length: usize::from(ip.payload_length) + 40,
    })
}

impl Decoded {
    /// One line for people: the virtual addresses, whose they are, and the substrate addresses that hold them.
    #[must_use]
    pub fn describe(&self, plan: &Plan) -> String {
        format!(
            "{} > {}  {}  {} bytes of IPv6\n    {} > {}",
            virtual_name(plan, self.source),
            virtual_name(plan, self.destination),
            self.transport,
            self.length,
            self.source,
            self.destination
        )
    }
}

/// The virtual address inside a substrate address, and the network it belongs to.
#[must_use]
pub fn virtual_name(plan: &Plan, address: Ipv6Addr) -> String {
    match LAYOUT.decode(address) {
        Ok(fields) => {
            let network = plan.networks.iter().find(|network| network.vnet == fields.vnet.get());
            let network =
                network.map_or_else(|| format!("vnet {}", fields.vnet), |network| network.id.clone());
            format!("{network} {} (slot {})", fields.ipv4, fields.slot)
        }
        Err(error) => format!("{address} ({error})"),
    }
}
