//! IPv6 from the substrate, from a node's verified address or a router's, to a node.
#![no_main]

use libfuzzer_sys::fuzz_target;
use overlane_dataplane_fuzz::{ALICE, BOB, Host, input, substrate};

fuzz_target!(|data: &[u8]| {
    let mut there = Host::new(1);
    let frames: Vec<_> = input::packets(data)
        .map(|(packet, cut)| {
            let mut from = substrate(ALICE).octets();
            if cut & 1 != 0 {
                // Whatever it says, mostly no node's.
                let own = packet.get(8..24).and_then(|bytes| bytes.first_chunk().copied());
                from = own.unwrap_or(from);
            }
            let to = input::receiver(cut, BOB);
            (input::from_substrate(packet, 1, (from, to), cut & 2 != 0), cut)
        })
        .collect();
    there.receive(true, &frames);
    there.settle();
});
