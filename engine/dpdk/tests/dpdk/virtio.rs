//! A device with offloads, as a NIC has them: the driver of virtio devices, whose device is our own process, by vhost-user.
//!
//! The driver is asked by DPDK's flags and lengths, and writes what it was asked for into the header of the frame; at the
//! far end another driver tells of it by DPDK's flags for received packets. So what comes out says how a NIC's driver
//! has understood what went in.

use std::thread;
use std::time::Instant;

use arrayvec::ArrayVec;
use overlane_dataplane::packet::{Checksum, Offload, Packet, Segmentation, SegmentationKind};
use overlane_dpdk::{BURST, Mbuf, Mempool, PortOptions};

use crate::ethdev::{Opened, Scratch, attach, attach_with, burst};
use crate::mbuf::{bytes, content, pieces};
use crate::net::{PATIENCE, frame, tcp_frame, tcp_frame_v6, udp_frame};
use crate::{Bench, Case, cases};

pub(crate) const CASES: &[Case] = cases![
    a_device_is_asked_to_cut_tcp_wherever_its_headers_lie,
    a_device_is_asked_for_checksums,
    what_a_device_has_no_room_for_comes_back_as_it_was,
    jumbo_frames_arrive_as_chains_where_a_driver_makes_them,
    memif_carries_jumbo_frames,
];

const TCP: SegmentationKind = SegmentationKind::Tcp { ecn: false };

/// Both ends of a virtio device.
struct Pair {
    near: Opened,
    far: Opened,
    pool: Mempool,
    _scratch: Scratch,
}

impl Pair {
    fn new(bench: &Bench, options: &PortOptions) -> Self {
        let scratch = Scratch::new("virtio");
        let socket = scratch.file("socket");
        let pool = bench.pool(8_192);
        let far = attach(bench, &format!("net_vhost0,iface={},tso=1", socket.display()), &pool);
        let near = format!("net_virtio_user0,path={},queue_size=256", socket.display());
        let near = attach_with(bench, &near, &pool, options);
        let start = Instant::now();
        while !(near.0.link_up() && far.0.link_up()) {
            assert!(start.elapsed() < PATIENCE);
            thread::yield_now();
        }
        Self { near, far, pool, _scratch: scratch }
    }

    fn send(&mut self, packet: Mbuf) {
        assert_eq!(self.near.2[0].send(&mut burst([packet])), 1);
    }

    fn receive(&mut self) -> Mbuf {
        next(&mut self.far, &self.pool)
    }

    fn close(self) {
        let (near, near_rx, near_tx) = self.near;
        near.close(near_rx, near_tx).unwrap();
        let (far, far_rx, far_tx) = self.far;
        far.close(far_rx, far_tx).unwrap();
    }
}

fn next((_, rx, _): &mut Opened, pool: &Mempool) -> Mbuf {
    let (start, mut packets) = (Instant::now(), ArrayVec::<Mbuf, BURST>::new());
    while rx[0].receive(pool, &mut packets) == 0 {
        assert!(start.elapsed() < PATIENCE);
    }
    assert_eq!(packets.len(), 1);
    packets.remove(0)
}

fn a_device_is_asked_to_cut_tcp_wherever_its_headers_lie(bench: &Bench) {
    let mut pair = Pair::new(bench, &PortOptions::default());
    assert!(pair.near.0.capabilities().tcp_segmentation);
    for (tcp, start) in [(tcp_frame(&bytes(20_000)), 34), (tcp_frame_v6(&bytes(20_000)), 54)] {
        let segmentation = Some(Segmentation { kind: TCP, size: 1_000 });
        let offload = Offload { checksum: Checksum::Partial { start, offset: 16 }, segmentation };
        for cut in 1..usize::from(start) + 25 {
            let mut packet = pieces(&pair.pool, &tcp, &[cut, cut + 3]);
            packet.set_offload(offload);
            pair.send(packet);
            let received = pair.receive();
            assert_eq!(received.offload(), offload, "{cut}");
            assert_eq!(content(&received), tcp, "{cut}");
        }
    }
    assert_eq!(pair.near.0.stats().tx_refused, 0);
    pair.close();
}

fn a_device_is_asked_for_checksums(bench: &Bench) {
    let mut pair = Pair::new(bench, &PortOptions::default());
    assert!(pair.near.0.capabilities().checksum);
    let partial =
        |start, offset| Offload { checksum: Checksum::Partial { start, offset }, segmentation: None };
    for payload in [&b"odd"[..], &bytes(1_400)] {
        let cases = [
            (udp_frame(payload).0, partial(34, 6)),
            (tcp_frame(payload), partial(34, 16)),
            (tcp_frame_v6(payload), partial(54, 16)),
            (tcp_frame_v6(payload), Offload::default()),
        ];
        for (bytes, offload) in cases {
            for cuts in [&[20, 40][..], &[bytes.len()]] {
                let mut packet = pieces(&pair.pool, &bytes, cuts);
                packet.set_offload(offload);
                pair.send(packet);
                let received = pair.receive();
                assert_eq!((received.offload(), content(&received)), (offload, bytes.clone()));
            }
        }
    }
    pair.close();
}

fn what_a_device_has_no_room_for_comes_back_as_it_was(bench: &Bench) {
    let mut pair = Pair::new(bench, &PortOptions::default());
    let tcp = [tcp_frame_v6(&bytes(5_000)), tcp_frame(&bytes(5_000))];
    let segmentation = Some(Segmentation { kind: TCP, size: 1_000 });
    let offload = |n: usize| Offload {
        checksum: Checksum::Partial { start: [54, 34][n % 2], offset: 16 },
        segmentation,
    };
    let (mut sent, mut left) = (0, ArrayVec::<Mbuf, BURST>::new());
    while left.is_empty() {
        left = (0..BURST).map(|n| pair.pool.packet(&tcp[n % 2]).unwrap()).collect();
        left.iter_mut().enumerate().for_each(|(n, packet)| packet.set_offload(offload(n)));
        sent += pair.near.2[0].send(&mut left);
        assert!(sent < 10_000, "the queue is bounded");
    }
    // Each burst has an even number of packets.
    for (n, packet) in left.iter().enumerate().map(|(n, packet)| (n + BURST - left.len(), packet)) {
        assert_eq!((packet.offload(), content(packet)), (offload(n), tcp[n % 2].clone()));
    }
    drop(left);
    let mut received = ArrayVec::<Mbuf, BURST>::new();
    let start = Instant::now();
    for n in 0..sent {
        while received.is_empty() {
            pair.far.1[0].receive(&pair.pool, &mut received);
            assert!(start.elapsed() < PATIENCE);
        }
        assert_eq!(content(&received.remove(0)), tcp[n % 2]);
    }
    pair.close();
}

fn jumbo_frames_arrive_as_chains_where_a_driver_makes_them(bench: &Bench) {
    let mut pair = Pair::new(bench, &PortOptions { mtu: Some(9_000), ..PortOptions::default() });
    assert_eq!(pair.near.0.mtu().unwrap(), 9_000);
    for length in [60, 2_048, 2_049, 9_013, 9_014] {
        let packet = pair.pool.packet(&frame(length, length as u8)).unwrap();
        assert_eq!(pair.far.2[0].send(&mut burst([packet])), 1);
        let received = next(&mut pair.near, &pair.pool);
        assert_eq!(content(&received), frame(length, length as u8));
        assert!(received.headroom() >= 64, "{} bytes for another header", received.headroom());
        pair.send(received);
        assert_eq!(content(&pair.receive()), frame(length, length as u8));
    }
    pair.close();
}

fn memif_carries_jumbo_frames(bench: &Bench) {
    let scratch = Scratch::new("memif");
    let pool = bench.pool(8_192);
    let options = PortOptions { mtu: Some(9_000), ..PortOptions::default() };
    let socket = format!("socket={},socket-abstract=no", scratch.file("socket").display());
    let mut far = attach_with(bench, &format!("net_memif0,role=server,{socket}"), &pool, &options);
    let mut near = attach_with(bench, &format!("net_memif1,role=client,{socket}"), &pool, &options);
    assert_eq!(near.0.mtu().unwrap(), 9_000);
    let start = Instant::now();
    while !(near.0.link_up() && far.0.link_up()) {
        assert!(start.elapsed() < PATIENCE);
        thread::yield_now();
    }
    for length in [60, 2_049, 9_014] {
        let packet = pieces(&pool, &frame(length, 1), &[20, 50]);
        assert_eq!(near.2[0].send(&mut burst([packet])), 1);
        let received = next(&mut far, &pool);
        assert_eq!(content(&received), frame(length, 1));
        assert!(received.headroom() >= 64);
    }
    near.0.close(near.1, near.2).unwrap();
    far.0.close(far.1, far.2).unwrap();
}
