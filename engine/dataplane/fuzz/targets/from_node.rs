//! IPv4 from a node, over the substrate, to a node of another host, or to one beside it: anything but a panic, a leak, or
//! a packet that is not accounted for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use overlane_dataplane_fuzz::{ALICE, ANNA, BOB, Host, input};

fuzz_target!(|data: &[u8]| {
    let (mut here, mut there) = (Host::new(0), Host::new(1));
    let frames: Vec<_> = input::packets(data)
        .map(|(packet, cut)| {
            let to = if cut & 1 == 0 { BOB } else { ANNA };
            let to = input::receiver(cut, to);
            (input::from_node(packet, (ALICE, to), cut & 2 != 0), cut)
        })
        .collect();
    let crossing = here.receive(false, &frames);
    let crossing: Vec<_> = crossing.into_iter().map(|frame| (frame, usize::MAX)).collect();
    for frame in &crossing {
        // What goes onto the substrate is IPv6 of Alice's, as long as it says, and no router need cut it.
        assert!(frame.0.len() <= 14 + 1500);
        let length = u16::from_be_bytes([frame.0[18], frame.0[19]]);
        assert_eq!(frame.0.len(), 14 + 40 + usize::from(length));
        assert_eq!(frame.0[22..38], overlane_dataplane_fuzz::substrate(ALICE).octets());
    }
    there.receive(true, &crossing);
    here.settle();
    there.settle();
});
