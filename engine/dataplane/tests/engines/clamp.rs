//! The MSS clamp: a SYN offers no more than comes through on the way back, as far as either engine knows it.

use crate::oracle;
use crate::world::*;
use etherparse::{PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice};
use overlane_dataplane::address::Layout;
use overlane_dataplane::path_mtu::PathMtus;
use std::sync::Arc;

const LAYOUT: Layout = Layout::Slot64;

/// A SYN from Alice to Bob that offers what her own link carries.
fn syn() -> Vec<u8> {
    let macs = (ALICE.mac().0, BOB.dummy().0);
    let builder = PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv4(ALICE.ipv4.octets(), BOB.ipv4.octets(), 64)
        .tcp(40_000, 80, 1, 0xffff)
        .syn()
        .options(&[TcpOptionElement::MaximumSegmentSize(NODE_MTU - 40)])
        .unwrap();
    let mut frame = Vec::new();
    builder.write(&mut frame, &[]).unwrap();
    frame
}

/// The MSS of a SYN that Bob receives when the engines know these path MTUs to each other.
fn offered(clamp: bool, paths: [Option<u16>; 2]) -> u16 {
    let mut engines = world(LAYOUT);
    for (host, path) in paths.into_iter().enumerate() {
        let known = path.map(|mtu| (prefix(LAYOUT, 1 - host), mtu));
        engines[host].snapshot.path_mtus = Arc::new(known.into_iter().collect::<PathMtus>());
        engines[host].snapshot.translate.clamp_tcp_mss = clamp;
    }
    let [mut here, mut there] = engines;
    let sent = here.receive(ALICE.port, &syn()).only().bytes;
    let received = there.receive(UPLINK, &oracle::routed(&sent, &BOB)).only().bytes;

    let sliced = SlicedPacket::from_ethernet(&received).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("{received:?}") };
    let (source, destination) = (ALICE.ipv4.octets(), BOB.ipv4.octets());
    assert_eq!(tcp.calc_checksum_ipv4(source, destination).unwrap(), tcp.checksum());
    let offers = tcp.options_iterator().filter_map(|option| match option {
        Ok(TcpOptionElement::MaximumSegmentSize(size)) => Some(size),
        _ => None,
    });
    offers.last().unwrap()
}

#[test]
fn a_syn_offers_what_the_way_back_carries_as_either_engine_knows_it() {
    assert_eq!(offered(true, [None, None]), UPLINK_MTU - 60);
    // Paths are mostly the same both ways: the sender's engine takes what it knows of the other way.
    assert_eq!(offered(true, [Some(1400), None]), 1340);
    // The receiver's engine knows the very way.
    assert_eq!(offered(true, [None, Some(1300)]), 1240);
    assert_eq!(offered(true, [Some(1400), Some(1300)]), 1240);
    assert_eq!(offered(true, [Some(1300), Some(1400)]), 1240);
}

#[test]
fn a_syn_is_left_alone_unless_the_clamp_is_on() {
    assert_eq!(offered(false, [Some(1400), Some(1300)]), NODE_MTU - 40);
}
