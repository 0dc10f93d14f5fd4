//! Network namespaces, interfaces and the far ends of ports.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// How long an event may take that is certain to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// An EtherType for local experiments: nobody else's frames have it.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

/// A network namespace with IPv6 off, so that its kernel sends nothing of its own. Removed on drop.
pub(crate) struct Namespace(String);

impl Namespace {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = Self(format!("ovl-dpdk-{}-{number}", std::process::id()));
        ip(&format!("netns add {}", namespace.0));
        namespace.enter(|| {
            for which in ["all", "default"] {
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "1").unwrap();
            }
        });
        namespace.ip("link set lo up");
        namespace
    }

    /// A namespace with a veth pair, `near` and `far`, both up.
    pub(crate) fn with_veth() -> Self {
        let namespace = Self::new();
        namespace.ip("link add near type veth peer name far");
        namespace.ip("link set near up");
        namespace.ip("link set far up");
        namespace
    }

    /// `ip` within the namespace.
    pub(crate) fn ip(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.0));
    }

    /// `tc` within the namespace.
    pub(crate) fn tc(&self, arguments: &str) {
        command("tc", &format!("-n {} {arguments}", self.0));
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Runs `body` on a thread of its own in the namespace; a panic in it goes on here.
    pub(crate) fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            let file = File::open(format!("/run/netns/{}", self.0)).unwrap();
            // SAFETY: changes the namespace of this thread only, which ends with the body.
            check(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } as isize).unwrap();
            body()
        };
        let joined = thread::scope(|scope| scope.spawn(inside).join());
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn ip(arguments: &str) {
    command("ip", arguments);
}

fn command(name: &str, arguments: &str) {
    let output = Command::new(name).args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{name} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Waits until the descriptor is readable.
pub(crate) fn wait_readable(fd: RawFd) {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which lives through the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, PATIENCE.as_millis() as i32) };
    assert_eq!(ready, 1, "nothing came in {PATIENCE:?}");
}

/// A plain packet socket on the far end of a veth pair.
pub(crate) struct Peer(OwnedFd);

impl Peer {
    /// Opens the interface in the calling thread's namespace; with `vnet`, each frame has a virtio header before it.
    pub(crate) fn open(interface: &str, vnet: bool) -> Self {
        let index = overlane_dpdk::Interface::by_name(interface).unwrap().index;
        // SAFETY: a new descriptor, ours alone.
        let peer = unsafe {
            let fd =
                libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0);
            check(fd as isize).unwrap();
            Self(OwnedFd::from_raw_fd(fd))
        };
        peer.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, i32::from(vnet));
        // Linux 4.20's PACKET_IGNORE_OUTGOING.
        peer.set(libc::SOL_PACKET, 23, 1);
        // An interface's queueing discipline drops everything until some time after its link has come up.
        peer.set(libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1);
        peer.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 16 << 20);
        // SAFETY: an address of plain integers, which lives through the call.
        unsafe {
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            address.sll_ifindex = index as i32;
            let length = std::mem::size_of_val(&address) as u32;
            check(libc::bind(peer.0.as_raw_fd(), (&raw const address).cast(), length) as isize).unwrap();
        }
        peer
    }

    fn set(&self, level: i32, option: i32, value: i32) {
        // SAFETY: an integer, which lives through the call.
        let result =
            unsafe { libc::setsockopt(self.0.as_raw_fd(), level, option, (&raw const value).cast(), 4) };
        check(result as isize).unwrap();
    }

    /// Sends one frame.
    pub(crate) fn send(&self, frame: &[u8]) {
        // SAFETY: the bytes live through the call.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(check(sent).unwrap(), frame.len());
    }

    /// Sends one frame, which the interface may have no room for.
    pub(crate) fn send_or_lose(&self, frame: &[u8]) {
        // SAFETY: the bytes live through the call.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if let Err(error) = check(sent) {
            assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS), "{error}");
        }
    }

    /// The next frame.
    pub(crate) fn receive(&self) -> Vec<u8> {
        wait_readable(self.0.as_raw_fd());
        let mut frame = vec![0; 1 << 17];
        // SAFETY: the bytes live through the call.
        let read = unsafe { libc::recv(self.0.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
        frame.truncate(check(read).unwrap());
        frame
    }
}

/// A frame of `length` bytes to everybody.
pub(crate) fn frame(length: usize, stamp: u8) -> Vec<u8> {
    let mut frame = vec![stamp; length];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    frame[12..14].copy_from_slice(&ETHERTYPE);
    frame
}

/// A UDP packet over IPv4 and Ethernet, once with its checksum partial, once with it computed.
pub(crate) fn udp_frame(payload: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let udp_length = (8 + payload.len()) as u16;
    let mut frame = frame(14, 0);
    frame.truncate(12);
    frame.extend([8, 0, 0x45, 0]);
    frame.extend((20 + udp_length).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let header = ones_sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&(!header).to_be_bytes());
    let pseudo = [&frame[26..34], &[0, 17], &udp_length.to_be_bytes()].concat();
    let pseudo = ones_sum(&pseudo);
    frame.extend([0x10, 0, 0x20, 0]);
    frame.extend(udp_length.to_be_bytes());
    frame.extend(pseudo.to_be_bytes());
    frame.extend(payload);
    let partial = frame.clone();
    let checksum = !ones_sum(&frame[34..]);
    frame[40..42].copy_from_slice(&checksum.to_be_bytes());
    (partial, frame)
}

fn ones_sum(bytes: &[u8]) -> u16 {
    let sum = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// A TCP segment over IPv4 and Ethernet, its checksum partial.
pub(crate) fn tcp_frame(payload: &[u8]) -> Vec<u8> {
    let (mut frame, _) = udp_frame(&[&[0; 12][..], payload].concat());
    frame[23] = 6;
    frame[24..26].fill(0);
    let header = ones_sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&(!header).to_be_bytes());
    let tcp_length = (20 + payload.len()) as u16;
    let pseudo = ones_sum(&[&frame[26..34], &[0, 6], &tcp_length.to_be_bytes()].concat());
    frame[34..54].fill(0);
    frame[46..50].copy_from_slice(&[0x50, 0x10, 1, 0]);
    frame[50..52].copy_from_slice(&pseudo.to_be_bytes());
    frame
}

/// The same over IPv6.
pub(crate) fn tcp_frame_v6(payload: &[u8]) -> Vec<u8> {
    let mut frame = frame(14, 0);
    frame[12..].copy_from_slice(&[0x86, 0xdd]);
    let tcp_length = (20 + payload.len()) as u16;
    let addresses: Vec<u8> = (0..32).map(|n| 0xa0 + n).collect();
    frame.extend([&[0x60, 0, 0, 0][..], &tcp_length.to_be_bytes(), &[6, 64], &addresses].concat());
    let pseudo = ones_sum(&[&addresses[..], &[0, 6], &tcp_length.to_be_bytes()].concat());
    frame.extend([0x10, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0]);
    frame.extend([&pseudo.to_be_bytes()[..], &[0, 0], payload].concat());
    frame
}

/// Whether the header's and the segment's checksums of a TCP frame are as they should be on a wire.
pub(crate) fn checksums_are_right(frame: &[u8]) -> bool {
    let tcp_length = (frame.len() - 34) as u16;
    let pseudo = [&frame[26..34], &[0, 6], &tcp_length.to_be_bytes(), &frame[34..]].concat();
    ones_sum(&frame[14..34]) == 0xffff && ones_sum(&pseudo) == 0xffff
}
