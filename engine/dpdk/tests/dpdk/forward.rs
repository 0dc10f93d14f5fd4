//! Two kernels and, between them, two ports with a worker that carries frames from one to the other.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use arrayvec::ArrayVec;
use overlane_dataplane::packet::{Checksum, Packet, SegmentationKind};
use overlane_dpdk::{BURST, Mbuf, Mempool, WorkerThread};

use crate::net::{Namespace, PATIENCE};
use crate::{Bench, mbuf};

const BYTES: usize = 16 << 20;

/// A port with one queue of either kind.
pub(crate) trait Queues: Send {
    fn receive(&mut self, pool: &Mempool, burst: &mut ArrayVec<Mbuf, BURST>) -> usize;
    fn send(&mut self, burst: &mut ArrayVec<Mbuf, BURST>) -> usize;
    fn close(self);
}

/// What went one way.
#[derive(Debug, Default)]
struct Seen {
    to_be_cut: usize,
    partial: usize,
    longest: usize,
    lost: usize,
}

/// TCP goes both ways at once, with the segments of up to 64 KiB and the partial checksums that the kernels make of
/// their own accord, and every byte arrives. `open` is called in the namespace in the middle: it opens a port of that
/// name, whose other end is `eth0` in the one at the side.
pub(crate) fn run<Q: Queues>(bench: &Bench, open: impl Fn(&Namespace, &Namespace, &str) -> Q + Sync) {
    let pool = bench.pool(16_384);
    let (left, middle, right) = (Namespace::new(), Namespace::new(), Namespace::new());
    let [near, far] =
        [(&left, "left", "10.9.0.1"), (&right, "right", "10.9.0.2")].map(|(side, name, address)| {
            let queues = middle.enter(|| open(&middle, side, name));
            side.ip(&format!("address add {address}/24 dev eth0"));
            side.ip("link set eth0 up");
            queues
        });
    let stop = AtomicBool::new(false);
    let [leftwards, rightwards] = thread::scope(|scope| {
        let (eal, pool, middle, stop) = (&bench.eal, &pool, &middle, &stop);
        let worker = scope.spawn(move || {
            middle.enter(|| {
                let _worker = WorkerThread::register(eal, None).unwrap();
                carry(pool, near, far, stop)
            })
        });
        let listener = left.enter(|| TcpListener::bind("10.9.0.1:5000").unwrap());
        let server = scope.spawn(move || exchange(listener.accept().unwrap().0));
        right.enter(|| exchange(TcpStream::connect("10.9.0.1:5000").unwrap()));
        server.join().unwrap();
        stop.store(true, Ordering::Relaxed);
        worker.join().unwrap()
    });
    for (side, seen) in [(&left, leftwards), (&right, rightwards)] {
        assert!(seen.to_be_cut > 10 && seen.longest > 20_000, "{seen:?}");
        assert!(seen.partial >= seen.to_be_cut, "{seen:?}");
        // Only what was lost for want of room may be missing; wrong checksums are no such loss.
        assert_eq!(side.enter(checksum_errors), 0, "{seen:?}");
    }
}

fn carry(pool: &Mempool, mut left: impl Queues, mut right: impl Queues, stop: &AtomicBool) -> [Seen; 2] {
    let (mut leftwards, mut rightwards) = (Seen::default(), Seen::default());
    while !stop.load(Ordering::Relaxed) {
        let moved = pass(pool, &mut left, &mut right, &mut rightwards)
            + pass(pool, &mut right, &mut left, &mut leftwards);
        if moved == 0 {
            thread::yield_now();
        }
    }
    left.close();
    right.close();
    [leftwards, rightwards]
}

fn pass(pool: &Mempool, from: &mut impl Queues, to: &mut impl Queues, seen: &mut Seen) -> usize {
    let mut burst: ArrayVec<Mbuf, BURST> = ArrayVec::new();
    let received = from.receive(pool, &mut burst);
    for packet in &burst {
        let offload = packet.offload();
        seen.longest = seen.longest.max(packet.len());
        seen.partial += usize::from(matches!(offload.checksum, Checksum::Partial { .. }));
        if let Some(segmentation) = offload.segmentation {
            assert!(matches!(segmentation.kind, SegmentationKind::Tcp { .. }));
            assert!((500..=8_960).contains(&segmentation.size));
            seen.to_be_cut += 1;
        }
    }
    let sent = to.send(&mut burst);
    seen.lost += received - sent;
    received
}

/// Sends and receives at the same time, and checks what comes.
fn exchange(stream: TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let expected = mbuf::bytes(BYTES);
    thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&expected).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::with_capacity(BYTES);
        (&stream).read_to_end(&mut received).unwrap();
        assert!(received == expected, "{} bytes came, or others than were sent", received.len());
    });
}

/// TCP segments that the kernel of the calling thread's namespace dropped for a wrong checksum.
fn checksum_errors() -> u64 {
    let counters = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut tcp = counters.lines().filter_map(|line| line.strip_prefix("Tcp: ")).map(str::split_whitespace);
    let (names, values) = (tcp.next().unwrap(), tcp.next().unwrap());
    let errors = names.zip(values).find(|(name, _)| *name == "InCsumErrors");
    errors.unwrap().1.parse().unwrap()
}
