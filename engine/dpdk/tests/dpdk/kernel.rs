//! DPDK's drivers for interfaces of the kernel, which need root.

use std::time::Instant;

use arrayvec::ArrayVec;
use overlane_dataplane::packet::{Checksum, Offload, Packet, Segmentation, SegmentationKind};
use overlane_dpdk::{BURST, Interface, Mbuf, Mempool, MempoolOptions, RxQueue};

use crate::ethdev::{attach, burst};
use crate::mbuf::content;
use crate::net::{Namespace, PATIENCE, Peer, frame, tcp_frame, udp_frame};
use crate::{Bench, Case, cases};

pub(crate) const CASES: &[Case] = cases![
    net_tap_carries_frames_and_completes_checksums,
    net_tap_cuts_tcp_for_us,
    af_xdp_carries_frames_on_a_veth_pair,
];

/// The next frame of ours.
fn next(rx: &mut RxQueue, pool: &Mempool, length: usize) -> Mbuf {
    let start = Instant::now();
    let mut packets: ArrayVec<Mbuf, BURST> = ArrayVec::new();
    while start.elapsed() < PATIENCE {
        rx.receive(pool, &mut packets);
        if let Some(packet) = packets.drain(..).find(|packet| packet.len() == length) {
            return packet;
        }
    }
    panic!("no frame of {length} bytes came in {PATIENCE:?}");
}

fn net_tap_carries_frames_and_completes_checksums(bench: &Bench) {
    let pool = bench.pool(4_096);
    Namespace::new().enter(|| {
        let (port, mut rx, mut tx) = attach(bench, "net_tap0,iface=tapped", &pool);
        assert!(port.link_up());
        let peer = Peer::open("tapped", false);
        peer.send(&frame(500, 1));
        assert_eq!(content(&next(&mut rx[0], &pool, 500)), frame(500, 1));

        assert!(port.capabilities().checksum);
        let (partial, whole) = udp_frame(&[7; 333]);
        let mut packet = pool.packet(&partial).unwrap();
        packet.set_offload(Offload {
            checksum: Checksum::Partial { start: 34, offset: 6 },
            segmentation: None,
        });
        assert_eq!(tx[0].send(&mut burst([packet, pool.packet(&frame(60, 2)).unwrap()])), 2);
        assert_eq!([peer.receive(), peer.receive()], [whole, frame(60, 2)]);
        port.close(rx, tx).unwrap();
    });
}

fn net_tap_cuts_tcp_for_us(bench: &Bench) {
    let pool = bench.pool(4_096);
    Namespace::new().enter(|| {
        let (port, rx, mut tx) = attach(bench, "net_tap0,iface=tapped", &pool);
        let peer = Peer::open("tapped", false);
        assert!(port.capabilities().tcp_segmentation);
        let payload: Vec<u8> = (0..2_500_u32).map(|n| n as u8).collect();
        let mut packet = pool.packet(&tcp_frame(&payload)).unwrap();
        packet.set_offload(Offload {
            checksum: Checksum::Partial { start: 34, offset: 16 },
            segmentation: Some(Segmentation { kind: SegmentationKind::Tcp { ecn: false }, size: 1_000 }),
        });
        assert_eq!(tx[0].send(&mut burst([packet])), 1);
        let frames = [peer.receive(), peer.receive(), peer.receive()];
        assert_eq!(frames.concat().len(), 3 * 54 + payload.len());
        assert!(frames.iter().flat_map(|frame| &frame[54..]).eq(&payload));
        assert!(frames.iter().all(|frame| crate::net::checksums_are_right(frame)));
        port.close(rx, tx).unwrap();
    });
}

fn af_xdp_carries_frames_on_a_veth_pair(bench: &Bench) {
    // A pool of its own, as whoever uses the driver must give it: up to DPDK 22.11 at least, it does not return the
    // buffers that wait for packets when it is closed.
    let options = MempoolOptions { size: 8_192, data_room: 2_048, cache: 0 };
    let pool = Mempool::new(&bench.eal, "af-xdp", &options).unwrap();
    let namespace = Namespace::with_veth();
    namespace.ip("link set near mtu 1400");
    namespace.enter(|| {
        let (port, mut rx, mut tx) = attach(bench, "net_af_xdp0,iface=near", &pool);
        let peer = Peer::open("far", false);
        let interface = Interface::by_name("near").unwrap();
        assert_eq!((port.interface(), port.mtu().unwrap()), (Some(interface.index), 1_400));
        peer.send(&frame(500, 1));
        assert_eq!(content(&next(&mut rx[0], &pool, 500)), frame(500, 1));
        assert_eq!(tx[0].send(&mut burst([pool.packet(&frame(60, 2)).unwrap()])), 1);
        assert_eq!(peer.receive(), frame(60, 2));

        // A checksum that the sender's kernel left unfinished is known by its value, a finished one is left alone.
        let (partial, whole) = udp_frame(&[7; 333]);
        let unfinished = Checksum::Partial { start: 34, offset: 6 };
        for (sent, checksum) in [(&partial, unfinished), (&whole, Checksum::Complete)] {
            peer.send(sent);
            assert_eq!(next(&mut rx[0], &pool, sent.len()).offload().checksum, checksum);
        }
        port.close(rx, tx).unwrap();
    });
}
