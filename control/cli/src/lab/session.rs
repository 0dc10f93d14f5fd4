//! Connections and streams between nodes that run while something happens, and tell what it cost them.

use super::netns::Namespace;
use anyhow::{Context, Result, bail, ensure};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A connection without progress for this long counts as broken.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time between two turns of a session; it shows outages of a few milliseconds without taking the processor.
const PACE: Duration = Duration::from_millis(2);

/// One TCP connection between two nodes that carries a number back and forth until it is ended.
#[derive(Debug)]
pub struct EchoSession {
    turns: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    client: JoinHandle<Result<Report>>,
    server: JoinHandle<Result<()>>,
    /// Both ends, to be shut without a word on the way.
    ends: [TcpStream; 2],
}

/// What happened to a session or stream.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Round trips, or datagrams received.
    pub turns: u64,
    /// Datagrams lost; 0 for a connection.
    pub lost: u64,
    /// The longest time between two of them.
    pub longest_gap: Duration,
}

impl EchoSession {
    /// Connects `client` to a server in `server` at `address`.
    ///
    /// # Errors
    /// If they cannot connect within three seconds.
    pub fn start(client: &Namespace, server: &Namespace, address: Ipv4Addr) -> Result<Self> {
        let (mut near, mut far) = connect(client, server, address)?;
        for stream in [&near, &far] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
        }
        let ends = [near.try_clone()?, far.try_clone()?];
        let (turns, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let server = std::thread::spawn(move || echo(&mut far));
        let client = std::thread::spawn({
            let (turns, stop) = (turns.clone(), stop.clone());
            move || ask(&mut near, &turns, &stop)
        });
        Ok(Self { turns, stop, client, server, ends })
    }

    /// Round trips so far.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Waits until `more` further round trips have been made.
    ///
    /// # Errors
    /// If the connection breaks, or at the deadline.
    pub fn advance(&self, more: u64, deadline: Duration) -> Result<()> {
        let goal = self.turns() + more;
        super::wait::until("the connection to go on", deadline, || {
            ensure!(!self.client.is_finished(), "the connection broke");
            Ok((self.turns() >= goal).then_some(()))
        })
    }

    /// Ends a session that is cut, at both ends at once: neither has to hear of it from the other.
    pub fn abandon(self) {
        self.stop.store(true, Ordering::Relaxed);
        for end in &self.ends {
            // It may have broken already.
            let _ = end.shutdown(Shutdown::Both);
        }
        let _ = (self.client.join(), self.server.join());
    }

    /// Ends the session.
    ///
    /// # Errors
    /// If the connection had broken, or a number came back changed.
    pub fn finish(self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        let report = join(self.client)?;
        join(self.server)?;
        Ok(report)
    }
}

fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// A connection between two namespaces: the client's end and the server's.
///
/// # Errors
/// If it does not come about within three seconds.
pub fn connect(client: &Namespace, server: &Namespace, address: Ipv4Addr) -> Result<(TcpStream, TcpStream)> {
    let listener = server.enter(|| Ok(TcpListener::bind((address, 0))?))?;
    let to = listener.local_addr()?;
    let near = client.enter(|| {
        TcpStream::connect_timeout(&to, Duration::from_secs(3)).with_context(|| format!("connecting to {to}"))
    })?;
    let (far, _) = listener.accept()?;
    Ok((near, far))
}

fn echo(stream: &mut TcpStream) -> Result<()> {
    let mut number = [0; 8];
    loop {
        match stream.read_exact(&mut number) {
            Ok(()) => stream.write_all(&number).context("answering")?,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error).context("the server's end of the connection"),
        }
    }
}

fn ask(stream: &mut TcpStream, turns: &AtomicU64, stop: &AtomicBool) -> Result<Report> {
    let mut report = Report { turns: 0, lost: 0, longest_gap: Duration::ZERO };
    while !stop.load(Ordering::Relaxed) {
        let (sent, asked) = (report.turns.to_be_bytes(), Instant::now());
        let mut answer = [0; 8];
        stream.write_all(&sent).context("the client's end of the connection")?;
        stream.read_exact(&mut answer).context("the client's end of the connection")?;
        ensure!(answer == sent, "{sent:x?} came back as {answer:x?}");
        report.longest_gap = report.longest_gap.max(asked.elapsed());
        report.turns += 1;
        turns.store(report.turns, Ordering::Relaxed);
        std::thread::sleep(PACE);
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(report)
}

/// Numbered datagrams from one node to another, one every two milliseconds.
#[derive(Debug)]
pub struct DatagramStream {
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<u64>>,
    receiver: JoinHandle<Result<Report>>,
}

impl DatagramStream {
    /// Sends from `from` to a socket in `to` at `address`.
    ///
    /// # Errors
    /// If the sockets cannot be made.
    pub fn start(from: &Namespace, to: &Namespace, address: Ipv4Addr) -> Result<Self> {
        let inbound = to.enter(|| Ok(UdpSocket::bind((address, 0))?))?;
        let target = inbound.local_addr()?;
        let outbound = from.enter(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(target)?;
            Ok(socket)
        })?;
        inbound.set_read_timeout(Some(Duration::from_millis(50)))?;
        let (received, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let sender = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let mut number = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    // A refusal that a lost answer left behind is reported here; the next send clears it.
                    let _ = outbound.send(&number.to_be_bytes());
                    number += 1;
                    std::thread::sleep(PACE);
                }
                Ok(number)
            }
        });
        let receiver = std::thread::spawn({
            let (received, stop) = (received.clone(), stop.clone());
            move || count(&inbound, &received, &stop)
        });
        Ok(Self { received, stop, sender, receiver })
    }

    /// Waits until `more` further datagrams have arrived.
    ///
    /// # Errors
    /// At the deadline.
    pub fn advance(&self, more: u64, deadline: Duration) -> Result<()> {
        let goal = self.received.load(Ordering::Relaxed) + more;
        super::wait::until("datagrams to arrive", deadline, || {
            Ok((self.received.load(Ordering::Relaxed) >= goal).then_some(()))
        })
    }

    /// Ends the stream. The last datagrams, still under way, may count as lost.
    ///
    /// # Errors
    /// If a socket failed.
    pub fn finish(self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = join(self.sender)?;
        let mut report = join(self.receiver)?;
        report.lost = sent.saturating_sub(report.turns);
        Ok(report)
    }
}

fn count(socket: &UdpSocket, received: &AtomicU64, stop: &AtomicBool) -> Result<Report> {
    let mut report = Report { turns: 0, lost: 0, longest_gap: Duration::ZERO };
    let mut last = None::<Instant>;
    let mut bytes = [0; 64];
    loop {
        match socket.recv(&mut bytes) {
            Ok(_) => {
                let now = Instant::now();
                let gap = last.map_or(Duration::ZERO, |last| now - last);
                report.longest_gap = report.longest_gap.max(gap);
                last = Some(now);
                report.turns += 1;
                received.store(report.turns, Ordering::Relaxed);
            }
            // Nothing for a while: only now may the stream end, so that what was under way is counted.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if stop.load(Ordering::Relaxed) {
                    return Ok(report);
                }
            }
            Err(error) => return Err(error).context("the receiver of the datagrams"),
        }
    }
}

/// Sends `bytes` bytes of a pattern each way at once over one connection and compares every byte.
///
/// # Errors
/// If the connection fails, or a byte differs: its place is told.
pub fn transfer(client: &Namespace, server: &Namespace, address: Ipv4Addr, bytes: usize) -> Result<Duration> {
    let (near, far) = connect(client, server, address)?;
    exchange(&near, &far, [bytes, bytes])
}

/// Sends bytes of a pattern over a connection, as many as told there and back, both at once, and compares every byte.
///
/// # Errors
/// If the connection fails, or a byte differs: its place is told.
pub fn exchange(near: &TcpStream, far: &TcpStream, [there, back]: [usize; 2]) -> Result<Duration> {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let threads = [
            scope.spawn(|| send_pattern(near, 1, there)),
            scope.spawn(|| send_pattern(far, 2, back)),
            scope.spawn(|| check_pattern(far, 1, there)),
            scope.spawn(|| check_pattern(near, 2, back)),
        ];
        for thread in threads {
            match thread.join() {
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(began.elapsed())
    })
}

/// Fills `block` with what the pattern `seed` has from byte `offset` on; `offset` is a multiple of 8.
pub(super) fn pattern(seed: u64, offset: usize, block: &mut [u8]) {
    let mut number = (offset as u64 / 8).wrapping_add(seed << 56);
    let (words, rest) = block.as_chunks_mut();
    for place in words {
        *place = word(number);
        number = number.wrapping_add(1);
    }
    for (byte, value) in rest.iter_mut().zip(word(number)) {
        *byte = value;
    }
}

/// splitmix64's finaliser: neighbouring words share nothing, so that swapped segments are noticed.
fn word(number: u64) -> [u8; 8] {
    let mut word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (word ^ (word >> 27)).to_le_bytes()
}

const BLOCK: usize = 64 << 10;

fn send_pattern(mut stream: &TcpStream, seed: u64, bytes: usize) -> Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut block = vec![0; BLOCK];
    for offset in (0..bytes).step_by(BLOCK) {
        let part = block.get_mut(..BLOCK.min(bytes - offset)).unwrap_or_default();
        pattern(seed, offset, part);
        stream.write_all(part).with_context(|| format!("sending at byte {offset}"))?;
    }
    Ok(())
}

fn check_pattern(mut stream: &TcpStream, seed: u64, bytes: usize) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut block, mut expected) = (vec![0; BLOCK], vec![0; BLOCK]);
    for offset in (0..bytes).step_by(BLOCK) {
        let length = BLOCK.min(bytes - offset);
        let part = block.get_mut(..length).unwrap_or_default();
        let wanted = expected.get_mut(..length).unwrap_or_default();
        pattern(seed, offset, wanted);
        stream.read_exact(part).with_context(|| format!("receiving at byte {offset}"))?;
        // All at once first: byte by byte takes longer than the packets do.
        if part != wanted {
            let at = part.iter().zip(wanted.iter()).position(|(got, want)| got != want);
            bail!("byte {} of {bytes} arrived changed", offset + at.unwrap_or_default());
        }
    }
    Ok(())
}

/// Whether nobody at `to` answers a TCP connection from `from`: neither accepts it nor refuses it.
///
/// # Errors
/// If the namespace does not exist.
pub fn is_silent(from: &Namespace, to: SocketAddr, patience: Duration) -> Result<bool> {
    from.enter(|| match TcpStream::connect_timeout(&to, patience) {
        Ok(_) => Ok(false),
        Err(error) => Ok(matches!(
            error.kind(),
            ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the receiver says of the first bytes of a pattern in which `change` was made.
    fn received(bytes: usize, change: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut near = TcpStream::connect(listener.local_addr()?)?;
        let (far, _) = listener.accept()?;
        let mut sent = vec![0; bytes];
        pattern(1, 0, &mut sent);
        change(&mut sent);
        near.write_all(&sent)?;
        drop(near);
        check_pattern(&far, 1, bytes)
    }

    #[test]
    fn one_changed_byte_is_found_and_named() {
        const BYTES: usize = BLOCK + 1001;
        received(BYTES, |_| {}).unwrap();
        for at in [0, 7, BLOCK, BYTES - 1] {
            let error = received(BYTES, |sent| sent[at] ^= 0x10).unwrap_err();
            assert_eq!(error.to_string(), format!("byte {at} of {BYTES} arrived changed"));
        }
        // Two segments that changed places, and one that is missing.
        assert!(received(BYTES, |sent| sent.rotate_left(1428)).is_err());
        assert!(received(BYTES, |sent| sent.truncate(BYTES - 1)).is_err());
    }
}
