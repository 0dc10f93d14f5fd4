//! ICMP errors both ways, whose quoted packets have addresses that pass, and anything else that the fuzzer likes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use overlane_dataplane_fuzz::{ALICE, BOB, Host, input, substrate};

fuzz_target!(|data: &[u8]| {
    let (mut here, mut there) = (Host::new(0), Host::new(1));
    let mut from_node = Vec::new();
    let mut from_substrate = Vec::new();
    for (message, cut) in input::packets(data) {
        if cut & 1 == 0 {
            let mut packet = [&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1][..], &[0; 10], message].concat();
            input::put(&mut packet, 28 + 12, &BOB.octets());
            input::put(&mut packet, 28 + 16, &ALICE.octets());
            from_node.push((input::from_node(&packet, (ALICE, BOB), false), cut));
        } else {
            let mut packet = [&[0x60, 0, 0, 0, 0, 0, 58, 64][..], &[0; 32], message].concat();
            input::put(&mut packet, 48 + 8, &substrate(BOB).octets());
            input::put(&mut packet, 48 + 24, &substrate(ALICE).octets());
            let router = core::net::Ipv6Addr::new(0xfd00, 0, 0, 0xff, 0, 0, 0, 1);
            let from = if cut & 2 == 0 { substrate(ALICE) } else { router };
            from_substrate.push((input::from_substrate(&packet, 1, (from.octets(), BOB), false), cut));
        }
    }
    let crossing = here.receive(false, &from_node);
    let crossing: Vec<_> = crossing.into_iter().map(|frame| (frame, usize::MAX)).collect();
    there.receive(true, &crossing);
    there.receive(true, &from_substrate);
    here.settle();
    there.settle();
});
