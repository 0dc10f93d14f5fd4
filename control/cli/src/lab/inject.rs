//! Raw frames, sent and seen on any device of the lab: what an attacker has, and what a node really receives.

use super::netns::Namespace;
use super::plan::Node;
use anyhow::{Context, Result, ensure};
use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use overlane_dataplane::mac::MacAddr;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Room for some thousands of frames that nobody has looked at yet, in bytes.
const RECEIVE_BUFFER: usize = 8 << 20;

/// How the kernel marks a frame that this machine sends (linux/if_packet.h).
const PACKET_OUTGOING: u8 = 4;

/// A packet socket on one device.
#[derive(Debug)]
pub struct RawPort {
    socket: OwnedFd,
    mac: MacAddr,
}

impl RawPort {
    /// Opens `device` of `namespace`.
    ///
    /// # Errors
    /// If there is no such device, or the kernel refuses.
    pub fn open(namespace: &Namespace, device: &str) -> Result<Self> {
        namespace.enter(|| {
            let address = link_address(device).with_context(|| format!("device {device}"))?;
            let socket =
                socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
            bind(socket.as_raw_fd(), &address)?;
            setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(20))?;
            // What is looked at later has to fit in until then.
            setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
            Ok(Self { socket, mac: MacAddr(address.addr().unwrap_or_default()) })
        })
    }

    /// The device's own hardware address.
    #[must_use]
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Sends one frame, from the Ethernet header on; the kernel pads it to 14 bytes.
    ///
    /// # Errors
    /// If the kernel does not take it.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = send(self.socket.as_raw_fd(), frame, MsgFlags::empty())
            .with_context(|| format!("sending a frame of {} bytes", frame.len()))?;
        ensure!(sent == frame.len(), "only {sent} of {} bytes were sent", frame.len());
        Ok(())
    }

    /// The first frame, sent or received on the device from now on, that `wanted` takes; `None` at the deadline.
    ///
    /// # Errors
    /// If the device is gone.
    pub fn receive(&self, deadline: Duration, wanted: impl Fn(&[u8]) -> bool) -> Result<Option<Vec<u8>>> {
        self.first(deadline, |frame, _| wanted(frame))
    }

    /// The same of what comes in by the device alone: what this machine sends by it is not looked at.
    ///
    /// # Errors
    /// If the device is gone.
    pub fn arrived(&self, deadline: Duration, wanted: impl Fn(&[u8]) -> bool) -> Result<Option<Vec<u8>>> {
        self.first(deadline, |frame, is_sent| !is_sent && wanted(frame))
    }

    /// The first frame that `wanted` takes, which is told as well whether it is one that was sent.
    fn first(&self, deadline: Duration, wanted: impl Fn(&[u8], bool) -> bool) -> Result<Option<Vec<u8>>> {
        let end = Instant::now() + deadline;
        let mut buffer = vec![0; 1 << 16];
        while Instant::now() < end {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, from)) => {
                    let frame = buffer.get(..length).unwrap_or_default();
                    let is_sent = from.is_some_and(|from| from.pkttype() == PACKET_OUTGOING);
                    if wanted(frame, is_sent) {
                        return Ok(Some(frame.to_vec()));
                    }
                }
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error).context("receiving a frame"),
            }
        }
        Ok(None)
    }
}

/// The link-level address of a device, as the kernel lists it.
fn link_address(device: &str) -> Result<LinkAddr> {
    let mut all = nix::ifaddrs::getifaddrs()?;
    let found = all.find_map(|entry| {
        let address = entry.address?;
        (entry.interface_name == device).then(|| address.as_link_addr().copied()).flatten()
    });
    found.context("no such device")
}

/// A UDP datagram over IPv4 in an Ethernet frame.
///
/// # Errors
/// If the payload is too long.
pub fn udp4(macs: Macs, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(macs.source.0, macs.destination.0)
        .ipv4(from.octets(), to.octets(), 64)
        .udp(4000, 4000);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, payload)?;
    Ok(frame)
}

/// A UDP datagram over IPv6 in an Ethernet frame.
///
/// # Errors
/// If the payload is too long.
pub fn udp6(macs: Macs, from: Ipv6Addr, to: Ipv6Addr, payload: &[u8]) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(macs.source.0, macs.destination.0)
        .ipv6(from.octets(), to.octets(), 64)
        .udp(4000, 4000);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, payload)?;
    Ok(frame)
}

/// A TCP segment over IPv4 in an Ethernet frame.
///
/// # Errors
/// If the payload is too long.
pub fn tcp4(macs: Macs, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(macs.source.0, macs.destination.0)
        .ipv4(from.octets(), to.octets(), 64)
        .tcp(4000, 4000, 1, 1024);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, payload)?;
    Ok(frame)
}

/// An ICMP echo request in an Ethernet frame.
///
/// # Errors
/// Never in practice: the lengths are fixed.
pub fn ping4(macs: Macs, from: Ipv4Addr, to: Ipv4Addr) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(macs.source.0, macs.destination.0)
        .ipv4(from.octets(), to.octets(), 64)
        .icmpv4_echo_request(7, 1);
    let mut frame = Vec::with_capacity(builder.size(8));
    builder.write(&mut frame, b"overlane")?;
    Ok(frame)
}

/// An ARP packet in an Ethernet frame.
///
/// # Errors
/// Never in practice: the lengths are fixed.
pub fn arp(
    macs: Macs,
    operation: ArpOperation,
    sender: (MacAddr, Ipv4Addr),
    target: (MacAddr, Ipv4Addr),
) -> Result<Vec<u8>> {
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &sender.0.0,
        &sender.1.octets(),
        &target.0.0,
        &target.1.octets(),
    )?;
    let builder = PacketBuilder::ethernet2(macs.source.0, macs.destination.0).arp(packet);
    let mut frame = Vec::with_capacity(builder.size());
    builder.write(&mut frame)?;
    Ok(frame)
}

/// The hardware addresses of a frame.
#[derive(Debug, Clone, Copy)]
pub struct Macs {
    /// Who sends it.
    pub source: MacAddr,
    /// Whom it is for.
    pub destination: MacAddr,
}

impl Macs {
    /// From one node of a network to another, as the sender's kernel would address it.
    ///
    /// # Errors
    /// If the plan holds an illegal address.
    pub fn between(from: &Node, to: &Node) -> Result<Self> {
        Ok(Self { source: from.mac()?, destination: to.dummy_mac()? })
    }
}
