//! Ports on taps.

use std::os::fd::AsRawFd;
use std::time::Instant;

use arrayvec::ArrayVec;
use overlane_dataplane::packet::{Checksum, Offload, Packet, Segmentation, SegmentationKind};
use overlane_dpdk::{
    BURST, CloseError, Interface, Mbuf, Mempool, MempoolOptions, QueueState, RxQueue, TapError, TapOptions,
    TapPort, TxQueue,
};

use crate::mbuf::{bytes, content};
use crate::net::{Namespace, PATIENCE, Peer, frame, tcp_frame, tcp_frame_v6, udp_frame, wait_readable};
use crate::{Bench, Case, cases, forward};

pub(crate) const CASES: &[Case] = cases![
    frames_up_to_jumbo_come_and_go_through_a_tap_unchanged,
    a_tag_on_a_tap_is_seen_as_it_was_sent,
    partial_checksums_cross_a_tap_both_ways,
    packets_to_be_cut_cross_a_tap_both_ways,
    frames_without_buffers_on_a_tap_are_counted_and_later_ones_come,
    a_frame_longer_than_the_buffers_left_is_lost_alone,
    frames_that_nobody_reads_from_a_tap_are_counted_wherever_it_is,
    what_a_tap_cannot_send_is_refused_and_counted,
    a_tap_that_is_down_loses_frames_and_comes_back,
    a_tap_is_known_in_the_namespace_it_was_moved_to,
    a_tap_ends_with_the_namespace_it_was_moved_to,
    a_removed_tap_is_a_state_and_nothing_spins,
    a_tap_whose_node_never_takes_frames_fills_up_and_costs_no_waiting,
    a_tap_closes_only_with_its_own_queues_and_is_gone_then,
    what_cannot_be_made_a_tap_is_refused,
    kernels_talk_through_two_taps_with_their_offloads,
];

pub(crate) struct Open {
    port: TapPort,
    rx: RxQueue,
    tx: TxQueue,
}

pub(crate) fn create_with(name: &str, options: &TapOptions) -> Open {
    let (port, mut rx, mut tx) = TapPort::create(name, options).unwrap();
    let open = Open { port, rx: rx.remove(0), tx: tx.remove(0) };
    assert!(rx.is_empty() && tx.is_empty());
    open
}

fn create(name: &str) -> Open {
    create_with(name, &TapOptions::default())
}

/// A tap that is up and takes packets of 9,000 bytes, and a socket on its interface.
fn tapped(namespace: &Namespace, vnet: bool) -> (Open, Peer) {
    let near = create("tapped");
    namespace.ip("link set tapped mtu 9000 up");
    (near, Peer::open("tapped", vnet))
}

impl Open {
    fn close(self) {
        self.port.close(vec![self.rx], vec![self.tx]).unwrap();
    }

    /// The next `count` frames.
    fn receive(&mut self, pool: &Mempool, count: usize) -> Vec<Mbuf> {
        let mut received = Vec::new();
        let mut burst = ArrayVec::new();
        while received.len() < count {
            if self.rx.receive(pool, &mut burst) == 0 {
                wait_readable(self.rx.fd().unwrap().as_raw_fd());
            }
            received.extend(burst.drain(..));
        }
        assert_eq!(received.len(), count);
        received
    }

    fn receive_one(&mut self, pool: &Mempool) -> Mbuf {
        self.receive(pool, 1).remove(0)
    }

    /// Calls `receive` until `done`.
    fn poll_until(&mut self, pool: &Mempool, mut done: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            self.rx.receive(pool, &mut ArrayVec::new());
            assert!(start.elapsed() < PATIENCE);
        }
    }

    fn send_one(&mut self, packet: Mbuf) -> usize {
        let mut burst = ArrayVec::new();
        burst.push(packet);
        let sent = self.tx.send(&mut burst);
        assert!(burst.is_empty());
        sent
    }
}

impl forward::Queues for Open {
    fn receive(&mut self, pool: &Mempool, burst: &mut ArrayVec<Mbuf, BURST>) -> usize {
        self.rx.receive(pool, burst)
    }

    fn send(&mut self, burst: &mut ArrayVec<Mbuf, BURST>) -> usize {
        self.tx.send(burst)
    }

    fn close(self) {
        Open::close(self);
    }
}

fn frames_up_to_jumbo_come_and_go_through_a_tap_unchanged(bench: &Bench) {
    let pool = bench.pool(1_024);
    let namespace = Namespace::new();
    namespace.enter(|| {
        let (mut near, far) = tapped(&namespace, false);
        // On both sides of what one buffer holds, and two.
        let edges = [14, 15, 60, 1_514, 2_047, 2_048, 2_049, 4_095, 4_096, 4_097, 9_013, 9_014];
        for round in 0..3_u8 {
            for &length in &edges {
                far.send(&frame(length, length as u8 ^ round));
            }
            let received = near.receive(&pool, edges.len());
            for (packet, &length) in received.iter().zip(&edges) {
                assert_eq!(content(packet), frame(length, length as u8 ^ round), "{length}");
                assert_eq!(packet.segment_count(), length.div_ceil(2_048), "{length}");
                assert_eq!(packet.offload(), Offload::default());
            }
            let mut burst: ArrayVec<Mbuf, BURST> = received.into_iter().collect();
            assert_eq!((near.tx.send(&mut burst), burst.len()), (edges.len(), 0));
            for &length in &edges {
                assert_eq!(far.receive(), frame(length, length as u8 ^ round));
            }
        }
        let (stats, count) = (near.port.stats(), 3 * edges.len() as u64);
        assert_eq!(
            (stats.rx_packets, stats.tx_packets, stats.rx_errors, stats.tx_lost, stats.rx_missed),
            (count, count, 0, 0, 0)
        );
        near.close();
    });
}

fn a_tag_on_a_tap_is_seen_as_it_was_sent(bench: &Bench) {
    let pool = bench.pool(1_024);
    let namespace = Namespace::new();
    namespace.enter(|| {
        let (mut near, far) = tapped(&namespace, true);
        let (partial, _) = udp_frame(&[5; 100]);
        let mut tagged = partial[..12].to_vec();
        tagged.extend([0x81, 0, 0, 7]);
        tagged.extend(&partial[12..]);
        far.send(&[header(1, 0, 0, 38, 6), tagged.clone()].concat());
        let packet = near.receive_one(&pool);
        assert_eq!(content(&packet), tagged);
        assert_eq!(packet.offload().checksum, Checksum::Partial { start: 38, offset: 6 });
        near.close();
    });
}

/// A virtio header; the length of the frame's headers is a hint, which the kernel sees to itself.
fn header(flags: u8, gso: u8, size: u16, start: u16, offset: u16) -> Vec<u8> {
    let numbers = [0, size, start, offset].map(u16::to_ne_bytes).concat();
    [&[flags, gso][..], &numbers].concat()
}

fn partial_checksums_cross_a_tap_both_ways(bench: &Bench) {
    let pool = bench.pool(1_024);
    let namespace = Namespace::new();
    namespace.enter(|| {
        let (mut near, far) = tapped(&namespace, true);
        let partial_at = |start, offset| Checksum::Partial { start, offset };
        for length in [0, 100, 2_006, 2_007, 5_000] {
            let (partial, _) = udp_frame(&vec![5; length]);
            let sent = [header(1, 0, 0, 34, 6), partial.clone()].concat();
            far.send(&sent);
            let packet = near.receive_one(&pool);
            assert_eq!(content(&packet), partial);
            let unfinished = Offload { checksum: partial_at(34, 6), segmentation: None };
            assert_eq!(packet.offload(), unfinished);
            assert_eq!(near.send_one(packet), 1);
            assert_eq!(far.receive(), sent);
        }
        near.close();
    });
}

fn packets_to_be_cut_cross_a_tap_both_ways(bench: &Bench) {
    let pool = bench.pool(1_024);
    let namespace = Namespace::new();
    namespace.enter(|| {
        let (mut near, far) = tapped(&namespace, true);
        let tcp = SegmentationKind::Tcp { ecn: false };
        // Also the longest that a kernel leaves whole.
        let mut cases = vec![
            (tcp_frame(&bytes(20_000)), 1, tcp, (34, 16)),
            (tcp_frame(&bytes(65_535 - 54)), 1, tcp, (34, 16)),
            (tcp_frame_v6(&bytes(20_000)), 4, tcp, (54, 16)),
        ];
        // Since Linux 6.2; before, the kernel neither gives nor takes them.
        if near.tx.capabilities().udp_segmentation {
            cases.push((udp_frame(&bytes(20_000)).0, 5, SegmentationKind::Udp, (34, 6)));
        }
        for (whole, gso, kind, (start, offset)) in cases {
            let sent = [header(1, gso, 1_000, start, offset), whole.clone()].concat();
            far.send(&sent);
            let packet = near.receive_one(&pool);
            assert_eq!(content(&packet), whole, "{kind:?}");
            let segmentation = Some(Segmentation { kind, size: 1_000 });
            let checksum = Checksum::Partial { start, offset };
            assert_eq!(packet.offload(), Offload { checksum, segmentation });
            assert_eq!(near.send_one(packet), 1);
            let back = far.receive();
            // But for the kernel's hint of the headers' length.
            assert_eq!((&back[..2], &back[4..]), (&sent[..2], &sent[4..]), "{kind:?}");
        }
        assert_eq!(near.port.stats().rx_errors, 0);
        near.close();
    });
}

fn frames_without_buffers_on_a_tap_are_counted_and_later_ones_come(bench: &Bench) {
    let pool = bench.pool_with(&MempoolOptions { size: 128, data_room: 2_048, cache: 0 });
    let namespace = Namespace::new();
    namespace.enter(|| {
        let (mut near, far) = tapped(&namespace, false);
        let hoard: Vec<Mbuf> = std::iter::from_fn(|| pool.packet(b"mine")).collect();
        for n in 0..10 {
            far.send(&frame(if n % 2 == 0 { 60 } else { 5_000 }, n));
        }
        near.poll_until(&pool, |near| near.port.stats().rx_no_buffer == 10);
        drop(hoard);
        far.send(&frame(5_000, 99));
        assert_eq!(content(&near.receive_one(&pool)), frame(5_000, 99));
        near.close();
    });
}

fn a_frame_longer_than_the_buffers_left_is_lost_alone(bench: &Bench) {
    let pool = bench.pool_with(&MempoolOptions { size: 128, data_room: 2_048, cache: 0 });
    let namespace = Namespace::new();
    namespace.enter(|| {
        let (mut near, far) = tapped(&namespace, false);
        let mut hoard: Vec<Mbuf> = std::iter::from_fn(|| pool.packet(b"mine")).collect();
        hoard.truncate(hoard.len() - 2);
        for (n, length) in [4_096, 4_097].into_iter().enumerate() {
            far.send(&frame(length, n as u8));
        }
        assert_eq!(content(&near.receive_one(&pool)), frame(4_096, 0), "it fits the two exactly");
        near.poll_until(&pool, |near| near.port.stats().rx_no_buffer == 1);
        far.send(&frame(60, 2));
        assert_eq!(content(&near.receive_one(&pool)), frame(60, 2));
        let stats = near.port.stats();
        assert_eq!((stats.rx_packets, stats.rx_errors), (2, 0));
        near.close();
    });
}

fn frames_that_nobody_reads_from_a_tap_are_counted_wherever_it_is(bench: &Bench) {
    let pool = bench.pool(1_024);
    let (namespace, node) = (Namespace::new(), Namespace::new());
    let mut near = namespace.enter(|| {
        let near = create("tapped");
        namespace.ip(&format!("link set tapped netns {}", node.name()));
        near
    });
    node.enter(|| {
        node.ip("link set tapped up txqueuelen 100");
        let far = Peer::open("tapped", false);
        for n in 0..150 {
            far.send_or_lose(&frame(60, n));
        }
        let received = near.receive(&pool, 100);
        assert!(received.iter().enumerate().all(|(n, packet)| content(packet) == frame(60, n as u8)));
        assert_eq!(near.rx.receive(&pool, &mut ArrayVec::new()), 0);
        assert_eq!(near.port.stats().rx_missed, 50);
        assert_eq!(near.port.stats().rx_missed, 50, "reading the count does not add to it");
        far.send(&frame(60, 200));
        assert_eq!(content(&near.receive_one(&pool)), frame(60, 200));
    });
    near.close();
}

fn what_a_tap_cannot_send_is_refused_and_counted(bench: &Bench) {
    let pool = bench.pool(1_024);
    let namespace = Namespace::new();
    namespace.enter(|| {
        let (mut near, far) = tapped(&namespace, false);
        let mut nonsense = pool.packet(&frame(60, 3)).unwrap();
        nonsense.set_offload(Offload {
            checksum: Checksum::Partial { start: 59, offset: 6 },
            segmentation: None,
        });
        let packet = |length, stamp| pool.packet(&frame(length, stamp)).unwrap();
        let mut burst: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        burst.extend([packet(60, 1), nonsense, pool.packet(&[]).unwrap(), pool.packet(&[1; 13]).unwrap()]);
        burst.push(packet(61, 2));
        assert_eq!((near.tx.send(&mut burst), burst.len()), (2, 0));
        assert_eq!([far.receive(), far.receive()], [frame(60, 1), frame(61, 2)]);
        let stats = near.port.stats();
        assert_eq!((stats.tx_packets, stats.tx_refused, stats.tx_lost), (2, 3, 0));
        near.close();
    });
}

fn a_tap_that_is_down_loses_frames_and_comes_back(bench: &Bench) {
    let pool = bench.pool(1_024);
    let namespace = Namespace::new();
    namespace.enter(|| {
        let mut near = create("tapped");
        assert!(!near.port.interface().unwrap().up, "it is down when it is made");
        for n in 0..100 {
            assert_eq!(near.send_one(pool.packet(&frame(60, n)).unwrap()), 0);
        }
        assert_eq!(near.port.stats().tx_lost, 100);
        assert_eq!(near.rx.receive(&pool, &mut ArrayVec::new()), 0);
        assert_eq!((near.rx.state(), near.tx.state()), (QueueState::Running, QueueState::Running));
        assert!(quiet(near.rx.fd().unwrap().as_raw_fd()), "poll does not return for ever");

        namespace.ip("link set tapped up");
        let interface = near.port.interface().unwrap();
        assert!(interface.up && interface.running && interface.ethernet);
        let far = Peer::open("tapped", false);
        assert_eq!(near.send_one(pool.packet(&frame(60, 7)).unwrap()), 1);
        assert_eq!(far.receive(), frame(60, 7));
        far.send(&frame(60, 8));
        assert_eq!(content(&near.receive_one(&pool)), frame(60, 8));
        near.close();
    });
}

/// Whether `poll` has nothing to say of the descriptor.
fn quiet(fd: std::os::fd::RawFd) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which lives through the call.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 0 }
}

fn a_tap_is_known_in_the_namespace_it_was_moved_to(bench: &Bench) {
    let pool = bench.pool(1_024);
    let (namespace, first, second) = (Namespace::new(), Namespace::new(), Namespace::new());
    let mut near = namespace.enter(|| create("tapped"));
    assert_eq!(near.port.interface().unwrap().name, "tapped");
    namespace.ip(&format!("link set tapped netns {}", first.name()));
    assert_eq!(near.port.interface().unwrap().mtu, 1_500);
    first.ip("link set tapped name eth0 address 02:00:00:00:00:07 mtu 9000 up");
    let there = near.port.interface().unwrap();
    assert_eq!((&*there.name, there.mtu, there.up, there.running), ("eth0", 9_000, true, true));
    assert_eq!(there.mac.0, [2, 0, 0, 0, 0, 7]);
    assert_eq!(first.enter(|| Interface::by_name("eth0").unwrap()), there);
    // From one to the next, of which ours has not heard.
    first.ip(&format!("link set eth0 netns {} name eth5", second.name()));
    let there = near.port.interface().unwrap();
    assert_eq!((&*there.name, there.mtu, there.up), ("eth5", 9_000, false));
    second.ip("link set eth5 up");
    assert!(near.port.interface().unwrap().running);
    second.enter(|| {
        let far = Peer::open("eth5", false);
        far.send(&frame(9_014, 1));
        assert_eq!(content(&near.receive_one(&pool)), frame(9_014, 1));
        assert_eq!(near.send_one(pool.packet(&frame(9_014, 2)).unwrap()), 1);
        assert_eq!(far.receive(), frame(9_014, 2));
    });
    near.close();
    second.enter(|| assert!(Interface::by_name("eth5").is_err(), "it goes with its port"));
}

fn a_tap_ends_with_the_namespace_it_was_moved_to(bench: &Bench) {
    let pool = bench.pool(1_024);
    let (namespace, node) = (Namespace::new(), Namespace::new());
    let mut near = namespace.enter(|| create("tapped"));
    namespace.ip(&format!("link set tapped netns {}", node.name()));
    // Asking where it is must not keep the namespace alive.
    assert!(near.port.interface().is_ok());
    drop(node);
    near.poll_until(&pool, |near| near.rx.state() == QueueState::Gone);
    assert!(near.port.interface().is_err());
    near.close();
}

fn a_removed_tap_is_a_state_and_nothing_spins(bench: &Bench) {
    let pool = bench.pool(1_024);
    let namespace = Namespace::new();
    namespace.enter(|| {
        let (mut near, far) = tapped(&namespace, false);
        far.send(&frame(60, 1));
        assert_eq!(near.receive(&pool, 1).len(), 1);
        assert_eq!(near.rx.state(), QueueState::Running);
        namespace.ip("link del tapped");
        near.poll_until(&pool, |near| near.rx.state() == QueueState::Gone);
        assert!(near.rx.fd().is_none(), "there is nothing to wait for");
        assert_eq!(near.tx.state(), QueueState::Gone);
        assert_eq!(near.send_one(pool.packet(&frame(60, 2)).unwrap()), 0);
        assert_eq!(near.rx.receive(&pool, &mut ArrayVec::new()), 0);
        assert_eq!(near.port.stats().tx_lost, 1);
        assert!(near.port.interface().is_err());

        // Another interface of the same name is another interface.
        let mut again = create("tapped");
        assert_eq!(near.port.state(), QueueState::Gone);
        namespace.ip("link del tapped");
        // This time the sender is the one to notice.
        assert_eq!(again.send_one(pool.packet(&frame(60, 2)).unwrap()), 0);
        assert_eq!(again.tx.state(), QueueState::Gone);
        near.close();
        again.close();
    });
}

fn a_tap_whose_node_never_takes_frames_fills_up_and_costs_no_waiting(bench: &Bench) {
    let pool = bench.pool(1_024);
    let namespace = Namespace::new();
    namespace.enter(|| {
        let mut near = create_with("tapped", &TapOptions { socket_bytes: 1 << 18 });
        namespace.ip("link set tapped up");
        // What comes in is to go out again at next to no speed, and waits for that, still counted as sent by us.
        namespace.tc("qdisc add dev tapped root tbf rate 8bit burst 2000 limit 1gb");
        namespace.tc("qdisc add dev tapped clsact");
        namespace.tc("filter add dev tapped ingress protocol all u32 match u32 0 0 action mirred egress redirect dev tapped");
        let (mut sent, mut left) = (0, 0);
        let start = Instant::now();
        let mut longest = std::time::Duration::ZERO;
        for _ in 0..100 {
            let mut burst: ArrayVec<Mbuf, BURST> =
                (0..BURST).map(|_| pool.packet(&frame(1_000, 1)).unwrap()).collect();
            let turn = Instant::now();
            sent += near.tx.send(&mut burst);
            longest = longest.max(turn.elapsed());
            left += burst.len();
        }
        let stats = near.port.stats();
        assert!(start.elapsed() < PATIENCE && longest.as_millis() < 1_000, "{longest:?}");
        assert_eq!(stats.tx_packets, sent as u64);
        assert_eq!(sent + left, 100 * BURST, "every frame is accounted for");
        assert!((64..=512).contains(&sent), "{sent} frames of 1,000 bytes waited in 256 KiB");
        assert!(stats.tx_full >= 90, "{stats:?}");
        namespace.tc("qdisc del dev tapped clsact");
        namespace.tc("qdisc del dev tapped root");
        let far = Peer::open("tapped", false);
        assert_eq!(near.send_one(pool.packet(&frame(60, 9)).unwrap()), 1, "there is room again");
        while far.receive() != frame(60, 9) {}
        near.close();
    });
}

fn a_tap_closes_only_with_its_own_queues_and_is_gone_then(_: &Bench) {
    Namespace::new().enter(|| {
        let (near, far) = (create("near"), create("far"));
        let refused = near.port.close(vec![far.rx], vec![near.tx]);
        let Err(CloseError::Queues { port, mut rx, tx }) = refused else { panic!("{refused:?}") };
        let refused = port.close(vec![near.rx], Vec::new());
        let Err(CloseError::Queues { port, rx: near_rx, .. }) = refused else { panic!("{refused:?}") };
        assert!(Interface::by_name("near").is_ok());
        port.close(near_rx, tx).unwrap();
        assert!(Interface::by_name("near").is_err());
        far.port.close(vec![rx.remove(0)], vec![far.tx]).unwrap();
        assert!(Interface::by_name("far").is_err());
    });
}

fn what_cannot_be_made_a_tap_is_refused(_: &Bench) {
    let namespace = Namespace::with_veth();
    namespace.enter(|| {
        let create = |name| TapPort::create(name, &TapOptions::default()).unwrap_err();
        assert!(matches!(create("near"), TapError::Exists(name) if name == "near"));
        // One that somebody else keeps is not taken over either.
        namespace.ip("tuntap add kept mode tap");
        assert!(matches!(create("kept"), TapError::Exists(name) if name == "kept"));
        assert!(matches!(create("tap%d"), TapError::Name(name) if name == "tap%d"));
        let options = TapOptions { socket_bytes: 1 };
        let refused = TapPort::create("tapped", &options).unwrap_err();
        assert!(matches!(refused, TapError::Option { field: "socket_bytes", value: 1 }));
        assert!(Interface::by_name("tapped").is_err());
    });
}

fn kernels_talk_through_two_taps_with_their_offloads(bench: &Bench) {
    forward::run(bench, |middle, side, name| {
        let open = create(name);
        middle.ip(&format!("link set {name} netns {}", side.name()));
        side.ip(&format!("link set {name} name eth0 mtu 9000"));
        open
    });
}
