//! Datagrams of every size between two nodes, each looked at byte by byte.

use super::netns::Namespace;
use super::session::pattern;
use anyhow::{Context, Result, ensure};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::UdpGsoSegment;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// The largest payload of a UDP datagram over IPv4: what is left of 65,535 bytes by both headers.
pub const LARGEST: usize = 65_535 - 20 - 8;
/// How long a datagram may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The simple Internet mix: in every twelve packets seven of 40 bytes, four of 576 and one full one. These are the
/// sizes of the IPv4 packets but for the last, which is as long as the nodes' MTU.
const MIX: [Option<usize>; 12] = {
    let (small, middle, full) = (Some(40), Some(576), None);
    [small, middle, small, small, middle, small, full, small, middle, small, middle, small]
};
/// Mixes under way at a time: what a socket's default buffer holds, whatever the kernel counts for a packet.
const MIXES_UNDER_WAY: usize = 4;

/// Whether a node's kernel lets others on the way cut its packets up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragmenting {
    /// DF is set: the path's MTU is discovered, as kernels do by default. What is larger is cut up by the sender.
    Discover,
    /// DF is not set.
    Allow,
}

/// Two nodes' sockets, connected to each other.
#[derive(Debug)]
pub struct DatagramPair {
    near: UdpSocket,
    far: UdpSocket,
}

impl DatagramPair {
    /// Opens both sockets.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn open(
        near: (&Namespace, Ipv4Addr),
        far: (&Namespace, Ipv4Addr),
        fragmenting: Fragmenting,
    ) -> Result<Self> {
        let (near, far) = (bind(near, fragmenting)?, bind(far, fragmenting)?);
        near.connect(far.local_addr()?)?;
        far.connect(near.local_addr()?)?;
        Ok(Self { near, far })
    }

    /// Sends one datagram of `size` bytes there and one back, and compares every byte.
    ///
    /// # Errors
    /// If one does not arrive, or differently.
    pub fn exchange(&self, size: usize) -> Result<()> {
        for (from, to, way) in [(&self.near, &self.far, "there"), (&self.far, &self.near, "back")] {
            let sent = content(size, from.local_addr()?);
            from.send(&sent).with_context(|| format!("sending {size} bytes {way}"))?;
            receive(to, &sent).with_context(|| format!("{size} bytes {way}"))?;
        }
        Ok(())
    }

    /// Gives the kernel `size` bytes at once that it is to make datagrams of `segment` bytes of, there and then back; each
    /// has to arrive for itself, in order and as it was given. So QUIC sends, among others.
    ///
    /// # Errors
    /// If one does not arrive, or differently.
    pub fn exchange_at_once(&self, size: usize, segment: usize) -> Result<()> {
        for (from, to, way) in [(&self.near, &self.far, "there"), (&self.far, &self.near, "back")] {
            let sent = content(size, from.local_addr()?);
            setsockopt(from, UdpGsoSegment, &i32::try_from(segment)?).context("have datagrams made")?;
            let outcome = from.send(&sent);
            setsockopt(from, UdpGsoSegment, &0)?;
            outcome.with_context(|| format!("sending {size} bytes {way}"))?;
            for (index, part) in sent.chunks(segment).enumerate() {
                receive(to, part).with_context(|| format!("datagram {index} of {size} bytes {way}"))?;
            }
        }
        Ok(())
    }

    /// Sends one datagram of `size` bytes there, and says whether it arrived within `patience`.
    ///
    /// # Errors
    /// If it arrives differently, or a socket fails.
    pub fn arrives(&self, size: usize, patience: Duration) -> Result<bool> {
        let sent = content(size, self.near.local_addr()?);
        // What an ICMP error told the socket since the last one is reported here, and nothing is sent then.
        if self.near.send(&sent).is_err() {
            self.near.send(&sent)?;
        }
        self.far.set_read_timeout(Some(patience))?;
        let mut buffer = vec![0; LARGEST + 1];
        let arrived = self.far.recv(&mut buffer);
        self.far.set_read_timeout(Some(PATIENCE))?;
        let Ok(length) = arrived else { return Ok(false) };
        ensure!(buffer.get(..length) == Some(&*sent), "{size} bytes arrived changed, as {length}");
        Ok(true)
    }

    /// Sends `mixes` times twelve packets of the simple Internet mix each way at once; every one has to arrive, in order and
    /// as it was sent. No more are under way than a socket's buffer holds.
    ///
    /// # Errors
    /// The first that does not.
    pub fn mix(&self, mixes: usize, mtu: usize) -> Result<()> {
        // A kernel keeps packets back until it knows the neighbour, and sends those that come meanwhile before them.
        self.exchange(1)?;
        std::thread::scope(|scope| {
            let there = scope.spawn(|| one_way(&self.near, &self.far, mixes, mtu));
            let back = scope.spawn(|| one_way(&self.far, &self.near, mixes, mtu));
            for (thread, way) in [(there, "there"), (back, "back")] {
                match thread.join() {
                    Ok(outcome) => outcome.context(way)?,
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok(())
        })
    }
}

fn bind((namespace, address): (&Namespace, Ipv4Addr), fragmenting: Fragmenting) -> Result<UdpSocket> {
    // A socket takes its own setting from the namespace's when it is made. 2: without DF, and deaf to what routers say
    // of MTUs (Documentation/networking/ip-sysctl.rst of Linux).
    const SETTING: &str = "ipv4/ip_no_pmtu_disc";
    let before = namespace.read_sysctl(SETTING)?;
    let wanted = match fragmenting {
        Fragmenting::Discover => "0",
        Fragmenting::Allow => "2",
    };
    namespace.sysctl(&[(SETTING, wanted)])?;
    let socket = namespace.enter(|| Ok(UdpSocket::bind((address, 0))?));
    namespace.sysctl(&[(SETTING, &before)])?;
    let socket = socket?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// What a datagram of this size from this sender holds: nothing else looks like it.
fn content(size: usize, from: SocketAddr) -> Vec<u8> {
    let mut bytes = vec![0; size];
    pattern(u64::from(from.port()), size << 8, &mut bytes);
    bytes
}

fn receive(socket: &UdpSocket, expected: &[u8]) -> Result<()> {
    let mut buffer = vec![0; LARGEST + 1];
    let length = socket.recv(&mut buffer).context("nothing arrived")?;
    let received = buffer.get(..length).unwrap_or_default();
    ensure!(received.len() == expected.len(), "{length} bytes arrived");
    let differs = received.iter().zip(expected).position(|(got, sent)| got != sent);
    ensure!(differs.is_none(), "byte {} arrived changed", differs.unwrap_or_default());
    Ok(())
}

fn one_way(from: &UdpSocket, to: &UdpSocket, mixes: usize, mtu: usize) -> Result<()> {
    let mut number = 0u64;
    for _ in 0..mixes.div_ceil(MIXES_UNDER_WAY) {
        let mut under_way = Vec::new();
        for packet in MIX.iter().cycle().take(MIX.len() * MIXES_UNDER_WAY) {
            let size = packet.unwrap_or(mtu) - 28;
            let mut bytes = content(size, from.local_addr()?);
            for (byte, value) in bytes.iter_mut().zip(number.to_be_bytes()) {
                *byte = value;
            }
            from.send(&bytes).with_context(|| format!("sending packet {number}"))?;
            under_way.push(bytes);
            number += 1;
        }
        for (index, bytes) in under_way.iter().enumerate() {
            receive(to, bytes).with_context(|| {
                let first = number as usize - under_way.len();
                format!("packet {} with {} bytes of payload", first + index, bytes.len())
            })?;
        }
    }
    Ok(())
}
