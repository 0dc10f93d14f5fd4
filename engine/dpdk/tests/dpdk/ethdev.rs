//! Devices with a DPDK driver.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use arrayvec::ArrayVec;
use overlane_dataplane::packet::{Checksum, Offload, Packet, Segmentation, SegmentationKind};
use overlane_dpdk::{
    BURST, CloseError, Devargs, Mbuf, Mempool, Port, PortError, PortOptions, QueueState, RxQueue, TxQueue,
    WorkerThread,
};

use crate::mbuf::{bytes, content};
use crate::net::udp_frame;
use crate::{Bench, Case, cases};

pub(crate) const CASES: &[Case] = cases![
    a_null_device_gives_and_takes_bursts,
    a_ring_device_returns_what_was_sent,
    a_full_device_leaves_the_rest_with_the_caller,
    a_partial_checksum_is_finished_where_the_device_cannot,
    a_packet_to_be_cut_is_refused_where_the_device_cannot,
    a_capture_is_read_and_written,
    a_device_is_attached_once,
    a_device_that_does_not_exist_is_refused,
    options_outside_the_devices_range_are_refused_and_leave_nothing,
    a_port_closes_only_with_all_of_its_own_queues,
    a_dropped_port_stays_open_until_its_last_queue_is_gone,
    more_than_one_queue_works,
    devices_come_and_go_while_a_worker_polls_another,
];

pub(crate) type Opened = (Port, Vec<RxQueue>, Vec<TxQueue>);

pub(crate) fn attach(bench: &Bench, devargs: &str, pool: &Mempool) -> Opened {
    attach_with(bench, devargs, pool, &PortOptions::default())
}

pub(crate) fn attach_with(bench: &Bench, devargs: &str, pool: &Mempool, options: &PortOptions) -> Opened {
    let devargs: Devargs = devargs.parse().unwrap();
    Port::attach(&bench.eal, &devargs, pool, options).unwrap()
}

pub(crate) fn burst(packets: impl IntoIterator<Item = Mbuf>) -> ArrayVec<Mbuf, BURST> {
    packets.into_iter().collect()
}

fn a_null_device_gives_and_takes_bursts(bench: &Bench) {
    let pool = bench.pool(4_096);
    let (port, mut rx, mut tx) = attach(bench, "net_null0,size=100", &pool);
    assert_eq!(
        (port.name().as_str(), port.state(), port.mtu().unwrap()),
        ("net_null0", QueueState::Running, 1_500)
    );
    assert!(rx[0].fd().is_none(), "it must be polled");
    let mut packets = ArrayVec::new();
    assert_eq!(rx[0].receive(&pool, &mut packets), BURST);
    assert_eq!(rx[0].receive(&pool, &mut packets), 0, "the burst is full");
    assert!(packets.iter().all(|packet| packet.len() == 100 && packet.offload() == Offload::default()));
    packets.truncate(10);
    assert_eq!(rx[0].receive(&pool, &mut packets), BURST - 10, "a burst is filled up");
    assert_eq!(tx[0].send(&mut packets), BURST);
    assert!(packets.is_empty());
    let stats = port.stats();
    assert_eq!((stats.rx_packets, stats.tx_packets), (2 * BURST as u64 - 10, BURST as u64));
    port.close(rx, tx).unwrap();
}

fn a_ring_device_returns_what_was_sent(bench: &Bench) {
    let pool = bench.pool(1_024);
    let (port, mut rx, mut tx) = attach(bench, "net_ring0", &pool);
    assert!(port.link_up());
    let lengths = [0, 1, 60, 1_514, 2_048, 2_049, 9_000];
    let mut packets = burst(lengths.map(|length| pool.packet(&bytes(length)).unwrap()));
    assert_eq!(tx[0].send(&mut packets), lengths.len());
    assert_eq!(tx[0].send(&mut packets), 0, "nothing to send is no error");
    assert_eq!(rx[0].receive(&pool, &mut packets), lengths.len());
    for (packet, length) in packets.iter().zip(lengths) {
        assert_eq!(content(packet), bytes(length));
    }
    port.close(rx, tx).unwrap();
}

fn a_full_device_leaves_the_rest_with_the_caller(bench: &Bench) {
    let pool = bench.pool(4_096);
    let (port, mut rx, mut tx) = attach(bench, "net_ring0", &pool);
    let mut accepted = 0;
    let mut packets = ArrayVec::new();
    while packets.is_empty() {
        packets = burst((0..BURST).map(|n| pool.packet(&bytes(100 + n)).unwrap()));
        accepted += tx[0].send(&mut packets);
        assert!(accepted <= 4_095, "the ring is bounded");
    }
    let (stays, before) = (packets.len(), accepted);
    let first = BURST - stays;
    assert_eq!(content(&packets[0]), bytes(100 + first), "taken from the front");
    assert_eq!(tx[0].send(&mut packets), 0);
    assert_eq!(packets.len(), stays);
    assert_eq!(port.stats().tx_full, 2);
    assert_eq!(rx[0].receive(&pool, &mut ArrayVec::new()), BURST);
    accepted += tx[0].send(&mut packets);
    assert_eq!((accepted, packets.len()), (before + stays, 0), "and goes when there is room");
    // This driver forgets what is in its ring when it is closed.
    while rx[0].receive(&pool, &mut packets) > 0 {
        Mbuf::free(&mut packets);
    }
    port.close(rx, tx).unwrap();
}

fn a_partial_checksum_is_finished_where_the_device_cannot(bench: &Bench) {
    let pool = bench.pool(128);
    let (port, mut rx, mut tx) = attach(bench, "net_ring0", &pool);
    assert!(!port.capabilities().checksum);
    for payload in [&b""[..], b"odd", b"even", &[0xff; 3_001]] {
        let (partial, whole) = udp_frame(payload);
        let mut packet = pool.packet(&partial).unwrap();
        packet.set_offload(Offload {
            checksum: Checksum::Partial { start: 34, offset: 6 },
            segmentation: None,
        });
        let mut packets = burst([packet]);
        assert_eq!(tx[0].send(&mut packets), 1);
        assert_eq!(rx[0].receive(&pool, &mut packets), 1);
        assert_eq!(content(&packets[0]), whole);
        assert_eq!(packets[0].offload(), Offload::default());
    }
    // A field that is not in the packet.
    let mut packet = pool.packet(&bytes(60)).unwrap();
    packet.set_offload(Offload { checksum: Checksum::Partial { start: 59, offset: 0 }, segmentation: None });
    let mut packets = burst([packet]);
    assert_eq!((tx[0].send(&mut packets), packets.len(), port.stats().tx_refused), (0, 0, 1));
    port.close(rx, tx).unwrap();
}

fn a_packet_to_be_cut_is_refused_where_the_device_cannot(bench: &Bench) {
    let pool = bench.pool(128);
    let (port, mut rx, mut tx) = attach(bench, "net_ring0", &pool);
    assert!(!port.capabilities().tcp_segmentation);
    let offload = Offload {
        checksum: Checksum::Partial { start: 34, offset: 16 },
        segmentation: Some(Segmentation { kind: SegmentationKind::Tcp { ecn: false }, size: 1_000 }),
    };
    let mut packets = burst((0..3).map(|n| pool.packet(&bytes(60 + n)).unwrap()));
    packets[1].set_offload(offload);
    assert_eq!((tx[0].send(&mut packets), packets.len(), port.stats().tx_refused), (2, 0, 1));
    assert_eq!(rx[0].receive(&pool, &mut packets), 2);
    assert_eq!((packets[0].len(), packets[1].len()), (60, 62), "the others go");
    port.close(rx, tx).unwrap();
}

/// A directory of one case, removed on drop.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("overlane-dpdk-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn write_capture(path: &Path, frames: &[Vec<u8>]) {
    let mut capture = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 0x4_0000, 1] {
        capture.extend(word.to_le_bytes());
    }
    for frame in frames {
        for word in [0, 0, frame.len() as u32, frame.len() as u32] {
            capture.extend(word.to_le_bytes());
        }
        capture.extend(frame);
    }
    fs::write(path, capture).unwrap();
}

fn a_capture_is_read_and_written(bench: &Bench) {
    let scratch = Scratch::new("pcap");
    let (input, output) = (scratch.file("in.pcap"), scratch.file("out.pcap"));
    let mut frames: Vec<Vec<u8>> = (0..100).map(|n| bytes(60 + n * 14)).collect();
    // Its checksum is that of a kernel which left it to a device; but no kernel sent it to us.
    frames.push(udp_frame(&[7; 333]).0);
    write_capture(&input, &frames);
    let devargs = Devargs::vdev("net_pcap0").unwrap();
    let devargs =
        devargs.argument("rx_pcap", input.display()).unwrap().argument("tx_pcap", output.display()).unwrap();
    let pool = bench.pool(1_024);
    let (port, mut rx, mut tx) = Port::attach(&bench.eal, &devargs, &pool, &PortOptions::default()).unwrap();
    let mut packets = ArrayVec::new();
    let mut seen = 0;
    while rx[0].receive(&pool, &mut packets) > 0 {
        for packet in &packets {
            assert_eq!((content(packet), packet.offload()), (frames[seen].clone(), Offload::default()));
            seen += 1;
        }
        tx[0].send(&mut packets);
        assert!(packets.is_empty());
    }
    assert_eq!(seen, frames.len());
    port.close(rx, tx).unwrap();
    let written = fs::read(output).unwrap();
    assert_eq!(written.len(), fs::read(input).unwrap().len());
    assert!(frames.iter().all(|frame| written.windows(frame.len()).any(|window| window == &frame[..])));
}

fn a_device_is_attached_once(bench: &Bench) {
    let pool = bench.pool(128);
    let (port, rx, tx) = attach(bench, "net_ring0", &pool);
    let again = Port::attach(&bench.eal, &"net_ring0".parse().unwrap(), &pool, &PortOptions::default());
    assert!(matches!(again, Err(PortError::AlreadyAttached(name)) if name == "net_ring0"));
    port.close(rx, tx).unwrap();
    let (port, rx, tx) = attach(bench, "net_ring0", &pool);
    port.close(rx, tx).unwrap();
}

fn a_device_that_does_not_exist_is_refused(bench: &Bench) {
    let pool = bench.pool(128);
    let nothing =
        ["net_nonesuch0", "net_pcap0,rx_pcap=/nonexistent/file", "net_null0,nonesuch=1", "0000:00:1f.7"];
    for devargs in nothing {
        let refused = Port::attach(&bench.eal, &devargs.parse().unwrap(), &pool, &PortOptions::default());
        assert!(matches!(refused, Err(PortError::Probe { .. })), "{devargs}: {refused:?}");
    }
}

fn options_outside_the_devices_range_are_refused_and_leave_nothing(bench: &Bench) {
    let pool = bench.pool(128);
    let wrong = [
        ("rx_queues", PortOptions { rx_queues: 0, ..PortOptions::default() }),
        ("rx_queues", PortOptions { rx_queues: 10_000, ..PortOptions::default() }),
        ("tx_queues", PortOptions { tx_queues: 0, ..PortOptions::default() }),
        ("mtu", PortOptions { mtu: Some(67), ..PortOptions::default() }),
    ];
    for (expected, options) in wrong {
        match Port::attach(&bench.eal, &"net_null0".parse().unwrap(), &pool, &options) {
            Err(PortError::Option { field, .. }) => assert_eq!(field, expected),
            other => panic!("{other:?}"),
        }
    }
    let (port, rx, tx) = attach(bench, "net_null0", &pool);
    port.close(rx, tx).unwrap();
}

fn a_port_closes_only_with_all_of_its_own_queues(bench: &Bench) {
    let pool = bench.pool(256);
    let (one, one_rx, one_tx) = attach(bench, "net_ring0", &pool);
    let (two, two_rx, two_tx) = attach(bench, "net_ring1", &pool);
    let Err(CloseError::Queues { port: one, rx: two_rx, tx: one_tx }) = one.close(two_rx, one_tx) else {
        panic!("another port's queue was taken for this one's")
    };
    let Err(CloseError::Queues { port: one, rx, tx: one_tx }) = one.close(Vec::new(), one_tx) else {
        panic!("a queue was missing")
    };
    assert!(rx.is_empty());
    one.close(one_rx, one_tx).unwrap();
    two.close(two_rx, two_tx).unwrap();
}

fn a_dropped_port_stays_open_until_its_last_queue_is_gone(bench: &Bench) {
    let pool = bench.pool(1_024);
    let (port, mut rx, tx) = attach(bench, "net_null0", &pool);
    drop((port, tx));
    assert_eq!(rx[0].receive(&pool, &mut ArrayVec::new()), BURST);
    let again = Port::attach(&bench.eal, &"net_null0".parse().unwrap(), &pool, &PortOptions::default());
    assert!(matches!(again, Err(PortError::AlreadyAttached(_))));
    drop(rx);
    let (port, rx, tx) = attach(bench, "net_null0", &pool);
    port.close(rx, tx).unwrap();
}

fn more_than_one_queue_works(bench: &Bench) {
    let pool = bench.pool(1_024);
    let options = PortOptions { rx_queues: 4, tx_queues: 3, ..PortOptions::default() };
    let devargs = "net_null0".parse().unwrap();
    let (port, mut rx, mut tx) = Port::attach(&bench.eal, &devargs, &pool, &options).unwrap();
    assert_eq!((rx.len(), tx.len()), (4, 3));
    for (rx, tx) in rx.iter_mut().zip(&mut tx) {
        let mut packets = ArrayVec::new();
        assert_eq!(rx.receive(&pool, &mut packets), BURST);
        assert_eq!(tx.send(&mut packets), BURST);
    }
    assert_eq!(port.stats().tx_packets, 3 * BURST as u64);
    port.close(rx, tx).unwrap();
}

fn devices_come_and_go_while_a_worker_polls_another(bench: &Bench) {
    let pool = bench.pool(2_048);
    let (port, mut rx, mut tx) = attach(bench, "net_null0", &pool);
    let (stop, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let worker = {
        let (eal, pool, stop, turns) =
            (bench.eal.clone(), pool.clone(), Arc::clone(&stop), Arc::clone(&turns));
        thread::spawn(move || {
            let _worker = WorkerThread::register(&eal, Some(0)).unwrap();
            let mut packets = ArrayVec::new();
            while !stop.load(Ordering::Relaxed) {
                rx[0].receive(&pool, &mut packets);
                tx[0].send(&mut packets);
                assert!(packets.is_empty());
                turns.fetch_add(1, Ordering::Relaxed);
            }
            (rx, tx)
        })
    };
    let scratch = Scratch::new("hotplug");
    let capture = scratch.file("in.pcap");
    write_capture(&capture, &[bytes(100)]);
    let pcap =
        format!("net_pcap1,rx_pcap={},tx_pcap={}", capture.display(), scratch.file("out.pcap").display());
    for round in 0..10 {
        for devargs in ["net_ring1", "net_null1", &pcap] {
            let before = turns.load(Ordering::Relaxed);
            let (other, mut rx, mut tx) = attach(bench, devargs, &pool);
            let mut packets = burst((0..4).map(|_| pool.packet(&bytes(60 + round)).unwrap()));
            assert_eq!(tx[0].send(&mut packets), 4);
            rx[0].receive(&pool, &mut packets);
            other.close(rx, tx).unwrap();
            while turns.load(Ordering::Relaxed) == before {
                assert!(!worker.is_finished());
                thread::yield_now();
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    let (rx, tx) = worker.join().unwrap();
    port.close(rx, tx).unwrap();
}
