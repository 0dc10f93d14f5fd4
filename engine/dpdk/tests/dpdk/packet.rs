//! Ports on interfaces of the kernel.

use std::os::fd::AsRawFd;
use std::time::Instant;

use arrayvec::ArrayVec;
use overlane_dataplane::packet::{Checksum, Offload, Packet, Segmentation, SegmentationKind};
use overlane_dpdk::{
    BURST, CloseError, Interface, Mbuf, Mempool, PacketError, PacketOptions, PacketPort, QueueState, RxQueue,
    TxQueue,
};

use crate::mbuf::{self, content};
use crate::net::{Namespace, PATIENCE, Peer, frame, udp_frame, wait_readable};
use crate::{Bench, Case, cases, forward};

pub(crate) const CASES: &[Case] = cases![
    frames_of_every_size_come_and_go_unchanged,
    frames_larger_than_a_slot_come_whole_and_in_order,
    a_tag_is_seen_as_it_was_sent,
    a_partial_checksum_keeps_its_place_both_ways,
    datagrams_to_be_cut_cross_both_ways,
    frames_without_buffers_are_counted_and_later_ones_come,
    frames_without_room_in_the_ring_are_counted,
    large_frames_without_room_in_the_queue_are_counted,
    frames_that_the_interface_cannot_send_are_refused_and_counted,
    the_hosts_own_frames_are_not_received,
    an_interface_that_goes_down_loses_frames_and_comes_back,
    a_removed_interface_is_a_state_and_nothing_spins,
    a_reader_that_never_reads_costs_no_waiting,
    a_port_closes_only_with_its_own_queues,
    what_is_not_an_ethernet_interface_is_refused,
    kernels_talk_through_two_ports_with_their_offloads,
];

struct Open {
    port: PacketPort,
    rx: RxQueue,
    tx: TxQueue,
}

fn open_with(interface: &str, options: &PacketOptions) -> Open {
    let index = Interface::by_name(interface).unwrap().index;
    let (port, mut rx, mut tx) = PacketPort::open(index, options).unwrap();
    let open = Open { port, rx: rx.remove(0), tx: tx.remove(0) };
    assert!(rx.is_empty() && tx.is_empty());
    open
}

fn open(interface: &str) -> Open {
    open_with(interface, &PacketOptions::default())
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

fn frames_of_every_size_come_and_go_unchanged(bench: &Bench) {
    let pool = bench.pool(1_024);
    Namespace::with_veth().enter(|| {
        let (mut near, far) = (open("near"), Peer::open("far", false));
        let lengths: Vec<usize> = (14..1_515).step_by(50).chain([1_514]).collect();
        for &length in &lengths {
            far.send(&frame(length, length as u8));
        }
        let received = near.receive(&pool, lengths.len());
        for (packet, &length) in received.iter().zip(&lengths) {
            assert_eq!(content(packet), frame(length, length as u8));
            assert_eq!(packet.offload(), Offload::default());
        }
        let mut burst: ArrayVec<Mbuf, BURST> = received.into_iter().collect();
        assert_eq!(near.tx.send(&mut burst), lengths.len());
        assert!(burst.is_empty());
        for &length in &lengths {
            assert_eq!(far.receive(), frame(length, length as u8));
        }
        let (stats, count) = (near.port.stats(), lengths.len() as u64);
        assert_eq!(
            (stats.rx_packets, stats.tx_packets, stats.rx_errors, stats.tx_lost),
            (count, count, 0, 0)
        );
        near.close();
    });
}

fn frames_larger_than_a_slot_come_whole_and_in_order(bench: &Bench) {
    let pool = bench.pool(1_024);
    let namespace = Namespace::with_veth();
    namespace.enter(|| {
        let mut near = open("near");
        // After the ring was made for 1,500 bytes.
        namespace.ip("link set near mtu 9000");
        namespace.ip("link set far mtu 9000");
        let far = Peer::open("far", false);
        let lengths = [60, 9_014, 60, 1_514, 3_000, 2_100, 9_000, 61, 1_990, 1_991, 2_048, 4_096];
        for (n, &length) in lengths.iter().enumerate() {
            far.send(&frame(length, n as u8));
        }
        let received = near.receive(&pool, lengths.len());
        for (n, (packet, &length)) in received.iter().zip(&lengths).enumerate() {
            assert_eq!(content(packet), frame(length, n as u8), "{length}");
        }
        let mut burst: ArrayVec<Mbuf, BURST> = received.into_iter().collect();
        assert_eq!(near.tx.send(&mut burst), lengths.len());
        for (n, &length) in lengths.iter().enumerate() {
            assert_eq!(far.receive(), frame(length, n as u8));
        }
        near.close();
    });
}

fn a_tag_is_seen_as_it_was_sent(bench: &Bench) {
    let pool = bench.pool(1_024);
    let namespace = Namespace::with_veth();
    namespace.enter(|| {
        let mut near = open("near");
        namespace.ip("link set near mtu 9000");
        namespace.ip("link set far mtu 9000");
        let far = Peer::open("far", false);
        for (protocol, length) in [([0x81, 0], 60), ([0x88, 0xa8], 60), ([0x81, 0], 5_000)] {
            let mut tagged = frame(14, 0);
            tagged.truncate(12);
            tagged.extend(protocol);
            tagged.extend([0x60, 7]);
            tagged.extend(&frame(length, 3)[12..]);
            far.send(&tagged);
            assert_eq!(content(&near.receive(&pool, 1)[0]), tagged);
        }
        near.close();
    });
}

fn a_partial_checksum_keeps_its_place_both_ways(bench: &Bench) {
    let pool = bench.pool(1_024);
    let namespace = Namespace::with_veth();
    namespace.enter(|| {
        let mut near = open("near");
        namespace.ip("link set near mtu 9000");
        namespace.ip("link set far mtu 9000");
        let far = Peer::open("far", true);
        let header = |start: u16, offset: u16| {
            [[1, 0, 0, 0, 0, 0].as_slice(), &start.to_ne_bytes(), &offset.to_ne_bytes()].concat()
        };
        for length in [100, 5_000] {
            let (partial, _) = udp_frame(&vec![5; length]);
            far.send(&[header(34, 6), partial.clone()].concat());
            let packet = near.receive(&pool, 1).remove(0);
            assert_eq!(content(&packet), partial);
            assert_eq!(packet.offload().checksum, Checksum::Partial { start: 34, offset: 6 });
            assert_eq!(near.send_one(packet), 1);
            let back = far.receive();
            assert_eq!(
                (&back[..1], &back[6..10], &back[10..]),
                (&[1][..], &header(34, 6)[6..], &partial[..])
            );

            // A tag moves the checksum, and what is right stays right.
            let mut tagged = partial[..12].to_vec();
            tagged.extend([0x81, 0, 0, 7]);
            tagged.extend(&partial[12..]);
            far.send(&[header(38, 6), tagged.clone()].concat());
            let packet = near.receive(&pool, 1).remove(0);
            assert_eq!(content(&packet), tagged);
            assert_eq!(packet.offload().checksum, Checksum::Partial { start: 38, offset: 6 });
        }
        near.close();
    });
}

fn datagrams_to_be_cut_cross_both_ways(bench: &Bench) {
    let pool = bench.pool(1_024);
    Namespace::with_veth().enter(|| {
        let (mut near, far) = (open("near"), Peer::open("far", true));
        // Since Linux 6.2; before, the kernel neither gives nor takes them.
        if !near.port.capabilities().udp_segmentation {
            return near.close();
        }
        let (partial, _) = udp_frame(&mbuf::bytes(3_500));
        let header =
            [&[1, 5][..], &42_u16.to_ne_bytes(), &1_000_u16.to_ne_bytes(), &34_u16.to_ne_bytes()].concat();
        let whole = [&header, &6_u16.to_ne_bytes()[..], &partial].concat();
        far.send(&whole);
        let packet = near.receive(&pool, 1).remove(0);
        assert_eq!(content(&packet), partial);
        let segmentation = Segmentation { kind: SegmentationKind::Udp, size: 1_000 };
        let checksum = Checksum::Partial { start: 34, offset: 6 };
        assert_eq!(packet.offload(), Offload { checksum, segmentation: Some(segmentation) });
        assert_eq!(near.send_one(packet), 1);
        let back = far.receive();
        // But for the kernel's hint of the headers' length.
        assert_eq!((&back[..2], &back[4..]), (&whole[..2], &whole[4..]));
        near.close();
    });
}

fn frames_without_buffers_are_counted_and_later_ones_come(bench: &Bench) {
    let pool = bench.pool_with(&overlane_dpdk::MempoolOptions { size: 128, data_room: 2_048, cache: 0 });
    let namespace = Namespace::with_veth();
    namespace.enter(|| {
        let mut near = open("near");
        namespace.ip("link set near mtu 9000");
        namespace.ip("link set far mtu 9000");
        let far = Peer::open("far", false);
        let hoard: Vec<Mbuf> = std::iter::from_fn(|| pool.packet(b"mine")).collect();
        for n in 0..10 {
            far.send(&frame(if n % 2 == 0 { 60 } else { 5_000 }, n));
        }
        near.poll_until(&pool, |near| near.port.stats().rx_no_buffer == 10);
        drop(hoard);
        far.send(&frame(5_000, 99));
        assert_eq!(
            content(&near.receive(&pool, 1)[0]),
            frame(5_000, 99),
            "the queue is still in step with the ring"
        );
        near.close();
    });
}

fn frames_without_room_in_the_ring_are_counted(bench: &Bench) {
    let pool = bench.pool(1_024);
    Namespace::with_veth().enter(|| {
        let mut near = open_with("near", &PacketOptions { ring_bytes: 1 << 16, ..PacketOptions::default() });
        let far = Peer::open("far", false);
        for n in 0..100 {
            far.send(&frame(60, n));
        }
        let received = near.receive(&pool, 32);
        assert!(received.iter().enumerate().all(|(n, packet)| content(packet) == frame(60, n as u8)));
        assert_eq!(near.rx.receive(&pool, &mut ArrayVec::new()), 0);
        assert_eq!(near.port.stats().rx_missed, 68);
        assert_eq!(near.port.stats().rx_missed, 68, "reading the count does not lose it");
        far.send(&frame(60, 200));
        assert_eq!(content(&near.receive(&pool, 1)[0]), frame(60, 200));
        near.close();
    });
}

fn large_frames_without_room_in_the_queue_are_counted(bench: &Bench) {
    let pool = bench.pool(1_024);
    let namespace = Namespace::with_veth();
    namespace.enter(|| {
        let mut near =
            open_with("near", &PacketOptions { socket_bytes: 1 << 16, ..PacketOptions::default() });
        namespace.ip("link set near mtu 9000");
        namespace.ip("link set far mtu 9000");
        let far = Peer::open("far", false);
        for n in 0..50 {
            far.send(&frame(9_000, n));
            far.send(&frame(60, n));
        }
        let mut seen = Vec::new();
        near.poll_until(&pool, |_| true);
        let mut burst = ArrayVec::new();
        while near.rx.receive(&pool, &mut burst) > 0 {
            seen.extend(burst.drain(..).map(|packet| content(&packet)));
        }
        let (large, small): (Vec<_>, Vec<_>) = seen.iter().partition(|frame| frame.len() > 60);
        let lost = near.port.stats().rx_errors;
        assert!(lost > 0 && !large.is_empty(), "{lost} lost, {} came", large.len());
        assert_eq!(large.len() as u64 + lost, 50);
        assert!(large.iter().enumerate().all(|(n, &bytes)| *bytes == frame(9_000, n as u8)));
        assert_eq!(small.len(), 50, "small frames are not lost with them");
        near.close();
    });
}

fn frames_that_the_interface_cannot_send_are_refused_and_counted(bench: &Bench) {
    let pool = bench.pool(1_024);
    Namespace::with_veth().enter(|| {
        let (mut near, far) = (open("near"), Peer::open("far", false));
        let mut nonsense = pool.packet(&frame(60, 3)).unwrap();
        nonsense.set_offload(Offload {
            checksum: Checksum::Partial { start: 59, offset: 6 },
            segmentation: None,
        });
        let packet = |length, stamp| pool.packet(&frame(length, stamp)).unwrap();
        let mut burst: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        burst.extend([packet(1_600, 0), packet(60, 1), nonsense, packet(60, 2), pool.packet(&[]).unwrap()]);
        burst.extend([packet(9_000, 4), packet(9_000, 5), packet(61, 6)]);
        assert_eq!((near.tx.send(&mut burst), burst.len()), (3, 0));
        let expected = [frame(60, 1), frame(60, 2), frame(61, 6)];
        assert_eq!([far.receive(), far.receive(), far.receive()], expected);
        let stats = near.port.stats();
        assert_eq!((stats.tx_packets, stats.tx_refused, stats.tx_lost), (3, 5, 0));
        near.close();
    });
}

fn the_hosts_own_frames_are_not_received(bench: &Bench) {
    let pool = bench.pool(1_024);
    Namespace::with_veth().enter(|| {
        let (mut near, host, far) = (open("near"), Peer::open("near", false), Peer::open("far", false));
        host.send(&frame(60, 1));
        assert_eq!(near.send_one(pool.packet(&frame(60, 2)).unwrap()), 1);
        assert_eq!([far.receive(), far.receive()], [frame(60, 1), frame(60, 2)]);
        far.send(&frame(60, 3));
        assert_eq!(content(&near.receive(&pool, 1)[0]), frame(60, 3));
        near.close();
    });
}

fn an_interface_that_goes_down_loses_frames_and_comes_back(bench: &Bench) {
    let pool = bench.pool(1_024);
    let namespace = Namespace::with_veth();
    namespace.enter(|| {
        let (mut near, far) = (open("near"), Peer::open("far", false));
        namespace.ip("link set near down");
        for n in 0..100 {
            assert_eq!(near.send_one(pool.packet(&frame(60, n)).unwrap()), 0);
        }
        assert_eq!(near.port.stats().tx_lost, 100);
        assert!(!near.port.interface().unwrap().up);
        // The error that it left on the socket is taken, so that poll does not return for ever.
        near.poll_until(&pool, |near| quiet(near.rx.fd().unwrap().as_raw_fd()));
        assert_eq!((near.rx.state(), near.tx.state()), (QueueState::Running, QueueState::Running));

        namespace.ip("link set near up");
        assert_eq!(near.send_one(pool.packet(&frame(60, 7)).unwrap()), 1);
        while far.receive() != frame(60, 7) {}
        far.send(&frame(60, 8));
        assert_eq!(content(&near.receive(&pool, 1)[0]), frame(60, 8));
        near.close();
    });
}

/// Whether `poll` has nothing to say of the descriptor.
fn quiet(fd: std::os::fd::RawFd) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which lives through the call.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 0 }
}

fn a_removed_interface_is_a_state_and_nothing_spins(bench: &Bench) {
    let pool = bench.pool(1_024);
    let namespace = Namespace::with_veth();
    namespace.enter(|| {
        let (mut near, far) = (open("near"), Peer::open("far", false));
        far.send(&frame(60, 1));
        assert_eq!(near.receive(&pool, 1).len(), 1);
        assert_eq!(near.rx.state(), QueueState::Running);
        namespace.ip("link del near");
        near.poll_until(&pool, |near| near.rx.state() == QueueState::Gone);
        assert!(near.rx.fd().is_none(), "there is nothing to wait for");
        assert_eq!(near.tx.state(), QueueState::Gone);
        assert_eq!(near.send_one(pool.packet(&frame(60, 2)).unwrap()), 0);
        assert_eq!(near.rx.receive(&pool, &mut ArrayVec::new()), 0);
        assert_eq!(near.port.stats().tx_lost, 1);
        assert!(near.port.interface().is_err());

        // Another interface of the same name is another interface.
        namespace.ip("link add near type veth peer name far");
        namespace.ip("link set near up");
        assert_eq!(near.port.state(), QueueState::Gone);
        let mut again = open("near");
        assert_ne!(again.port.ifindex(), near.port.ifindex());
        namespace.ip("link del near");
        // This time the sender is the one to notice.
        assert_eq!(again.send_one(pool.packet(&frame(60, 2)).unwrap()), 0);
        assert_eq!(again.tx.state(), QueueState::Gone);
        near.close();
        again.close();
    });
}

fn a_reader_that_never_reads_costs_no_waiting(bench: &Bench) {
    let pool = bench.pool(1_024);
    let namespace = Namespace::new();
    namespace.enter(|| {
        let _tap = unread_tap("stuck");
        namespace.ip("link set stuck up");
        let mut port = open("stuck");
        let (mut sent, mut left) = (0, 0);
        let start = Instant::now();
        let mut longest = std::time::Duration::ZERO;
        for _ in 0..200 {
            let mut burst: ArrayVec<Mbuf, BURST> =
                (0..BURST).map(|_| pool.packet(&frame(60, 1)).unwrap()).collect();
            let turn = Instant::now();
            sent += port.tx.send(&mut burst);
            longest = longest.max(turn.elapsed());
            left += burst.len();
        }
        let stats = port.port.stats();
        assert!(start.elapsed() < PATIENCE && longest.as_millis() < 1_000, "{longest:?}");
        assert_eq!(stats.tx_packets, sent as u64);
        assert_eq!(sent + left + stats.tx_lost as usize, 200 * BURST, "every frame is accounted for");
        assert!(sent < 200 * BURST, "the device was never full");
        port.close();
    });
}

/// A tap whose descriptor nobody reads: its queue of 500 frames fills up.
fn unread_tap(name: &str) -> std::fs::File {
    let tap = std::fs::File::options().read(true).write(true).open("/dev/net/tun").unwrap();
    // SAFETY: a request of plain integers, which lives through the call; TUNSETIFF reads one ifreq.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (place, &byte) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
            *place = byte.cast_signed();
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as i16;
        assert_eq!(libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF as libc::Ioctl, &raw mut request), 0);
    }
    tap
}

fn a_port_closes_only_with_its_own_queues(_: &Bench) {
    Namespace::with_veth().enter(|| {
        let (near, far) = (open("near"), open("far"));
        let refused = near.port.close(vec![far.rx], vec![near.tx]);
        let Err(CloseError::Queues { port, mut rx, tx }) = refused else { panic!("{refused:?}") };
        let refused = port.close(vec![near.rx], Vec::new());
        let Err(CloseError::Queues { port, rx: near_rx, .. }) = refused else { panic!("{refused:?}") };
        port.close(near_rx, tx).unwrap();
        far.port.close(vec![rx.remove(0)], vec![far.tx]).unwrap();
    });
}

fn what_is_not_an_ethernet_interface_is_refused(_: &Bench) {
    let namespace = Namespace::new();
    namespace.enter(|| {
        namespace.ip("tuntap add tunnel mode tun");
        let index = Interface::by_name("tunnel").unwrap().index;
        let refused = PacketPort::open(index, &PacketOptions::default());
        assert!(matches!(refused, Err(PacketError::NotEthernet(name)) if name == "tunnel"));
        let refused = PacketPort::open(1_000_000, &PacketOptions::default());
        assert!(matches!(refused, Err(PacketError::NoInterface(1_000_000))));
        assert!(Interface::by_name("tun nel").is_err());
        let options = PacketOptions { ring_bytes: 1, ..PacketOptions::default() };
        let refused = PacketPort::open(index, &options);
        assert!(matches!(refused, Err(PacketError::Option { field: "ring_bytes", value: 1 })));
    });
}

fn kernels_talk_through_two_ports_with_their_offloads(bench: &Bench) {
    forward::run(bench, |middle, side, name| {
        middle.ip(&format!("link add {name} type veth peer name eth0 netns {}", side.name()));
        middle.ip(&format!("link set {name} up"));
        open(name)
    });
}
