//! Frames of up to 9,000 bytes, and packets in segments of any length, on interfaces of the kernel, which needs root.

use std::time::Instant;

use arrayvec::ArrayVec;
use overlane_dataplane::packet::{Checksum, Offload, Packet, Segmentation, SegmentationKind};
use overlane_dpdk::{
    BURST, Devargs, Interface, Mbuf, Mempool, MempoolOptions, PacketOptions, PacketPort, Port, PortError,
    PortOptions, RxQueue,
};

use crate::ethdev::{attach, attach_with, burst};
use crate::mbuf::{bytes, content, pieces};
use crate::net::{Namespace, PATIENCE, Peer, frame, tcp_frame, tcp_frame_v6};
use crate::{Bench, Case, cases};

pub(crate) const CASES: &[Case] = cases![
    a_packet_port_sends_what_lies_in_segments_of_any_length,
    a_packet_port_has_tcp_cut_wherever_its_headers_lie,
    a_packet_ports_ring_has_slots_for_jumbo_frames,
    af_packet_carries_jumbo_frames_from_buffers_that_hold_them,
    af_packet_says_what_its_buffers_are_too_small_for,
    af_xdp_gets_frames_in_one_segment,
];

const JUMBO: [usize; 4] = [60, 2_049, 8_993, 9_014];

fn large_veth() -> Namespace {
    let namespace = Namespace::with_veth();
    namespace.ip("link set near mtu 9000");
    namespace.ip("link set far mtu 9000");
    namespace
}

/// The next frame of `length` bytes.
fn next(rx: &mut RxQueue, pool: &Mempool, length: usize) -> Mbuf {
    let (start, mut packets) = (Instant::now(), ArrayVec::<Mbuf, BURST>::new());
    while start.elapsed() < PATIENCE {
        rx.receive(pool, &mut packets);
        if let Some(packet) = packets.drain(..).find(|packet| packet.len() == length) {
            return packet;
        }
    }
    panic!("no frame of {length} bytes came in {PATIENCE:?}");
}

fn open(interface: &str) -> (PacketPort, Vec<RxQueue>, Vec<overlane_dpdk::TxQueue>) {
    let index = Interface::by_name(interface).unwrap().index;
    PacketPort::open(index, &PacketOptions::default()).unwrap()
}

fn a_packet_port_sends_what_lies_in_segments_of_any_length(bench: &Bench) {
    let pool = bench.pool(1_024);
    large_veth().enter(|| {
        let ((port, mut rx, mut tx), far) = (open("near"), Peer::open("far", false));
        for (n, cuts) in
            [&[1][..], &[13, 14, 15], &[2_000, 2_001, 4_049], &[14, 54, 74, 4_000]].into_iter().enumerate()
        {
            let bytes = frame(9_014, n as u8);
            assert_eq!(tx[0].send(&mut burst([pieces(&pool, &bytes, cuts)])), 1);
            assert_eq!(far.receive(), bytes);
            far.send(&bytes);
            let received = next(&mut rx[0], &pool, bytes.len());
            assert_eq!(content(&received), bytes);
            assert!(received.headroom() >= 64, "{} bytes for another header", received.headroom());
        }
        port.close(rx, tx).unwrap();
    });
}

fn a_packet_port_has_tcp_cut_wherever_its_headers_lie(bench: &Bench) {
    let pool = bench.pool(1_024);
    large_veth().enter(|| {
        let ((port, rx, mut tx), far) = (open("near"), Peer::open("far", true));
        for (tcp, start) in [(tcp_frame(&bytes(20_000)), 34_u16), (tcp_frame_v6(&bytes(20_000)), 54)] {
            let segmentation = Some(Segmentation { kind: SegmentationKind::Tcp { ecn: false }, size: 1_000 });
            let checksum = Checksum::Partial { start, offset: 16 };
            for cut in 1..usize::from(start) + 25 {
                let mut packet = pieces(&pool, &tcp, &[cut, cut + 3]);
                packet.set_offload(Offload { checksum, segmentation });
                assert_eq!(tx[0].send(&mut burst([packet])), 1, "{cut}");
                let received = far.receive();
                // The virtio header: a size of 1,000, and behind it the frame.
                assert_eq!((&received[4..6], &received[10..]), (&1_000_u16.to_ne_bytes()[..], &tcp[..]));
            }
        }
        assert_eq!(port.stats().tx_refused, 0);
        port.close(rx, tx).unwrap();
    });
}

fn a_packet_ports_ring_has_slots_for_jumbo_frames(bench: &Bench) {
    let pool = bench.pool(2_048);
    large_veth().enter(|| {
        // With next to no room in the socket's queue, where frames larger than a slot wait.
        let options = PacketOptions { socket_bytes: 1 << 16, ..PacketOptions::default() };
        let index = Interface::by_name("near").unwrap().index;
        let (port, mut rx, tx) = PacketPort::open(index, &options).unwrap();
        let far = Peer::open("far", false);
        for n in 0..100 {
            far.send(&frame(9_014, n));
        }
        let mut received = Vec::new();
        let mut burst = ArrayVec::<Mbuf, BURST>::new();
        while rx[0].receive(&pool, &mut burst) > 0 {
            received.extend(burst.drain(..));
        }
        assert_eq!(received.len(), 100);
        for (n, packet) in received.iter().enumerate() {
            assert_eq!(content(packet), frame(9_014, n as u8));
        }
        assert_eq!(port.stats().rx_errors, 0);
        port.close(rx, tx).unwrap();
    });
}

fn af_packet_carries_jumbo_frames_from_buffers_that_hold_them(bench: &Bench) {
    let namespace = large_veth();
    namespace.enter(|| {
        let devargs: Devargs = "net_af_packet0,iface=near".parse().unwrap();
        let data_room = Port::data_room(&devargs);
        assert!((9_014..10_000).contains(&data_room), "{data_room}");
        let pool = bench.pool_with(&MempoolOptions { size: 1_024, data_room, cache: 32 });
        let small = bench.pool(128);
        let (port, mut rx, mut tx) = attach(bench, devargs.as_str(), &pool);
        assert!((9_000..9_200).contains(&port.mtu_max()), "{}", port.mtu_max());
        let far = Peer::open("far", false);
        for length in JUMBO {
            let bytes = frame(length, length as u8);
            far.send(&bytes);
            let received = next(&mut rx[0], &pool, length);
            assert_eq!(content(&received), bytes);
            assert!(received.headroom() >= 64, "{} bytes for another header", received.headroom());
            // From its own buffers, and from a chain of others.
            for packet in [received, small.packet(&bytes).unwrap()] {
                assert_eq!(tx[0].send(&mut burst([packet])), 1);
                assert_eq!(far.receive(), bytes);
            }
        }
        port.close(rx, tx).unwrap();

        // Slots of the operator's own are left alone, and bound what passes.
        let given: Devargs = "net_af_packet0,iface=near,framesz=4096,blocksz=4096".parse().unwrap();
        assert_eq!(Port::data_room(&given), 4_064);
        let refused = Port::attach(&bench.eal, &given, &pool, &PortOptions::default());
        assert!(matches!(refused, Err(PortError::Option { field: "mtu", value: 9_000, .. })), "{refused:?}");
        namespace.ip("link set near mtu 4000");
        let (port, rx, tx) = attach(bench, given.as_str(), &pool);
        assert_eq!(port.mtu_max(), 4_012);
        port.close(rx, tx).unwrap();
    });
}

fn af_packet_says_what_its_buffers_are_too_small_for(bench: &Bench) {
    large_veth().enter(|| {
        let pool = bench.pool(128);
        let devargs = "net_af_packet0,iface=near".parse().unwrap();
        let refused = Port::attach(&bench.eal, &devargs, &pool, &PortOptions::default()).unwrap_err();
        assert!(refused.to_string().contains("buffers of 2048 bytes"), "{refused}");
    });
}

fn af_xdp_gets_frames_in_one_segment(bench: &Bench) {
    // A pool that it may keep buffers of.
    let options = MempoolOptions { size: 8_192, data_room: 2_048, cache: 0 };
    let own = Mempool::new(&bench.eal, "af-xdp-segments", &options).unwrap();
    let pool = bench.pool(1_024);
    Namespace::with_veth().enter(|| {
        let (port, mut rx, mut tx) =
            attach_with(bench, "net_af_xdp0,iface=near", &own, &PortOptions::default());
        assert_eq!(port.mtu_max(), 2_022);
        let far = Peer::open("far", false);
        let bytes = frame(1_514, 1);
        for cuts in [&[1][..], &[14, 54, 74], &[1_000, 1_001, 1_002]] {
            assert_eq!(tx[0].send(&mut burst([pieces(&pool, &bytes, cuts)])), 1);
            assert_eq!(far.receive(), bytes);
        }
        far.send(&bytes);
        let received = next(&mut rx[0], &own, 1_514);
        assert!(received.headroom() >= 64, "{} bytes for another header", received.headroom());
        drop(received);
        assert_eq!(
            (tx[0].send(&mut burst([pool.packet(&frame(3_000, 2)).unwrap()])), port.stats().tx_refused),
            (0, 1)
        );
        port.close(rx, tx).unwrap();
    });
}
